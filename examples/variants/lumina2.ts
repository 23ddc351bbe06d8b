// A Lumina-2-like model: image and caption refined apart, then one stream with sandwich norms, grouped-query attention and gates by tanh.
// After huggingface/diffusers src/diffusers/models/transformers/transformer_lumina2.py (Apache-2.0); fields are spelled as its checkpoint is.
// Shapes: b batch, l tokens, d width.
import {
  type AttentionFunction,
  fusedAttention,
  LayerNorm,
  Linear,
  Module,
  mergeHeads,
  patchify,
  RmsNorm,
  type RopeTable,
  repeat,
  ropeTable,
  type Sequential,
  sequential,
  splitHeads,
  timestepEmbedding,
  unpatchify,
} from "@wick/nn";
import { cat, epilogue, fold, scope, type Tensor } from "@wick/tensor";
import { LinearSiluLinear } from "./diffusers-parts.ts";

export interface Lumina2Config {
  readonly width: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly layers: number;
  readonly refinerLayers: number;
  readonly ffnWidth: number;
  readonly latentChannels: number;
  readonly captionWidth: number;
  readonly ropeAxes: readonly number[];
  readonly eps: number;
}

/** Alpha-VLLM/Lumina-Image-2.0 transformer/config.json. */
export const lumina2: Lumina2Config = {
  width: 2304,
  heads: 24,
  kvHeads: 8,
  layers: 26,
  refinerLayers: 2,
  ffnWidth: 9216,
  latentChannels: 16,
  captionWidth: 2304,
  ropeAxes: [32, 32, 32],
  eps: 1e-5,
};
const patch = 2;
const scaledBy = (scale: Tensor) => epilogue((y, s) => y.mul(s.add(1)), scale);
const gatedBy = (gate: Tensor, residual: Tensor) => epilogue((y, g, r) => y.mul(g.tanh()).add(r), gate, residual);

