// The T5 v1.1 encoder, whose last hidden state conditions FLUX.1.
// After huggingface/transformers src/transformers/models/t5/modeling_t5.py (Apache-2.0).
// Fields are spelled as the checkpoint spells them. b batch, l tokens, d width, n heads, k head width.
// Activations are f32 throughout, so weights may be f16: the residual stream and the feed-forward of the XXL model exceed 65504.
import {
  type AttentionFunction,
  type BlockRun,
  Embedding,
  fusedAttention,
  Linear,
  Module,
  mergeHeads,
  RmsNorm,
  repeat,
  runBlocks,
  splitHeads,
} from "@wick/nn";
import { type Device, epilogue, hold, scope, type Tensor } from "@wick/tensor";
import { type TokenIds, tokenTensor } from "./token-ids.ts";

/** Sizes of a T5 encoder, as in its config.json. */
export interface T5Config {
  /** Rows of the token table. */
  readonly vocabSize: number;
  /** Of the hidden states. */
  readonly width: number;
  /** Of each attention head. */
  readonly headWidth: number;
  /** Of the feed-forward's hidden layers. */
  readonly ffnWidth: number;
  /** Blocks of the encoder. */
  readonly layers: number;
  /** Attention heads. */
  readonly heads: number;
  /** Rows of the relative bias table; half of them for keys after the query. */
  readonly buckets: number;
  /** Distances from here on share the last bucket. */
  readonly maxDistance: number;
  /** Of the RMS norms. */
  readonly eps: number;
}

/** google/t5-v1_1-xxl config.json, `text_encoder_2` of FLUX.1. */
export const t5Xxl: T5Config = {
  vocabSize: 32_128,
  width: 4096,
  headWidth: 64,
  ffnWidth: 10_240,
  layers: 24,
  heads: 64,
  buckets: 32,
  maxDistance: 128,
  eps: 1e-6,
};

/**
 * The bucket of a key `distance` tokens after its query (negative: before it). Small distances have one each, larger ones share
 * logarithmically; arithmetic in f32 as the reference has it, which decides at exact bucket bounds.
 */
export function t5Bucket(distance: number, { buckets, maxDistance }: Pick<T5Config, "buckets" | "maxDistance">): number {
  const half = buckets / 2;
  const side = distance > 0 ? half : 0;
  const steps = Math.abs(distance);
  const exact = half / 2;
  if (steps < exact) return side + steps;
  const share = Math.fround(Math.log(Math.fround(steps / exact))) / Math.fround(Math.log(maxDistance / exact));
  const wide = exact + Math.trunc(Math.fround(Math.fround(share) * (half - exact)));
  return side + Math.min(wide, half - 1);
}

