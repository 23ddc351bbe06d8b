// Qwen3: the causal language model whose hidden states condition Z-Image.
// After huggingface/transformers src/transformers/models/qwen3/modeling_qwen3.py (Apache-2.0).
// Fields are spelled as the checkpoint spells them (without the leading "model."). b batch, l tokens, d width, n heads, k head width.
import {
  type AttentionFunction,
  Embedding,
  fusedAttention,
  Linear,
  Module,
  mergeHeads,
  RmsNorm,
  type RopeTable,
  repeat,
  ropeTable,
  sequencePositions,
  splitHeads,
} from "@wick/nn";
import { type Device, epilogue, fold, ShapeError, scope, type Tensor } from "@wick/tensor";

export interface Qwen3Config {
  readonly vocabSize: number;
  readonly width: number;
  readonly ffnWidth: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headWidth: number;
  readonly ropeTheta: number;
  readonly eps: number;
}

/** Qwen/Qwen3-4B config.json, the text encoder of Z-Image. */
export const qwen3_4b: Qwen3Config = {
  vocabSize: 151_936,
  width: 2560,
  ffnWidth: 9728,
  layers: 36,
  heads: 32,
  kvHeads: 8,
  headWidth: 128,
  ropeTheta: 1_000_000,
  eps: 1e-6,
};

export class Qwen3Attention extends Module {
  readonly q_proj: Linear;
  readonly k_proj: Linear;
  readonly v_proj: Linear;
  readonly o_proj: Linear;
  readonly q_norm: RmsNorm;
  readonly k_norm: RmsNorm;
  readonly #cfg: Qwen3Config;
  readonly #attention: AttentionFunction;
  constructor(cfg: Qwen3Config, attention: AttentionFunction = fusedAttention) {
    super();
    const linear = (a: number, b: number) => new Linear(a, b, { bias: false });
    this.q_proj = linear(cfg.width, cfg.heads * cfg.headWidth);
    this.k_proj = linear(cfg.width, cfg.kvHeads * cfg.headWidth);
    this.v_proj = linear(cfg.width, cfg.kvHeads * cfg.headWidth);
    this.o_proj = linear(cfg.heads * cfg.headWidth, cfg.width);
    this.q_norm = new RmsNorm(cfg.headWidth, { eps: cfg.eps });
    this.k_norm = new RmsNorm(cfg.headWidth, { eps: cfg.eps });
    this.#cfg = cfg;
    this.#attention = attention;
  }
  /** x [b, l, d] → [b, l, d]; causal, and blind to keys beyond `lengths` [b]. */
  forward(x: Tensor, { cos, sin }: RopeTable, lengths?: Tensor): Tensor {
    const { heads, kvHeads } = this.#cfg;
    const q = this.q_norm.forward(splitHeads(this.q_proj.forward(x), heads)).rope(cos, sin, { interleaved: false });
    const k = this.k_norm.forward(splitHeads(this.k_proj.forward(x), kvHeads)).rope(cos, sin, { interleaved: false });
    const v = splitHeads(this.v_proj.forward(x), kvHeads);
    return this.o_proj.forward(mergeHeads(this.#attention(q, k, v, { causal: true, lengths })));
  }
}

export class Qwen3Mlp extends Module {
  readonly gate_proj: Linear;
  readonly up_proj: Linear;
  readonly down_proj: Linear;
  constructor({ width, ffnWidth }: Qwen3Config) {
    super();
    this.gate_proj = new Linear(width, ffnWidth, { bias: false });
    this.up_proj = new Linear(width, ffnWidth, { bias: false });
    this.down_proj = new Linear(ffnWidth, width, { bias: false });
  }
  /** x [b, l, d] → [b, l, d] */
  forward(x: Tensor): Tensor {
    const up = this.up_proj.forward(x);
    return this.down_proj.forward(
      this.gate_proj.forward(
        x,
        epilogue((g, u) => g.silu().mul(u), up),
      ),
    );
  }
}

export class Qwen3Layer extends Module {
  readonly input_layernorm: RmsNorm;
  readonly self_attn: Qwen3Attention;
  readonly post_attention_layernorm: RmsNorm;
  readonly mlp: Qwen3Mlp;
  constructor(cfg: Qwen3Config) {
    super();
    this.input_layernorm = new RmsNorm(cfg.width, { eps: cfg.eps });
    this.self_attn = new Qwen3Attention(cfg);
    this.post_attention_layernorm = new RmsNorm(cfg.width, { eps: cfg.eps });
    this.mlp = new Qwen3Mlp(cfg);
  }
  /** x [b, l, d] → [b, l, d] */
  forward(x: Tensor, rope: RopeTable, lengths?: Tensor): Tensor {
    const attended = x.add(this.self_attn.forward(this.input_layernorm.forward(x), rope, lengths));
    return attended.add(this.mlp.forward(this.post_attention_layernorm.forward(attended)));
  }
}

export interface Qwen3Options {
  /** How many layers to build: the rest of the checkpoint is not needed when an inner hidden state is read. Default all. */
  readonly layers?: number;
}

export class Qwen3 extends Module {
  readonly embed_tokens: Embedding;
  readonly layers: readonly Qwen3Layer[];
  /** Present only when all layers are built. */
  readonly norm: RmsNorm | undefined;
  readonly #cfg: Qwen3Config;
  constructor(cfg: Qwen3Config, { layers = cfg.layers }: Qwen3Options = {}) {
    super();
    this.embed_tokens = new Embedding(cfg.vocabSize, cfg.width);
    this.layers = repeat(layers, () => new Qwen3Layer(cfg));
    this.norm = layers === cfg.layers ? new RmsNorm(cfg.width, { eps: cfg.eps }) : undefined;
    this.#cfg = cfg;
  }

  /**
   * Hidden states after `layer` layers, as transformers' hidden_states[layer]: 0 is the embedding, and the last one has the final norm.
   * ids: token lists of equal length → [b, l, d], f32. `lengths` marks right padding.
   */
  forward(device: Device, ids: readonly (readonly number[])[], options: { layer?: number; lengths?: readonly number[] } = {}): Tensor {
    const layer = options.layer ?? this.layers.length;
    const length = ids[0]?.length ?? 0;
    if (ids.some((row) => row.length !== length))
      throw new ShapeError("Qwen3.forward", "token lists of a batch have equal lengths; pad them");
    if (layer < 0 || layer > this.layers.length)
      throw new ShapeError("Qwen3.forward", `hidden state ${layer} of ${this.layers.length + 1}`);
    return scope(() => {
      const tokens = device.tensor(Int32Array.from(ids.flat()), [ids.length, length]);
      const rope = ropeTable(device, sequencePositions(length), { widths: [this.#cfg.headWidth], theta: this.#cfg.ropeTheta });
      const lengths = options.lengths && device.tensor(Int32Array.from(options.lengths));
      const x = fold(this.layers.slice(0, layer), this.embed_tokens.forward(tokens), (h, block) => block.forward(h, rope, lengths));
      return layer === this.layers.length && this.norm ? this.norm.forward(x) : x;
    });
  }
}