class Attention extends Module {
  readonly to_q: Linear;
  readonly to_k: Linear;
  readonly to_v: Linear;
  readonly to_out: readonly [Linear];
  readonly norm_q: RmsNorm;
  readonly norm_k: RmsNorm;
  readonly #cfg: Lumina2Config;
  readonly #attention: AttentionFunction;
  constructor(cfg: Lumina2Config, attention: AttentionFunction) {
    super();
    const head = cfg.width / cfg.heads;
    const linear = (out: number) => new Linear(cfg.width, out, { bias: false });
    this.to_q = linear(cfg.width);
    this.to_k = linear(cfg.kvHeads * head);
    this.to_v = linear(cfg.kvHeads * head);
    this.to_out = [linear(cfg.width)];
    this.norm_q = new RmsNorm(head, { eps: 1e-5 });
    this.norm_k = new RmsNorm(head, { eps: 1e-5 });
    this.#cfg = cfg;
    this.#attention = attention;
  }
  /** x [b, l, d] → [b, l, d] */
  forward(x: Tensor, { cos, sin }: RopeTable): Tensor {
    const { heads, kvHeads } = this.#cfg;
    const turned = (t: Tensor, norm: RmsNorm, n: number) => norm.forward(splitHeads(t, n)).rope(cos, sin, { interleaved: true });
    const q = turned(this.to_q.forward(x), this.norm_q, heads);
    const k = turned(this.to_k.forward(x), this.norm_k, kvHeads);
    return this.to_out[0].forward(mergeHeads(this.#attention(q, k, splitHeads(this.to_v.forward(x), kvHeads))));
  }
}

class FeedForward extends Module {
  readonly linear_1: Linear;
  readonly linear_2: Linear;
  readonly linear_3: Linear;
  constructor({ width, ffnWidth }: Lumina2Config) {
    super();
    this.linear_1 = new Linear(width, ffnWidth, { bias: false });
    this.linear_2 = new Linear(ffnWidth, width, { bias: false });
    this.linear_3 = new Linear(width, ffnWidth, { bias: false });
  }
  forward(x: Tensor): Tensor {
    const gate = epilogue((g, u) => g.silu().mul(u), this.linear_3.forward(x));
    return this.linear_2.forward(this.linear_1.forward(x, gate));
  }
}

/** The norm and the modulation share a name in the checkpoint. */
class ModulatedNorm extends Module {
  readonly linear: Linear;
  readonly norm: RmsNorm;
  constructor({ width, eps }: Lumina2Config) {
    super();
    this.linear = new Linear(Math.min(width, 1024), 4 * width);
    this.norm = new RmsNorm(width, { eps });
  }
}

export class Block extends Module {
  readonly attn: Attention;
  readonly feed_forward: FeedForward;
  readonly norm1: ModulatedNorm | RmsNorm;
  readonly ffn_norm1: RmsNorm;
  readonly norm2: RmsNorm;
  readonly ffn_norm2: RmsNorm;
  constructor(cfg: Lumina2Config, modulated: boolean, attention: AttentionFunction) {
    super();
    const norm = () => new RmsNorm(cfg.width, { eps: cfg.eps });
    this.attn = new Attention(cfg, attention);
    this.feed_forward = new FeedForward(cfg);
    this.norm1 = modulated ? new ModulatedNorm(cfg) : norm();
    this.ffn_norm1 = norm();
    this.norm2 = norm();
    this.ffn_norm2 = norm();
  }
  /** x [b, l, d], time [b, t] → [b, l, d] */
  forward(x: Tensor, rope: RopeTable, time?: Tensor): Tensor {
    if (this.norm1 instanceof RmsNorm || !time) {
      const attended = x.add(this.norm2.forward(this.attn.forward((this.norm1 as RmsNorm).forward(x), rope)));
      return attended.add(this.ffn_norm2.forward(this.feed_forward.forward(this.ffn_norm1.forward(attended))));
    }
    const [scaleA, gateA, scaleF, gateF] = this.norm1.linear.forward(time.silu()).unsqueeze(1).chunk(4, -1);
    const branch = this.attn.forward(this.norm1.norm.forward(x, scaledBy(scaleA)), rope);
    const attended = this.norm2.forward(branch, gatedBy(gateA, x));
    return this.ffn_norm2.forward(this.feed_forward.forward(this.ffn_norm1.forward(attended, scaledBy(scaleF))), gatedBy(gateF, attended));
  }
}

class Output extends Module {
  readonly norm: LayerNorm;
  readonly linear_1: Linear;
  readonly linear_2: Linear;
  constructor({ width, latentChannels }: Lumina2Config) {
    super();
    this.norm = new LayerNorm(width, { eps: 1e-6, affine: false });
    this.linear_1 = new Linear(Math.min(width, 1024), width);
    this.linear_2 = new Linear(width, patch * patch * latentChannels);
  }
  forward(x: Tensor, time: Tensor): Tensor {
    return this.linear_2.forward(this.norm.forward(x, scaledBy(this.linear_1.forward(time.silu()).unsqueeze(1))));
  }
}

export class Lumina2 extends Module {
  readonly x_embedder: Linear;
  readonly time_caption_embed: { readonly timestep_embedder: LinearSiluLinear; readonly caption_embedder: Sequential };
  readonly noise_refiner: readonly Block[];
  readonly context_refiner: readonly Block[];
  readonly layers: readonly Block[];
  readonly norm_out: Output;
  readonly #cfg: Lumina2Config;
  constructor(cfg: Lumina2Config, attention: AttentionFunction = fusedAttention) {
    super();
    const { width, captionWidth, eps } = cfg;
    this.x_embedder = new Linear(patch * patch * cfg.latentChannels, width);
    this.time_caption_embed = {
      timestep_embedder: new LinearSiluLinear(256, Math.min(width, 1024)),
      caption_embedder: sequential(new RmsNorm(captionWidth, { eps }), new Linear(captionWidth, width)),
    };
    this.noise_refiner = repeat(cfg.refinerLayers, () => new Block(cfg, true, attention));
    this.context_refiner = repeat(cfg.refinerLayers, () => new Block(cfg, false, attention));
    this.layers = repeat(cfg.layers, () => new Block(cfg, true, attention));
    this.norm_out = new Output(cfg);
    this.#cfg = cfg;
  }
  /** latents [1, c, h, w], time 0…1 (1 is clean), caption [1, l, captionWidth] → [1, c, h, w] */
  forward(latents: Tensor, time: number, caption: Tensor): Tensor {
    return scope(() => {
      const [rows, columns, captionTokens] = [latents.dim(2) / patch, latents.dim(3) / patch, caption.dim(1)];
      const text = Array.from({ length: captionTokens }, (_, i) => [i, 0, 0]);
      const pixels = Array.from({ length: rows * columns }, (_, i) => [captionTokens, Math.floor(i / columns), i % columns]);
      const rope = (at: number[][]) => ropeTable(latents.device, at, { widths: this.#cfg.ropeAxes, theta: 10_000 });
      const { timestep_embedder, caption_embedder } = this.time_caption_embed;
      const t = timestep_embedder.forward(timestepEmbedding(latents.device, [time], 256, { scale: 1 }));
      const [textRope, imageRope, jointRope] = [rope(text), rope(pixels), rope([...text, ...pixels])];
      const words = fold(this.context_refiner, caption_embedder.forward(caption), (x, block) => block.forward(x, textRope));
      const start = this.x_embedder.forward(patchify(latents, patch, "channels-last"));
      const image = fold(this.noise_refiner, start, (x, block) => block.forward(x, imageRope, t));
      const joint = fold(this.layers, cat([words, image], 1), (x, block) => block.forward(x, jointRope, t));
      const out = this.norm_out.forward(joint.narrow(1, captionTokens, rows * columns), t);
      return unpatchify(out, patch, "channels-last", { rows, columns });
    });
  }
}