/** Self-attention with relative position biases and without a scale. */
export class T5Attention extends Module {
  /** Queries. */
  readonly q: Linear;
  /** Keys. */
  readonly k: Linear;
  /** Values. */
  readonly v: Linear;
  /** Back from the heads. */
  readonly o: Linear;
  /** In the first block only, for all of them. */
  readonly relative_attention_bias: Embedding | undefined;
  readonly #heads: number;
  readonly #attention: AttentionFunction;
  constructor(cfg: T5Config, first: boolean, attention: AttentionFunction = fusedAttention) {
    super();
    const inner = cfg.heads * cfg.headWidth;
    this.q = new Linear(cfg.width, inner, { bias: false });
    this.k = new Linear(cfg.width, inner, { bias: false });
    this.v = new Linear(cfg.width, inner, { bias: false });
    this.o = new Linear(inner, cfg.width, { bias: false });
    this.relative_attention_bias = first ? new Embedding(cfg.buckets, cfg.heads) : undefined;
    this.#heads = cfg.heads;
    this.#attention = attention;
  }
  /** x [b, l, d], bias [1, n, l, l] → [b, l, d]; scores are not scaled. */
  forward(x: Tensor, bias: Tensor): Tensor {
    const [q, k, v] = [this.q, this.k, this.v].map((p) => splitHeads(p.forward(x), this.#heads)) as [Tensor, Tensor, Tensor];
    return this.o.forward(mergeHeads(this.#attention(q, k, v, { mask: bias, scale: 1 })));
  }
}

/** The gated GELU part of a layer. */
export class T5GatedFeedForward extends Module {
  /** Goes through GELU. */
  readonly wi_0: Linear;
  /** Multiplied by the gate. */
  readonly wi_1: Linear;
  /** Back to the model's width. */
  readonly wo: Linear;
  constructor({ width, ffnWidth }: T5Config) {
    super();
    this.wi_0 = new Linear(width, ffnWidth, { bias: false });
    this.wi_1 = new Linear(width, ffnWidth, { bias: false });
    this.wo = new Linear(ffnWidth, width, { bias: false });
  }
  /** x [b, l, d] → [b, l, d] */
  forward(x: Tensor): Tensor {
    const linear = this.wi_1.forward(x);
    return this.wo.forward(
      this.wi_0.forward(
        x,
        epilogue((g, y) => g.gelu().mul(y), linear),
      ),
    );
  }
}

/** Attention after its norm, beside a skip connection. */
export class T5SelfAttentionLayer extends Module {
  /** Attention with a relative position bias. */
  readonly SelfAttention: T5Attention;
  /** Before attention. */
  readonly layer_norm: RmsNorm;
  constructor(cfg: T5Config, first: boolean) {
    super();
    this.SelfAttention = new T5Attention(cfg, first);
    this.layer_norm = new RmsNorm(cfg.width, { eps: cfg.eps });
  }
  /** x [b, l, d], bias [1, n, l, l] → [b, l, d] */
  forward(x: Tensor, bias: Tensor): Tensor {
    return x.add(this.SelfAttention.forward(this.layer_norm.forward(x), bias));
  }
}

/** The feed-forward part after its norm, beside a skip connection. */
export class T5FeedForwardLayer extends Module {
  /** The feed-forward, under its old name. */
  readonly DenseReluDense: T5GatedFeedForward;
  /** Before the feed-forward. */
  readonly layer_norm: RmsNorm;
  constructor(cfg: T5Config) {
    super();
    this.DenseReluDense = new T5GatedFeedForward(cfg);
    this.layer_norm = new RmsNorm(cfg.width, { eps: cfg.eps });
  }
  /** x [b, l, d] → [b, l, d] */
  forward(x: Tensor): Tensor {
    return x.add(this.DenseReluDense.forward(this.layer_norm.forward(x)));
  }
}

/** One layer of the encoder. */
export class T5Block extends Module {
  /** Attention, then feed-forward. */
  readonly layer: readonly [T5SelfAttentionLayer, T5FeedForwardLayer];
  constructor(cfg: T5Config, first: boolean) {
    super();
    this.layer = [new T5SelfAttentionLayer(cfg, first), new T5FeedForwardLayer(cfg)];
  }
  /** x [b, l, d], bias [1, n, l, l] → [b, l, d] */
  forward(x: Tensor, bias: Tensor): Tensor {
    const [attention, feedForward] = this.layer;
    return feedForward.forward(attention.forward(x, bias));
  }
}

/** All layers and the final norm. */
export class T5Stack extends Module {
  /** The same table as `shared`: a checkpoint has it under either name, or under both. */
  readonly embed_tokens: Embedding;
  /** In the order they run. */
  readonly block: readonly T5Block[];
  /** After the last block. */
  readonly final_layer_norm: RmsNorm;
  constructor(cfg: T5Config, embedTokens: Embedding) {
    super();
    this.embed_tokens = embedTokens;
    this.block = repeat(cfg.layers, (i) => new T5Block(cfg, i === 0));
    this.final_layer_norm = new RmsNorm(cfg.width, { eps: cfg.eps });
  }
}

/** T5's encoder, named as in transformers. */
export class T5Encoder extends Module {
  /** The token table. */
  readonly shared: Embedding;
  /** The stack, which uses the same table. */
  readonly encoder: T5Stack;
  readonly #cfg: T5Config;
  constructor(cfg: T5Config) {
    super();
    this.shared = new Embedding(cfg.vocabSize, cfg.width);
    this.encoder = new T5Stack(cfg, this.shared);
    this.#cfg = cfg;
  }
  /** The sizes it was made with. */
  get config(): T5Config {
    return this.#cfg;
  }

  /** The last hidden state. ids: token lists of equal length → [b, l, d], f32. Pads are tokens like others, as FLUX.1 has them. */
  forward(device: Device, ids: TokenIds): Tensor {
    return runBlocks(this.run(device, ids));
  }

  /** `forward` that pauses before each block; see runBlocksAsync. */
  *run(device: Device, ids: TokenIds): BlockRun<Tensor> {
    const tokens = tokenTensor("T5Encoder", device, ids, this.#cfg.vocabSize);
    using state = hold(this.shared.forward(tokens));
    const { block, final_layer_norm } = this.encoder;
    using bias = hold<{ mask?: Tensor }>({});
    for (const b of block) {
      yield b;
      if (!bias.value.mask) bias.update(() => ({ mask: this.#relativeBias(device, tokens.dim(1)) }));
      state.update((x) => b.forward(x, bias.value.mask!));
    }
    return final_layer_norm.forward(state.value);
  }

  /** `[1, n, l, l]` what each head adds to the score of query i (rows) and key j (columns). */
  #relativeBias(device: Device, length: number): Tensor {
    const byDistance = Int32Array.from({ length: 2 * length - 1 }, (_, i) => t5Bucket(i - (length - 1), this.#cfg));
    const buckets = new Int32Array(length * length);
    for (let query = 0; query < length; query++) {
      for (let key = 0; key < length; key++) buckets[query * length + key] = byDistance[key - query + length - 1]!;
    }
    const table = this.encoder.block[0]!.layer[0].SelfAttention.relative_attention_bias!;
    return scope(() =>
      table
        .forward(device.tensor(buckets, [length, length]))
        .permute(2, 0, 1)
        .unsqueeze(0)
        .contiguous(),
    );
  }
}
