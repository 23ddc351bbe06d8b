// FLUX.1: a rectified-flow transformer over text and image tokens.
// After black-forest-labs/flux @ 802fb47 src/flux/model.py and src/flux/modules/layers.py (Apache-2.0).
// Fields are spelled as the authors' checkpoint spells them, so `double_blocks.0.img_attn.qkv.weight` is both a weight's name and the way to it.
// Shapes: b batch, l tokens, d width, n heads, k head width.
import {
  type AttentionFunction,
  applyRope,
  type BlockRun,
  fusedAttention,
  gelu,
  joinStreams,
  LayerNorm,
  Linear,
  linearJoined,
  linearRows,
  MlpEmbedder,
  Module,
  mergeHeads,
  RmsNorm,
  type RopeTable,
  repeat,
  ropeTable,
  rotatedHeads,
  runBlocks,
  type Sequential,
  sequential,
  silu,
  splitHeads,
  timestepEmbedding,
} from "@wick/nn";
import { cat, type Device, type Epilogue, epilogue, hold, ShapeError, scope, Tensor } from "@wick/tensor";

/** Sizes of a FLUX.1 transformer. */
export interface FluxConfig {
  /** Features of an image token: 2 x 2 latent pixels, and whatever a variant puts beside them. */
  readonly inChannels: number;
  /** Features that come out per image token. */
  readonly outChannels: number;
  /** Width of the pooled text vector (CLIP). */
  readonly vectorWidth: number;
  /** Width of the text tokens (T5). */
  readonly textWidth: number;
  /** Of the tokens inside. */
  readonly width: number;
  /** Width of the feed-forwards over `width`. */
  readonly mlpRatio: number;
  /** Attention heads. */
  readonly heads: number;
  /** Blocks with weights of their own for text and image. */
  readonly doubleBlocks: number;
  /** Blocks over the joined tokens. */
  readonly singleBlocks: number;
  /** Head width given to the axes image index, row, column; adds up to width / heads. */
  readonly ropeAxes: readonly number[];
  /** Base of the rotary frequencies. */
  readonly ropeTheta: number;
  /** Takes a guidance number (distilled guidance). */
  readonly guidance: boolean;
  /** Of all norms. */
  readonly eps: number;
  /** Of the sinusoidal embedding. */
  readonly timestepWidth: number;
  /** Factor on sigma before the sinusoid. */
  readonly timestepScale: number;
}

/** Parts a researcher may replace. */
export interface FluxParts {
  /** What attends in every block; the fused kernel by default. */
  readonly attention?: AttentionFunction;
  /** Another one in the block at `path`, such as "double_blocks.3"; undefined keeps `attention`. */
  readonly attentionAt?: (path: string) => AttentionFunction | undefined;
}

/** What adaLN does before and after a branch; each [b, 1, d]. */
export interface ShiftScaleGate {
  /** Added after scaling. */
  readonly shift: Tensor;
  /** 1 + scale multiplies the normalised tokens. */
  readonly scale: Tensor;
  /** Multiplies what the branch adds. */
  readonly gate: Tensor;
}
/** Image and text tokens on their way through the double blocks. */
export interface Streams {
  /** [b, lImg, d] */
  readonly img: Tensor;
  /** [b, lTxt, d] */
  readonly txt: Tensor;
}
/** Modulation of one stream. */
export interface StreamModulation {
  /** Around attention. */
  readonly attn: ShiftScaleGate;
  /** Around the feed-forward. */
  readonly mlp: ShiftScaleGate;
}
/** Modulation of both streams. */
export interface DoubleModulation {
  /** Of image tokens. */
  readonly img: StreamModulation;
  /** Of text tokens. */
  readonly txt: StreamModulation;
}
/** Position of one token: image index, row, column. */
export type Position = readonly number[];

/** (1 + scale) · y + shift, fused into the norm before it. */
const modulated = ({ shift, scale }: Omit<ShiftScaleGate, "gate">): Epilogue => epilogue((y, s, t) => y.mul(s.add(1)).add(t), scale, shift);
/** residual + gate · y, fused into the product before it. */
const gated = ({ gate }: ShiftScaleGate, residual: Tensor): Epilogue => epilogue((y, g, x) => x.add(g.mul(y)), gate, residual);
const geluAfter = epilogue((y) => y.gelu());

