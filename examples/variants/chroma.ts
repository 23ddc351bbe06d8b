// A Chroma-like model: FLUX.1's blocks without modulation weights of their own; one small network makes all modulations from the time.
// After huggingface/diffusers src/diffusers/models/transformers/transformer_chroma.py (Apache-2.0); fields are spelled as its checkpoint is.
// Shapes: b batch, l tokens, d width, m modulation vectors.
import { type AttentionFunction, fusedAttention, LayerNorm, Linear, Module, RmsNorm, repeat, ropeTable, timestepEmbedding } from "@wick/nn";
import { cat, epilogue, fold, scope, type Tensor } from "@wick/tensor";
import { GeluFeedForward, LinearSiluLinear } from "./diffusers-parts.ts";
import { Attention, added, attend, JointAttention, own, project, type Setting } from "./flux-attention.ts";

export interface ChromaConfig {
  readonly inChannels: number;
  readonly width: number;
  readonly heads: number;
  readonly doubleBlocks: number;
  readonly singleBlocks: number;
  readonly textWidth: number;
  readonly ropeAxes: readonly number[];
  /** Of the network that makes the modulations. */
  readonly approximator: { readonly channels: number; readonly width: number; readonly layers: number };
}

/** lodestones/Chroma1-HD transformer/config.json. */
export const chroma: ChromaConfig = {
  inChannels: 64,
  width: 3072,
  heads: 24,
  doubleBlocks: 19,
  singleBlocks: 38,
  textWidth: 4096,
  ropeAxes: [16, 56, 56],
  approximator: { channels: 64, width: 5120, layers: 5 },
};

const norm = (width: number) => new LayerNorm(width, { eps: 1e-6, affine: false });
const modulated = (shift: Tensor, scale: Tensor) => epilogue((y, s, t) => y.mul(s.add(1)).add(t), scale, shift);
const gated = (gate: Tensor, residual: Tensor) => epilogue((y, g, x) => x.add(g.mul(y)), gate, residual);
/** Rows of the modulation table [b, m, d], each [b, 1, d]. */
const rows = (table: Tensor, from: number, count: number): Tensor[] =>
  table.narrow(1, from, count).split(new Array<number>(count).fill(1), 1);

class Approximator extends Module {
  readonly in_proj: Linear;
  readonly layers: readonly LinearSiluLinear[];
  readonly norms: readonly RmsNorm[];
  readonly out_proj: Linear;
  constructor({ width, approximator: { channels, width: inner, layers } }: ChromaConfig) {
    super();
    this.in_proj = new Linear(channels, inner);
    this.layers = repeat(layers, () => new LinearSiluLinear(inner, inner));
    // torch.nn.RMSNorm without eps takes that of the dtype.
    this.norms = repeat(layers, () => new RmsNorm(inner, { eps: 2 ** -23 }));
    this.out_proj = new Linear(inner, width);
  }
  /** x [b, m, channels] → [b, m, d] */
  forward(x: Tensor): Tensor {
    const inner = fold(this.layers, this.in_proj.forward(x), (h, layer, i) => h.add(layer.forward(this.norms[i]!.forward(h))));
    return this.out_proj.forward(inner);
  }
}

interface Streams {
  readonly img: Tensor;
  readonly txt: Tensor;
}

