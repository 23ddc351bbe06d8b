// Z-Image: a single-stream rectified-flow transformer over image and caption tokens.
// After Tongyi-MAI/Z-Image src/zimage/transformer.py and huggingface/diffusers src/diffusers/models/transformers/transformer_z_image.py (Apache-2.0).
// Fields are spelled as the diffusers checkpoint spells them, so `layers.0.attention.to_q.weight` is both a weight's name and the way to it.
// Shapes: b batch, l tokens, d width, n heads, k head width.
import {
  type AttentionFunction,
  type BlockRun,
  fusedAttention,
  LayerNorm,
  Linear,
  Module,
  mergeHeads,
  type Parameter,
  param,
  patchify,
  RmsNorm,
  type RopeTable,
  repeat,
  ropeTables,
  rotatedHeads,
  runBlocks,
  type Sequential,
  sequential,
  silu,
  splitHeads,
  timestepEmbedding,
  unpatchify,
} from "@wick/nn";
import { cat, type Device, epilogue, hold, ShapeError, scope, stack, type Tensor } from "@wick/tensor";

/** Sizes of the transformer, as in its config.json. */
export interface ZImageConfig {
  /** Of the tokens. */
  readonly width: number;
  /** Attention heads. */
  readonly heads: number;
  /** Blocks over image and caption together. */
  readonly layers: number;
  /** Blocks over each alone, before that. */
  readonly refinerLayers: number;
  /** Of the feed-forward's hidden layers. */
  readonly ffnWidth: number;
  /** Of the autoencoder. */
  readonly latentChannels: number;
  /** Side of an image token, in latent pixels. */
  readonly patch: number;
  /** Width of the text encoder's hidden states. */
  readonly captionWidth: number;
  /** Width of the timestep condition. */
  readonly conditionWidth: number;
  /** Of the timestep embedder's hidden layer. */
  readonly timestepWidth: number;
  /** Factor on t before the sinusoid. */
  readonly timestepScale: number;
  /** Head width given to the axes caption position, row, column. */
  readonly ropeAxes: readonly number[];
  /** Positions each axis has room for. */
  readonly ropeLengths: readonly number[];
  /** Base of the rotary frequencies. */
  readonly ropeTheta: number;
  /** Of the RMS norms. */
  readonly eps: number;
}

/** The attention branch of a block: ZImageAttention, or a module of a variant's own, whose fields are its weights. */
export interface ZImageAttentionModule extends Module {
  /** x [b, l, d] → [b, l, d]; keys beyond `lengths` [b] are padding between batch items. */
  forward(x: Tensor, rope: RopeTable, lengths?: Tensor): Tensor;
}

/** Parts a researcher may replace. */
export interface ZImageParts {
  /** What attends in every block; the fused kernel by default. */
  readonly attention?: AttentionFunction;
  /** Another attention in the block at `path`, such as "layers.3": a function of q, k, v, or a whole module; undefined keeps the usual one. */
  readonly attentionAt?: (path: string) => AttentionFunction | ZImageAttentionModule | undefined;
}

/** Sequences are filled up to multiples of this with learned, attended pad tokens. */
const sequenceMultiple = 32;
const roundUp = (n: number): number => Math.ceil(n / sequenceMultiple) * sequenceMultiple;