/** adaLN: shift, scale and gate, once or twice, from the condition vector. */
export class Modulation extends Module {
  /** From the condition vector to all sets at once. */
  readonly lin: Linear;
  readonly #sets: number;
  constructor(width: number, sets: 1 | 2) {
    super();
    this.lin = new Linear(width, 3 * sets * width);
    this.#sets = sets;
  }
  /** vec [b, d] → as many sets as declared; `active` is its SiLU, for callers that have it for many blocks. */
  forward(vec: Tensor, active = vec.silu()): ShiftScaleGate[] {
    const sets: Tensor[] = this.lin.forward(active).unsqueeze(1).chunk(this.#sets, -1);
    return sets.map((set) => {
      const [shift, scale, gate] = set.chunk(3, -1);
      return { shift, scale, gate };
    });
  }
}

/** RMS norm of every head of q and k. */
export class QkNorm extends Module {
  /** Of queries, per head. */
  readonly query_norm: RmsNorm;
  /** Of keys, per head. */
  readonly key_norm: RmsNorm;
  constructor({ width, heads, eps }: FluxConfig) {
    super();
    this.query_norm = new RmsNorm(width / heads, { eps, name: "scale" });
    this.key_norm = new RmsNorm(width / heads, { eps, name: "scale" });
  }
  /** q, k [b, n, l, k] → the same shapes */
  forward(
    q: Tensor,
    k: Tensor,
  ): {
    /** [b, n, l, k] */
    q: Tensor;
    /** [b, n, l, k] */
    k: Tensor;
  } {
    return { q: this.query_norm.forward(q), k: this.key_norm.forward(k) };
  }
}

/** One stream's queries, keys and values [b, l, (q k v)], and the norm of its heads. */
interface Projected {
  readonly qkv: Tensor;
  readonly norm: QkNorm;
}

/** Streams one after another, heads normalised and rotated, attend to each other: → [b, Σ l, (n k)]. */
function attend(attention: AttentionFunction, streams: readonly Projected[], heads: number, rope: RopeTable): Tensor {
  const parts = streams.map(({ qkv, norm }) => [norm, ...qkv.chunk(3, -1)] as const);
  const v = joinStreams(parts.map(([, , , x]) => splitHeads(x, heads)));
  const options = { heads, rope, interleaved: true };
  // A norm that is being captured or patched is called as it stands.
  if (parts.some(([norm]) => norm.forward !== QkNorm.prototype.forward)) {
    const normed = parts.map(([norm, q, k]) => norm.forward(splitHeads(q, heads), splitHeads(k, heads)));
    const turn = (x: readonly Tensor[]): Tensor => applyRope(joinStreams(x), rope, options);
    return mergeHeads(attention(turn(normed.map(({ q }) => q)), turn(normed.map(({ k }) => k)), v));
  }
  const queries = parts.map(([norm, x]) => ({ x, norm: norm.query_norm }));
  const keys = parts.map(([norm, , x]) => ({ x, norm: norm.key_norm }));
  return mergeHeads(attention(rotatedHeads(queries, options), rotatedHeads(keys, options), v));
}

/** Projections and norms of one stream's attention. */
export class SelfAttention extends Module {
  /** Queries, keys and values in one product. */
  readonly qkv: Linear;
  /** Of queries and keys. */
  readonly norm: QkNorm;
  /** Back from the heads. */
  readonly proj: Linear;
  constructor(cfg: FluxConfig) {
    super();
    this.qkv = new Linear(cfg.width, 3 * cfg.width);
    this.norm = new QkNorm(cfg);
    this.proj = new Linear(cfg.width, cfg.width);
  }
}

/** Text and image with weights of their own, attending to each other. */
export class DoubleStreamBlock extends Module {
  /** Modulation of image tokens. */
  readonly img_mod: Modulation;
  /** Before attention. */
  readonly img_norm1: LayerNorm;
  /** Projections of image tokens. */
  readonly img_attn: SelfAttention;
  /** Before the feed-forward. */
  readonly img_norm2: LayerNorm;
  /** Feed-forward of image tokens. */
  readonly img_mlp: Sequential;
  /** Modulation of text tokens. */
  readonly txt_mod: Modulation;
  /** Before attention. */
  readonly txt_norm1: LayerNorm;
  /** Projections of text tokens. */
  readonly txt_attn: SelfAttention;
  /** Before the feed-forward. */
  readonly txt_norm2: LayerNorm;
  /** Feed-forward of text tokens. */
  readonly txt_mlp: Sequential;
  readonly #heads: number;
  readonly #attention: AttentionFunction;