export class DoubleBlock extends Module {
  readonly attn: JointAttention;
  readonly ff: GeluFeedForward;
  readonly ff_context: GeluFeedForward;
  readonly #norm: LayerNorm;
  constructor(cfg: ChromaConfig) {
    super();
    this.attn = new JointAttention(cfg);
    this.ff = new GeluFeedForward(cfg.width);
    this.ff_context = new GeluFeedForward(cfg.width);
    this.#norm = norm(cfg.width);
  }
  /** img, txt [b, l, d]; i, t: six rows for each stream */
  forward({ img, txt }: Streams, i: readonly Tensor[], t: readonly Tensor[], setting: Setting): Streams {
    const words = project(this.#norm.forward(txt, modulated(t[0]!, t[1]!)), added(this.attn), setting);
    const pixels = project(this.#norm.forward(img, modulated(i[0]!, i[1]!)), own(this.attn), setting);
    const joined = words.map((w, n) => cat([w, pixels[n]!], 2));
    const [txtOut, imgOut] = attend(joined, setting).split([txt.dim(1), img.dim(1)], 1);
    const image = this.attn.to_out[0].forward(imgOut!, gated(i[2]!, img));
    const text = this.attn.to_add_out.forward(txtOut!, gated(t[2]!, txt));
    return {
      img: this.ff.forward(this.#norm.forward(image, modulated(i[3]!, i[4]!)), gated(i[5]!, image)),
      txt: this.ff_context.forward(this.#norm.forward(text, modulated(t[3]!, t[4]!)), gated(t[5]!, text)),
    };
  }
}

export class SingleBlock extends Module {
  readonly attn: Attention;
  readonly proj_mlp: Linear;
  readonly proj_out: Linear;
  readonly #norm: LayerNorm;
  constructor(cfg: ChromaConfig) {
    super();
    this.attn = new Attention(cfg);
    this.proj_mlp = new Linear(cfg.width, 4 * cfg.width);
    this.proj_out = new Linear(5 * cfg.width, cfg.width);
    this.#norm = norm(cfg.width);
  }
  forward(x: Tensor, [shift, scale, gate]: readonly Tensor[], setting: Setting): Tensor {
    const normed = this.#norm.forward(x, modulated(shift!, scale!));
    const attended = attend(project(normed, own(this.attn), setting), setting);
    return this.proj_out.forward(cat([attended, this.proj_mlp.forward(normed).gelu()], 2), gated(gate!, x));
  }
}

export class Chroma extends Module {
  readonly distilled_guidance_layer: Approximator;
  readonly context_embedder: Linear;
  readonly x_embedder: Linear;
  readonly transformer_blocks: readonly DoubleBlock[];
  readonly single_transformer_blocks: readonly SingleBlock[];
  readonly proj_out: Linear;
  readonly #cfg: ChromaConfig;
  readonly #norm: LayerNorm;
  readonly #attention: AttentionFunction;
  constructor(cfg: ChromaConfig, attention: AttentionFunction = fusedAttention) {
    super();
    this.distilled_guidance_layer = new Approximator(cfg);
    this.context_embedder = new Linear(cfg.textWidth, cfg.width);
    this.x_embedder = new Linear(cfg.inChannels, cfg.width);
    this.transformer_blocks = repeat(cfg.doubleBlocks, () => new DoubleBlock(cfg));
    this.single_transformer_blocks = repeat(cfg.singleBlocks, () => new SingleBlock(cfg));
    this.proj_out = new Linear(cfg.width, cfg.inChannels);
    this.#cfg = cfg;
    this.#norm = norm(cfg.width);
    this.#attention = attention;
  }
  /** All modulation vectors at one noise level: single blocks, image, text, output. → [1, m, d] */
  modulations(latents: Tensor, sigma: number): Tensor {
    const { device } = latents;
    const { doubleBlocks, singleBlocks, approximator } = this.#cfg;
    const count = 3 * singleBlocks + 12 * doubleBlocks + 2;
    const quarter = approximator.channels / 4;
    const time = timestepEmbedding(device, [sigma, 0], quarter)
      .reshape([1, 2 * quarter])
      .expand(count, -1);
    const index = timestepEmbedding(device, [...new Array(count).keys()], 2 * quarter);
    return this.distilled_guidance_layer.forward(cat([time, index], 1).unsqueeze(0));
  }
  /** img [1, l, in] with positions [index, row, column] each, txt [1, l, textWidth], sigma (1 is pure noise) → [1, l, in] */
  forward(img: Tensor, positions: readonly (readonly number[])[], txt: Tensor, sigma: number): Tensor {
    return scope(() => {
      const { doubleBlocks: doubles, singleBlocks: singles, ropeAxes } = this.#cfg;
      const table = this.modulations(img, sigma);
      const words = Array.from({ length: txt.dim(1) }, () => [0, 0, 0]);
      const rope = ropeTable(img.device, [...words, ...positions], { widths: ropeAxes, theta: 10_000 });
      const setting = { heads: this.#cfg.heads, rope, attention: this.#attention };
      const start: Streams = { img: this.x_embedder.forward(img), txt: this.context_embedder.forward(txt) };
      const of = (first: number, i: number) => rows(table, 3 * singles + 6 * (first + i), 6);
      const both = fold(this.transformer_blocks, start, (s, block, i) => block.forward(s, of(0, i), of(doubles, i), setting));
      const joined = cat([both.txt, both.img], 1);
      const out = fold(this.single_transformer_blocks, joined, (x, block, i) => block.forward(x, rows(table, 3 * i, 3), setting));
      const [shift, scale] = rows(table, table.dim(1) - 2, 2);
      return this.proj_out.forward(this.#norm.forward(out.narrow(1, txt.dim(1), img.dim(1)), modulated(shift!, scale!)));
    });
  }
}