/** Self-attention with RMS norms of queries and keys per head, and rotary positions. */
export class ZImageAttention extends Module {
  /** Queries. */
  readonly to_q: Linear;
  /** Keys. */
  readonly to_k: Linear;
  /** Values. */
  readonly to_v: Linear;
  /** Back from the heads. */
  readonly to_out: readonly [Linear];
  /** Of queries, per head. */
  readonly norm_q: RmsNorm;
  /** Of keys, per head. */
  readonly norm_k: RmsNorm;
  readonly #heads: number;
  readonly #attention: AttentionFunction;
  constructor({ width, heads, eps }: ZImageConfig, attention: AttentionFunction = fusedAttention) {
    super();
    const linear = () => new Linear(width, width, { bias: false });
    this.to_q = linear();
    this.to_k = linear();
    this.to_v = linear();
    this.to_out = [linear()];
    this.norm_q = new RmsNorm(width / heads, { eps });
    this.norm_k = new RmsNorm(width / heads, { eps });
    this.#heads = heads;
    this.#attention = attention;
  }
  /** x [b, l, d] → q, k, v [b, n, l, k]; q and k normed and rotated. */
  project(x: Tensor, rope: RopeTable): readonly [q: Tensor, k: Tensor, v: Tensor] {
    const options = { heads: this.#heads, rope, interleaved: true };
    const q = rotatedHeads([{ x: this.to_q.forward(x), norm: this.norm_q }], options);
    const k = rotatedHeads([{ x: this.to_k.forward(x), norm: this.norm_k }], options);
    return [q, k, splitHeads(this.to_v.forward(x), this.#heads)];
  }
  /** x [b, l, d] → the heads' results side by side [b, l, d], before the projection back. */
  attend(x: Tensor, rope: RopeTable, lengths?: Tensor): Tensor {
    const [q, k, v] = this.project(x, rope);
    return mergeHeads(this.#attention(q, k, v, { lengths }));
  }
  /** x [b, l, d] → [b, l, d]; keys beyond `lengths` [b] are padding between batch items. */
  forward(x: Tensor, rope: RopeTable, lengths?: Tensor): Tensor {
    return this.to_out[0].forward(this.attend(x, rope, lengths));
  }
}

/** SwiGLU: w2(silu(w1 x) · w3 x). */
export class ZImageFeedForward extends Module {
  /** Goes through SiLU. */
  readonly w1: Linear;
  /** Back to the block's width. */
  readonly w2: Linear;
  /** Multiplied by the gate. */
  readonly w3: Linear;
  constructor({ width, ffnWidth }: ZImageConfig) {
    super();
    this.w1 = new Linear(width, ffnWidth, { bias: false });
    this.w2 = new Linear(ffnWidth, width, { bias: false });
    this.w3 = new Linear(width, ffnWidth, { bias: false });
  }
  /** x [b, l, d] → [b, l, d] */
  forward(x: Tensor): Tensor {
    const up = this.w3.forward(x);
    return this.w2.forward(
      this.w1.forward(
        x,
        epilogue((g, u) => g.silu().mul(u), up),
      ),
    );
  }
}

/** Sandwich norm (before and after each branch); scale and gate from the condition, without shift. */
export class ZImageBlock extends Module {
  /** The attention branch. */
  readonly attention: ZImageAttentionModule;
  /** The feed-forward branch. */
  readonly feed_forward: ZImageFeedForward;
  /** Before attention. */
  readonly attention_norm1: RmsNorm;
  /** After attention, before the gate. */
  readonly attention_norm2: RmsNorm;
  /** Before the feed-forward. */
  readonly ffn_norm1: RmsNorm;
  /** After the feed-forward, before the gate. */
  readonly ffn_norm2: RmsNorm;
  /** Absent in the context refiner, whose gates and scales are 1. */
  readonly adaLN_modulation: readonly [Linear] | undefined;
  constructor(cfg: ZImageConfig, { modulated, attention }: { modulated: boolean; attention: AttentionFunction | ZImageAttentionModule }) {
    super();
    const norm = () => new RmsNorm(cfg.width, { eps: cfg.eps });
    this.attention = typeof attention === "function" ? new ZImageAttention(cfg, attention) : attention;
    this.feed_forward = new ZImageFeedForward(cfg);
    this.attention_norm1 = norm();
    this.attention_norm2 = norm();
    this.ffn_norm1 = norm();
    this.ffn_norm2 = norm();
    this.adaLN_modulation = modulated ? [new Linear(cfg.conditionWidth, 4 * cfg.width)] : undefined;
  }

  /** x [b, l, d], condition [b or 1, conditionWidth] → [b, l, d] */
  forward(x: Tensor, rope: RopeTable, { condition, lengths }: { condition?: Tensor; lengths?: Tensor | undefined } = {}): Tensor {
    if (!this.adaLN_modulation || !condition) {
      const attended = x.add(this.attention_norm2.forward(this.attention.forward(this.attention_norm1.forward(x), rope, lengths)));
      return attended.add(this.ffn_norm2.forward(this.feed_forward.forward(this.ffn_norm1.forward(attended))));
    }
    const [scaleA, gateA, scaleF, gateF] = this.adaLN_modulation[0].forward(condition).unsqueeze(1).chunk(4, -1);
    const scaled = (scale: Tensor) => epilogue((y, s) => y.mul(s.add(1)), scale);
    const gated = (gate: Tensor, residual: Tensor) => epilogue((y, g, r) => y.mul(g.tanh()).add(r), gate, residual);
    const attention = this.attention.forward(this.attention_norm1.forward(x, scaled(scaleA)), rope, lengths);
    const attended = this.attention_norm2.forward(attention, gated(gateA, x));
    const fed = this.feed_forward.forward(this.ffn_norm1.forward(attended, scaled(scaleF)));
    return this.ffn_norm2.forward(fed, gated(gateF, attended));
  }
}

/** Tokens to velocities of their patches. */
export class ZImageFinalLayer extends Module {
  /** Before the projection. */
  readonly norm_final: LayerNorm;
  /** To the values of a patch. */
  readonly linear: Linear;
  /** Scale from the condition. */
  readonly adaLN_modulation: Sequential;
  constructor({ width, conditionWidth, latentChannels, patch }: ZImageConfig) {
    super();
    this.norm_final = new LayerNorm(width, { eps: 1e-6, affine: false });
    this.linear = new Linear(width, latentChannels * patch * patch);
    this.adaLN_modulation = sequential(silu, new Linear(conditionWidth, width));
  }
  /** x [b, l, d], condition [b or 1, conditionWidth] → [b, l, patch² · channels] */
  forward(x: Tensor, condition: Tensor): Tensor {
    const scale = this.adaLN_modulation.forward(condition).unsqueeze(1);
    return this.linear.forward(
      this.norm_final.forward(
        x,
        epilogue((y, s) => y.mul(s.add(1)), scale),
      ),
    );
  }
}

/** Sinusoid, Linear, SiLU, Linear. */
export class TimestepEmbedder extends Module {
  /** Linear, SiLU, Linear. */
  readonly mlp: Sequential;
  readonly #cfg: ZImageConfig;
  constructor(cfg: ZImageConfig) {
    super();
    this.mlp = sequential(new Linear(256, cfg.timestepWidth), silu, new Linear(cfg.timestepWidth, cfg.conditionWidth));
    this.#cfg = cfg;
  }
  /** t [b] in 0…1 (1 is clean) → [b, conditionWidth] */
  forward(device: Device, t: readonly number[]): Tensor {
    return this.mlp.forward(timestepEmbedding(device, t, 256, { scale: this.#cfg.timestepScale }));
  }
}

/** Throws ShapeError when captions of this many tokens, or image tokens in these rows and columns, have no positions left. */
export function checkZImagePositions({ ropeLengths }: ZImageConfig, captionTokens: number, rows: number, columns: number): void {
  const axes = [
    ["tokens of a prompt", "use a shorter prompt"],
    ["rows of image tokens", "use a lower picture"],
    ["columns of image tokens", "use a narrower picture"],
  ] as const;
  [roundUp(captionTokens) + 1, rows, columns].forEach((n, axis) => {
    const [what, advice] = axes[axis]!;
    if (n > ropeLengths[axis]!)
      throw new ShapeError("ZImage.context", `the model has positions for ${ropeLengths[axis]} ${what}, ${n} are needed; ${advice}`);
  });
}

/** What does not change while one image is denoised: refined captions and position tables. Owned by the caller (`hold`). */
export interface ZImageContext {
  /** [b, lCaption, d], each caption filled up to a multiple of 32, then to the longest. */
  readonly captions: Tensor;
  /** [b] valid tokens of the joined sequence, or undefined when all are equal. */
  readonly lengths: Tensor | undefined;
  /** Tables for the image tokens and for [image, caption]. */
  readonly imageRope: RopeTable;
  /** Over [image, caption]. */
  readonly jointRope: RopeTable;
  /** Image tokens per column. */
  readonly rows: number;
  /** Image tokens per row. */
  readonly columns: number;
}

/** The Z-Image transformer, named as its authors name it. */
export class ZImage extends Module {
  /** Patches to tokens, by patch size. */
  readonly all_x_embedder: {
    /** Patches of 2 x 2 latent pixels, one frame. */
    readonly "2-1": Linear;
  };
  /** Tokens to velocities, by patch size. */
  readonly all_final_layer: {
    /** Patches of 2 x 2 latent pixels, one frame. */
    readonly "2-1": ZImageFinalLayer;
  };
  /** Blocks over image tokens alone. */
  readonly noise_refiner: readonly ZImageBlock[];
  /** Blocks over caption tokens alone, without modulation. */
  readonly context_refiner: readonly ZImageBlock[];
  /** Time to the condition. */
  readonly t_embedder: TimestepEmbedder;
  /** Hidden states of the text encoder to tokens. */
  readonly cap_embedder: Sequential;
  /** Fills image sequences. */
  readonly x_pad_token: Parameter;
  /** Fills captions. */
  readonly cap_pad_token: Parameter;
  /** Blocks over both. */
  readonly layers: readonly ZImageBlock[];
  readonly #cfg: ZImageConfig;

  constructor(cfg: ZImageConfig, { attention = fusedAttention, attentionAt }: ZImageParts = {}) {
    super();
    const blocks = (name: "noise_refiner" | "context_refiner" | "layers", count: number) =>
      repeat(count, (i) => {
        const own = attentionAt?.(`${name}.${i}`);
        return new ZImageBlock(cfg, { modulated: name !== "context_refiner", attention: own ?? attention });
      });
    this.all_x_embedder = { "2-1": new Linear(cfg.latentChannels * cfg.patch ** 2, cfg.width) };
    this.all_final_layer = { "2-1": new ZImageFinalLayer(cfg) };
    this.noise_refiner = blocks("noise_refiner", cfg.refinerLayers);
    this.context_refiner = blocks("context_refiner", cfg.refinerLayers);
    this.t_embedder = new TimestepEmbedder(cfg);
    this.cap_embedder = sequential(new RmsNorm(cfg.captionWidth, { eps: cfg.eps }), new Linear(cfg.captionWidth, cfg.width));
    this.x_pad_token = param(1, cfg.width);
    this.cap_pad_token = param(1, cfg.width);
    this.layers = blocks("layers", cfg.layers);
    this.#cfg = cfg;
  }
  /** The sizes it was made with. */
  get config(): ZImageConfig {
    return this.#cfg;
  }
  /** What `run` and `runContext` pause before, in order of the checkpoint. */
  get blocks(): readonly ZImageBlock[] {
    return [...this.noise_refiner, ...this.context_refiner, ...this.layers];
  }
  /** What quantized releases keep in high precision (city96/ComfyUI-GGUF tools/convert.py). */
  override get highPrecision(): readonly string[] {
    return ["t_embedder.**", "all_x_embedder.**", "all_final_layer.**", "cap_embedder.**", "context_refiner.**", "noise_refiner.**"];
  }

  /**
   * Embeds and refines the captions and builds the position tables; independent of time, so once per image.
   * captions: one [l, captionWidth] per batch item, of any lengths; size: of the latents.
   */
  context(captions: readonly Tensor[], size: { height: number; width: number }): ZImageContext {
    return runBlocks(this.runContext(captions, size));
  }

  /** `context` that pauses before each block of the context refiner; see runBlocksAsync. */
  *runContext(captions: readonly Tensor[], size: { height: number; width: number }): BlockRun<ZImageContext> {
    const { patch } = this.#cfg;
    const [rows, columns] = [size.height / patch, size.width / patch];
    if (!Number.isInteger(rows) || !Number.isInteger(columns) || captions.length === 0) {
      throw new ShapeError(
        "ZImage.context",
        `needs captions and latents whose sides divide by ${patch}: ${captions.length} captions, ${size.height} x ${size.width}`,
      );
    }
    const filled = captions.map((c) => roundUp(c.dim(0)));
    const longest = Math.max(...filled);
    checkZImagePositions(this.#cfg, longest, rows, columns);
    const { device } = captions[0]!;
    const positions = filled.map((n) => this.#positions(n, longest, rows, columns));
    const rope = (pick: (p: Positions) => number[][]) =>
      ropeTables(device, positions.map(pick), { widths: this.#cfg.ropeAxes, theta: this.#cfg.ropeTheta });
    const unequal = filled.some((n) => n !== longest);
    const lengths = (extra: number) => (unequal ? device.tensor(Int32Array.from(filled, (n) => n + extra)) : undefined);
    using fixed = hold({ rope: rope((p) => p.caption), lengths: lengths(0) });
    using state = hold(scope(() => stack(captions.map((c) => this.#embedCaption(c, longest)))));
    for (const block of this.context_refiner) {
      yield block;
      state.update((x) => block.forward(x, fixed.value.rope, { lengths: fixed.value.lengths }));
    }
    return {
      // A view of its own: `state` lets go of its one.
      captions: state.value.reshape(state.value.shape),
      lengths: lengths(roundUp(rows * columns)),
      imageRope: rope((p) => p.image),
      jointRope: rope((p) => [...p.image, ...p.caption]),
      rows,
      columns,
    };
  }

  /** One caption [l, captionWidth] → [longest, d]: embedded, learned pads to a multiple of 32, zeros beyond. */
  #embedCaption(caption: Tensor, longest: number): Tensor {
    const length = caption.dim(0);
    const embedded = [this.cap_embedder.forward(caption)];
    const pads = roundUp(length) - length;
    if (pads > 0) embedded.push(this.cap_pad_token.to("f32").expand(pads, -1));
    return cat(embedded, 0).pad([0, 0, 0, longest - roundUp(length)]);
  }

  /** Caption token j sits at (1 + j, 0, 0), the image at (caption length + 1, row, column), image pads at the origin. */
  #positions(captionTokens: number, longest: number, rows: number, columns: number): Positions {
    const origin = (n: number) => Array.from({ length: n }, () => [0, 0, 0]);
    const pixels = Array.from({ length: rows * columns }, (_, i) => [captionTokens + 1, Math.floor(i / columns), i % columns]);
    const caption = Array.from({ length: captionTokens }, (_, j) => [1 + j, 0, 0]);
    return {
      image: [...pixels, ...origin(roundUp(pixels.length) - pixels.length)],
      caption: [...caption, ...origin(longest - captionTokens)],
    };
  }

  /** latents [b, c, h, w] at noise level sigma [b] (1 is pure noise) → velocity dx/dsigma [b, c, h, w]. */
  forward(latents: Tensor, sigma: readonly number[], context: ZImageContext): Tensor {
    return runBlocks(this.run(latents, sigma, context));
  }

  /** `forward` that pauses before each block; see runBlocksAsync. */
  *run(latents: Tensor, sigma: readonly number[], context: ZImageContext): BlockRun<Tensor> {
    const { patch } = this.#cfg;
    const { rows, columns } = context;
    // The reference counts time from noise to data. One time for the whole batch is embedded, and modulates, once.
    const time = (sigma.every((s) => s === sigma[0]) ? sigma.slice(0, 1) : sigma).map((s) => Math.fround(1 - s));
    using state = hold(
      scope(() => ({
        condition: this.t_embedder.forward(latents.device, time),
        x: this.#fillImage(this.all_x_embedder["2-1"].forward(patchify(latents, patch, "channels-last"))),
      })),
    );
    for (const block of this.noise_refiner) {
      yield block;
      state.update(({ x, condition }) => ({ condition, x: block.forward(x, context.imageRope, { condition }) }));
    }
    state.update(({ x, condition }) => ({ condition, x: cat([x, context.captions], 1) }));
    for (const block of this.layers) {
      yield block;
      state.update(({ x, condition }) => ({ condition, x: block.forward(x, context.jointRope, { condition, lengths: context.lengths }) }));
    }
    const { x, condition } = state.value;
    const out = this.all_final_layer["2-1"].forward(x.narrow(1, 0, rows * columns), condition);
    // The network predicts data - noise; velocity points the other way.
    return unpatchify(out, patch, "channels-last", { rows, columns }).neg();
  }

  /** x [b, l, d] → [b, l rounded up to 32, d] with the learned pad token. */
  #fillImage(x: Tensor): Tensor {
    const [b, l] = x.dims(3);
    const pads = roundUp(l) - l;
    return pads === 0 ? x : cat([x, this.x_pad_token.to("f32").expand(b, pads, -1)], 1);
  }
}

interface Positions {
  readonly image: number[][];
  readonly caption: number[][];
}