  constructor(cfg: FluxConfig, attention: AttentionFunction = fusedAttention) {
    super();
    const { width, mlpRatio, eps } = cfg;
    const norm = () => new LayerNorm(width, { eps, affine: false });
    const mlp = () => sequential(new Linear(width, width * mlpRatio), gelu, new Linear(width * mlpRatio, width));
    this.img_mod = new Modulation(width, 2);
    this.img_norm1 = norm();
    this.img_attn = new SelfAttention(cfg);
    this.img_norm2 = norm();
    this.img_mlp = mlp();
    this.txt_mod = new Modulation(width, 2);
    this.txt_norm1 = norm();
    this.txt_attn = new SelfAttention(cfg);
    this.txt_norm2 = norm();
    this.txt_mlp = mlp();
    this.#heads = cfg.heads;
    this.#attention = attention;
  }

  /** vec [b, d]; `active` is its SiLU. */
  modulation(vec: Tensor, active = vec.silu()): DoubleModulation {
    const sets = (mod: Modulation): StreamModulation => {
      const [attn, mlp] = mod.forward(vec, active) as [ShiftScaleGate, ShiftScaleGate];
      return { attn, mlp };
    };
    return { img: sets(this.img_mod), txt: sets(this.txt_mod) };
  }

  /** img [b, lImg, d] and txt [b, lTxt, d] → the same shapes; rope covers text, then image. */
  forward({ img, txt }: Streams, modulation: DoubleModulation, rope: RopeTable): Streams {
    const attended = scope(() => this.#attend({ img, txt }, modulation, rope));
    return {
      img: feedForward(this.img_mlp, this.img_norm2, attended.img, modulation.img.mlp),
      txt: feedForward(this.txt_mlp, this.txt_norm2, attended.txt, modulation.txt.mlp),
    };
  }

  /** One attention over both streams, text first. */
  #attend({ img, txt }: Streams, modulation: DoubleModulation, rope: RopeTable): Streams {
    const project = (attn: SelfAttention, norm: LayerNorm, x: Tensor, modulation: StreamModulation): Projected => ({
      qkv: attn.qkv.forward(norm.forward(x, modulated(modulation.attn))),
      norm: attn.norm,
    });
    const i = project(this.img_attn, this.img_norm1, img, modulation.img);
    const t = project(this.txt_attn, this.txt_norm1, txt, modulation.txt);
    const [txtAttn, imgAttn] = attend(this.#attention, [t, i], this.#heads, rope).split([txt.dim(1), img.dim(1)], 1);
    return {
      img: this.img_attn.proj.forward(imgAttn, gated(modulation.img.attn, img)),
      txt: this.txt_attn.proj.forward(txtAttn, gated(modulation.txt.attn, txt)),
    };
  }
}

/** x + gate · mlp(modulated norm of x); GELU and the residual are fused into the two products. */
function feedForward(mlp: Sequential, norm: LayerNorm, x: Tensor, modulation: ShiftScaleGate): Tensor {
  const [up, , down] = mlp.stages as unknown as readonly [Linear, unknown, Linear];
  return scope(() => down.forward(up.forward(norm.forward(x, modulated(modulation)), geluAfter), gated(modulation, x)));
}

/** One stream; attention and MLP in parallel, after arXiv:2302.05442. */
export class SingleStreamBlock extends Module {
  /** Rows q, k, v, MLP. */
  readonly linear1: Linear;
  /** Columns attention, MLP. */
  readonly linear2: Linear;
  /** Of queries and keys. */
  readonly norm: QkNorm;
  /** Before both branches. */
  readonly pre_norm: LayerNorm;
  /** Around both branches. */
  readonly modulation: Modulation;
  readonly #heads: number;
  readonly #attention: AttentionFunction;

  constructor(cfg: FluxConfig, attention: AttentionFunction = fusedAttention) {
    super();
    const { width, mlpRatio, eps } = cfg;
    this.linear1 = new Linear(width, (3 + mlpRatio) * width);
    this.linear2 = new Linear((1 + mlpRatio) * width, width);
    this.norm = new QkNorm(cfg);
    this.pre_norm = new LayerNorm(width, { eps, affine: false });
    this.modulation = new Modulation(width, 1);
    this.#heads = cfg.heads;
    this.#attention = attention;
  }

