// Qwen3: the causal language model whose hidden states condition Z-Image.
// After huggingface/transformers src/transformers/models/qwen3/modeling_qwen3.py (Apache-2.0).
// Fields are spelled as the checkpoint spells them (without the leading "model."). b batch, l tokens, d width, n heads, k head width.
import {
  type AttentionFunction,
  type BlockRun,
  Embedding,
  fusedAttention,
  Linear,
  Module,
  mergeHeads,
  RmsNorm,
  type RopeTable,
  repeat,
  ropeTable,
  rotatedHeads,
  runBlocks,
  sequencePositions,
  splitHeads,
} from "@wick/nn";
import { type Device, epilogue, hold, ShapeError, type Tensor } from "@wick/tensor";
import { type TokenIds, tokenTensor } from "./token-ids.ts";

/** Sizes of a Qwen3 model, as in its config.json. */
export interface Qwen3Config {
  /** Rows of the token table. */
  readonly vocabSize: number;
  /** Of the hidden states. */
  readonly width: number;
  /** Of the feed-forward's hidden layer. */
  readonly ffnWidth: number;
  /** Transformer layers of the released model. */
  readonly layers: number;
  /** Query heads. */
  readonly heads: number;
  /** Key and value heads. */
  readonly kvHeads: number;
  /** Of each head; heads · headWidth may exceed the width. */
  readonly headWidth: number;
  /** Base of the rotary frequencies. */
  readonly ropeTheta: number;
  /** Of the RMS norms. */
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

/** Causal grouped attention with norms of queries and keys. */
export class Qwen3Attention extends Module {
  /** Queries. */
  readonly q_proj: Linear;
  /** Keys. */
  readonly k_proj: Linear;
  /** Values. */
  readonly v_proj: Linear;
  /** Back from the heads. */
  readonly o_proj: Linear;
  /** Of queries, per head. */
  readonly q_norm: RmsNorm;
  /** Of keys, per head. */
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
  forward(x: Tensor, rope: RopeTable, lengths?: Tensor): Tensor {
    const { heads, kvHeads } = this.#cfg;
    const q = rotatedHeads([{ x: this.q_proj.forward(x), norm: this.q_norm }], { heads, rope, interleaved: false });
    const k = rotatedHeads([{ x: this.k_proj.forward(x), norm: this.k_norm }], { heads: kvHeads, rope, interleaved: false });
    const v = splitHeads(this.v_proj.forward(x), kvHeads);
    return this.o_proj.forward(mergeHeads(this.#attention(q, k, v, { causal: true, lengths })));
  }
}

/** The SwiGLU part of a layer. */
export class Qwen3Mlp extends Module {
  /** Goes through SiLU. */
  readonly gate_proj: Linear;
  /** Multiplied by the gate. */
  readonly up_proj: Linear;
  /** Back to the model's width. */
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

/** One layer: attention and feed-forward part, each after its norm. */
export class Qwen3Layer extends Module {
  /** Before attention. */
  readonly input_layernorm: RmsNorm;
  /** Causal grouped-query attention. */
  readonly self_attn: Qwen3Attention;
  /** Before the feed-forward. */
  readonly post_attention_layernorm: RmsNorm;
  /** The feed-forward. */
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

/** Which part of the model is built. */
export interface Qwen3Options {
  /** How many layers to build: the rest of the checkpoint is not needed when an inner hidden state is read. Default all. */
  readonly layers?: number;
}

/** What one pass takes beside its tokens. */
export interface Qwen3RunOptions {
  /** Which hidden state to return. Default: after all layers that were built. */
  readonly layer?: number | undefined;
  /** Tokens of each text that are no padding [b]. Default: all. */
  readonly lengths?: readonly number[] | undefined;
}

/** Qwen3 without its language head, named as in transformers. */
export class Qwen3 extends Module {
  /** One row per token id. */
  readonly embed_tokens: Embedding;
  /** In the order they run. */
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

  /** The sizes it was made with. */
  get config(): Qwen3Config {
    return this.#cfg;
  }
  /** Globs over the names of a whole checkpoint that this model did not build: for `allowUnused` of `load`. */
  get unbuilt(): readonly string[] {
    if (this.norm) return [];
    return [
      ...Array.from({ length: this.#cfg.layers - this.layers.length }, (_, i) => `layers.${this.layers.length + i}.**`),
      "norm.weight",
    ];
  }

  /**
   * Hidden states after `layer` layers, as transformers' hidden_states[layer]: 0 is the embedding, and the last one has the final norm.
   * ids: token lists of equal length → [b, l, d], f32. `lengths` marks right padding.
   */
  forward(device: Device, ids: TokenIds, options: Qwen3RunOptions = {}): Tensor {
    return runBlocks(this.run(device, ids, options));
  }

  /** `forward` that pauses before each layer; see runBlocksAsync. */
  *run(device: Device, ids: TokenIds, options: Qwen3RunOptions = {}): BlockRun<Tensor> {
    const op = "Qwen3";
    const { layer = this.layers.length, lengths } = options;
    if (!Number.isInteger(layer) || layer < 0 || layer > this.layers.length)
      throw new ShapeError(op, `there is no hidden state ${layer}: ${this.layers.length} layers were built`);
    checkLengths(op, ids, lengths);
    using fixed = hold(this.#start(op, device, ids, lengths));
    using state = hold(this.embed_tokens.forward(fixed.value.tokens));
    for (const block of this.layers.slice(0, layer)) {
      yield block;
      state.update((x) => block.forward(x, fixed.value.rope, fixed.value.lengths));
    }
    // A second handle: the caller's scope owns it, while the run lets go of its own.
    return layer === this.layers.length && this.norm ? this.norm.forward(state.value) : state.value.reshape(state.value.shape);
  }

  #start(op: string, device: Device, ids: TokenIds, lengths: readonly number[] | undefined) {
    const tokens = tokenTensor(op, device, ids, this.#cfg.vocabSize);
    const axes = { widths: [this.#cfg.headWidth], theta: this.#cfg.ropeTheta };
    const { cos, sin } = ropeTable(device, sequencePositions(tokens.dim(1)), axes);
    return { tokens, rope: { cos, sin }, lengths: lengths && device.tensor(Int32Array.from(lengths)) };
  }
}

function checkLengths(op: string, ids: TokenIds, lengths: readonly number[] | undefined): void {
  if (!lengths) return;
  const longest = ids[0]?.length ?? 0;
  const fits = lengths.length === ids.length && lengths.every((n) => Number.isInteger(n) && n > 0 && n <= longest);
  if (!fits)
    throw new ShapeError(op, `lengths are one per text, from 1 to ${longest}: got [${lengths.join(", ")}] for ${ids.length} texts`);
}