  /** x [b, l, d] → the same shape */
  forward(x: Tensor, modulation: ShiftScaleGate, rope: RopeTable): Tensor {
    const qkvRows = 3 * x.dim(-1);
    const mlpRows = this.linear1.weight.dim(0) - qkvRows;
    const normed = this.pre_norm.forward(x, modulated(modulation));
    const attn = scope(() => {
      const qkv = linearRows(this.linear1, normed, 0, qkvRows);
      return attend(this.#attention, [{ qkv, norm: this.norm }], this.#heads, rope);
    });
    const mlp = linearRows(this.linear1, normed, qkvRows, mlpRows, geluAfter);
    return linearJoined(this.linear2, [attn, mlp], gated(modulation, x));
  }
}

/** Modulated norm and the projection back to latents. */
export class LastLayer extends Module {
  /** Before the projection. */
  readonly norm_final: LayerNorm;
  /** To the features of an image token. */
  readonly linear: Linear;
  /** Shift and scale from the condition vector. */
  readonly adaLN_modulation: Sequential;
  constructor({ width, outChannels, eps }: FluxConfig) {
    super();
    this.norm_final = new LayerNorm(width, { eps, affine: false });
    this.linear = new Linear(width, outChannels);
    this.adaLN_modulation = sequential(silu, new Linear(width, 2 * width));
  }
  /** x [b, l, d], vec [b, d] → [b, l, out] */
  forward(x: Tensor, vec: Tensor): Tensor {
    const [shift, scale] = this.adaLN_modulation.forward(vec).unsqueeze(1).chunk(2, -1);
    return this.linear.forward(this.norm_final.forward(x, modulated({ shift, scale })));
  }
}

/** What does not change while one image is denoised. Owned by the caller (`hold`). */
export interface FluxContext {
  /** Embedded text tokens [b, lTxt, d]; b may be 1 for a batch of images. */
  readonly txt: Tensor;
  /** Over text tokens, then image tokens. */
  readonly rope: RopeTable;
}

/** Modulations of all blocks at one noise level, computed ahead: then the weights that make them need not stay. Owned by the caller. */
export interface FluxModulations {
  /** The condition vector [b, d], for the last layer. */
  readonly vec: Tensor;
  /** One per double block. */
  readonly double: readonly DoubleModulation[];
  /** One per single block. */
  readonly single: readonly ShiftScaleGate[];
}

/** What the condition vector is made of. */
export interface FluxCondition {
  /** Noise level of each batch item, 1 is pure noise. */
  readonly sigma: readonly number[];
  /** Pooled text [b, vectorWidth]. */
  readonly y: Tensor;
  /** Of each batch item; models with distilled guidance need it, others refuse it. */
  readonly guidance?: readonly number[] | undefined;
}

/** All that one forward pass takes. */
export interface FluxInputs extends FluxCondition {
  /** [b, lImg, inChannels] */
  readonly img: Tensor;
  /** One per image token. */
  readonly imgPositions: readonly Position[];
  /** [b, lTxt, textWidth] */
  readonly txt: Tensor;
  /** One per text token. */
  readonly txtPositions: readonly Position[];
}

/** The FLUX.1 transformer, named as its authors name it. */
export class Flux extends Module {
  /** Image tokens to the width. */
  readonly img_in: Linear;
  /** Noise level to the condition vector. */
  readonly time_in: MlpEmbedder;
  /** Pooled text to the condition vector. */
  readonly vector_in: MlpEmbedder;
  /** Guidance number to the condition vector; absent in schnell. */
  readonly guidance_in: MlpEmbedder | undefined;
  /** Text tokens to the width. */
  readonly txt_in: Linear;
  /** In the order they run. */
  readonly double_blocks: readonly DoubleStreamBlock[];
  /** In the order they run, after the double blocks. */
  readonly single_blocks: readonly SingleStreamBlock[];
  /** To velocities. */
  readonly final_layer: LastLayer;
  readonly #cfg: FluxConfig;

  constructor(cfg: FluxConfig, { attention = fusedAttention, attentionAt }: FluxParts = {}) {
    super();
    const at = (path: string) => attentionAt?.(path) ?? attention;
    this.img_in = new Linear(cfg.inChannels, cfg.width);
    this.time_in = new MlpEmbedder(cfg.timestepWidth, cfg.width);
    this.vector_in = new MlpEmbedder(cfg.vectorWidth, cfg.width);
    this.guidance_in = cfg.guidance ? new MlpEmbedder(cfg.timestepWidth, cfg.width) : undefined;
    this.txt_in = new Linear(cfg.textWidth, cfg.width);
    this.double_blocks = repeat(cfg.doubleBlocks, (i) => new DoubleStreamBlock(cfg, at(`double_blocks.${i}`)));
    this.single_blocks = repeat(cfg.singleBlocks, (i) => new SingleStreamBlock(cfg, at(`single_blocks.${i}`)));
    this.final_layer = new LastLayer(cfg);
    this.#cfg = cfg;
  }
  /** The sizes it was made with. */
  get config(): FluxConfig {
    return this.#cfg;
  }
  /** What quantized releases keep in high precision (city96/ComfyUI-GGUF tools/convert.py). */
  override get highPrecision(): readonly string[] {
    return ["img_in.**", "txt_in.**", "time_in.**", "vector_in.**", "guidance_in.**", "final_layer.**"];
  }

  /** Embeds the text and builds the position table; once per image. txt [b, lTxt, textWidth]. */
  context(txt: Tensor, txtPositions: readonly Position[], imgPositions: readonly Position[]): FluxContext {
    if (txt.dim(1) !== txtPositions.length)
      throw new ShapeError("Flux.context", `${txtPositions.length} text positions for ${txt.dim(1)} text tokens: ${txt}`);
    return scope(() => ({
      txt: this.txt_in.forward(txt),
      rope: ropeTable(txt.device, [...txtPositions, ...imgPositions], { widths: this.#cfg.ropeAxes, theta: this.#cfg.ropeTheta }),
    }));
  }

  /** The vector [b, d] that all modulations are made from. */
  condition({ sigma, y, guidance }: FluxCondition): Tensor {
    if ((guidance !== undefined) !== this.#cfg.guidance) {
      const advice = this.#cfg.guidance
        ? "this model takes a guidance number; pass guidance"
        : "this model takes no guidance number; omit it";
      throw new ShapeError("Flux.condition", `${advice}: guidance is ${guidance}`);
    }
    return scope(() => {
      const time = this.time_in.forward(this.#sinusoid(y.device, sigma)).add(this.vector_in.forward(y));
      return guidance && this.guidance_in ? time.add(this.guidance_in.forward(this.#sinusoid(y.device, guidance))) : time;
    });
  }
  #sinusoid(device: Device, values: readonly number[]): Tensor {
    return timestepEmbedding(device, values, this.#cfg.timestepWidth, { scale: this.#cfg.timestepScale });
  }

  /** Every block's modulation for `vec` [b, d]. */
  modulations(vec: Tensor): FluxModulations {
    return scope(() => {
      const active = vec.silu();
      return {
        vec: vec.copy(),
        double: this.double_blocks.map((block) => block.modulation(vec, active)),
        single: this.single_blocks.map((block) => block.modulation.forward(vec, active)[0]!),
      };
    });
  }

  /** → velocity dx/dsigma [b, lImg, outChannels] */
  forward({ img, imgPositions, txt, txtPositions, ...condition }: FluxInputs): Tensor {
    return scope(() => runBlocks(this.run(img, this.condition(condition), this.context(txt, txtPositions, imgPositions))));
  }

  /**
   * The blocks, pausing before each; see runBlocksAsync. img [b, lImg, inChannels]; `condition` is the vector of `condition()`, or modulations
   * made ahead. → velocity dx/dsigma [b, lImg, outChannels]
   */
  *run(img: Tensor, condition: Tensor | FluxModulations, { txt, rope }: FluxContext): BlockRun<Tensor> {
    const [lTxt, lImg] = [txt.dim(1), img.dim(1)];
    if (rope.cos.dim(-2) !== lTxt + lImg)
      throw new ShapeError("Flux.run", `the context has positions for ${rope.cos.dim(-2) - lTxt} image tokens: ${img}`);
    const ahead = condition instanceof Tensor ? undefined : condition;
    const vec = condition instanceof Tensor ? condition : condition.vec;
    using active = hold(vec.silu());
    using streams = hold<Streams>(scope(() => ({ img: this.img_in.forward(img), txt: txt.expand(img.dim(0), -1, -1).copy() })));
    for (const [i, block] of this.double_blocks.entries()) {
      yield block;
      streams.update((s) => block.forward(s, ahead?.double[i] ?? block.modulation(vec, active.value), rope));
    }
    using joined = hold(scope(() => cat([streams.value.txt, streams.value.img], 1)));
    streams[Symbol.dispose]();
    for (const [i, block] of this.single_blocks.entries()) {
      yield block;
      joined.update((x) => block.forward(x, ahead?.single[i] ?? block.modulation.forward(vec, active.value)[0]!, rope));
    }
    return this.final_layer.forward(joined.value.narrow(1, lTxt, lImg), vec);
  }
}
