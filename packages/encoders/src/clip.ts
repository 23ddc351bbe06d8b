// The CLIP text encoder, whose pooled output is FLUX.1's vector.
// After huggingface/transformers src/transformers/models/clip/modeling_clip.py (Apache-2.0).
// Fields are spelled as the checkpoint spells them, without the leading "text_model.". b batch, l tokens, d width, n heads.
import {
  type AttentionFunction,
  type BlockRun,
  Embedding,
  fusedAttention,
  LayerNorm,
  Linear,
  Module,
  mergeHeads,
  repeat,
  runBlocks,
  splitHeads,
} from "@wick/nn";
import { type Device, epilogue, hold, ShapeError, scope, type Tensor } from "@wick/tensor";
import { type TokenIds, tokenTensor } from "./token-ids.ts";

/** Sizes of a CLIP text model, as in its config.json. */
export interface ClipConfig {
  /** Rows of the token table. */
  readonly vocabSize: number;
  /** Longest text, in tokens. */
  readonly positions: number;
  /** Of the hidden states. */
  readonly width: number;
  /** Of the feed-forward's hidden layer. */
  readonly ffnWidth: number;
  /** Transformer layers. */
  readonly layers: number;
  /** Attention heads. */
  readonly heads: number;
  /** Of the layer norms. */
  readonly eps: number;
  /**
   * The token whose first place is pooled. "largest" takes the largest id of a text, as transformers does for the released
   * configs that say 2 while the tokenizer's end token is the last of the vocabulary.
   */
  readonly endToken: number | "largest";
}

/** openai/clip-vit-large-patch14 text_config, `text_encoder` of FLUX.1. */
export const clipL: ClipConfig = {
  vocabSize: 49_408,
  positions: 77,
  width: 768,
  ffnWidth: 3072,
  layers: 12,
  heads: 12,
  eps: 1e-5,
  endToken: "largest",
};

/** What a CLIP text model returns. */
export interface ClipOutput {
  /** Every token after the final norm [b, l, d]. */
  readonly hidden: Tensor;
  /** The row of `hidden` at the first end token [b, d]. The projection is not applied. */
  readonly pooled: Tensor;
}

/** Token and position embeddings. */
export class ClipEmbeddings extends Module {
  /** One row per token id. */
  readonly token_embedding: Embedding;
  /** One row per position. */
  readonly position_embedding: Embedding;
  constructor(cfg: ClipConfig) {
    super();
    this.token_embedding = new Embedding(cfg.vocabSize, cfg.width);
    this.position_embedding = new Embedding(cfg.positions, cfg.width);
  }
  /** tokens [b, l] → [b, l, d] */
  forward(tokens: Tensor): Tensor {
    const [, length] = tokens.dims(2);
    const positions = tokens.device.tensor(
      Int32Array.from({ length }, (_, i) => i),
      [1, length],
    );
    return this.token_embedding.forward(tokens).add(this.position_embedding.forward(positions));
  }
}

/** Causal self-attention. */
export class ClipAttention extends Module {
  /** Keys. */
  readonly k_proj: Linear;
  /** Values. */
  readonly v_proj: Linear;
  /** Queries. */
  readonly q_proj: Linear;
  /** Back from the heads. */
  readonly out_proj: Linear;
  readonly #heads: number;
  readonly #attention: AttentionFunction;
  constructor({ width, heads }: ClipConfig, attention: AttentionFunction = fusedAttention) {
    super();
    this.k_proj = new Linear(width, width);
    this.v_proj = new Linear(width, width);
    this.q_proj = new Linear(width, width);
    this.out_proj = new Linear(width, width);
    this.#heads = heads;
    this.#attention = attention;
  }
  /** x [b, l, d] → [b, l, d], causal: so padding on the right needs no mask. */
  forward(x: Tensor): Tensor {
    const [q, k, v] = [this.q_proj, this.k_proj, this.v_proj].map((p) => splitHeads(p.forward(x), this.#heads)) as [Tensor, Tensor, Tensor];
    return this.out_proj.forward(mergeHeads(this.#attention(q, k, v, { causal: true })));
  }
}

const geluQuickAfter = epilogue((y) => y.geluQuick());

/** The feed-forward part of a layer. */
export class ClipMlp extends Module {
  /** To the hidden width. */
  readonly fc1: Linear;
  /** Back to the model's width. */
  readonly fc2: Linear;
  constructor({ width, ffnWidth }: ClipConfig) {
    super();
    this.fc1 = new Linear(width, ffnWidth);
    this.fc2 = new Linear(ffnWidth, width);
  }
  /** x [b, l, d] → [b, l, d] */
  forward(x: Tensor): Tensor {
    return this.fc2.forward(this.fc1.forward(x, geluQuickAfter));
  }
}

/** One layer: attention and feed-forward part, each after its norm. */
export class ClipLayer extends Module {
  /** Causal attention. */
  readonly self_attn: ClipAttention;
  /** Before attention. */
  readonly layer_norm1: LayerNorm;
  /** The feed-forward. */
  readonly mlp: ClipMlp;
  /** Before the feed-forward. */
  readonly layer_norm2: LayerNorm;
  constructor(cfg: ClipConfig) {
    super();
    this.self_attn = new ClipAttention(cfg);
    this.layer_norm1 = new LayerNorm(cfg.width, { eps: cfg.eps });
    this.mlp = new ClipMlp(cfg);
    this.layer_norm2 = new LayerNorm(cfg.width, { eps: cfg.eps });
  }
  /** x [b, l, d] → [b, l, d] */
  forward(x: Tensor): Tensor {
    const attended = x.add(this.self_attn.forward(this.layer_norm1.forward(x)));
    return attended.add(this.mlp.forward(this.layer_norm2.forward(attended)));
  }
}

/** CLIP's text model, named as in transformers. */
export class ClipTextEncoder extends Module {
  /** Tokens and positions. */
  readonly embeddings: ClipEmbeddings;
  /** The stack, nested as in the checkpoint. */
  readonly encoder: {
    /** In the order they run. */
    readonly layers: readonly ClipLayer[];
  };
  /** After the last layer. */
  readonly final_layer_norm: LayerNorm;
  readonly #cfg: ClipConfig;
  constructor(cfg: ClipConfig) {
    super();
    this.embeddings = new ClipEmbeddings(cfg);
    this.encoder = { layers: repeat(cfg.layers, () => new ClipLayer(cfg)) };
    this.final_layer_norm = new LayerNorm(cfg.width, { eps: cfg.eps });
    this.#cfg = cfg;
  }
  /** The sizes it was made with. */
  get config(): ClipConfig {
    return this.#cfg;
  }

  /** ids: token lists of equal length, at most `positions` → hidden [b, l, d] and pooled [b, d], f32. */
  forward(device: Device, ids: TokenIds): ClipOutput {
    return runBlocks(this.run(device, ids));
  }

  /** `forward` that pauses before each layer; see runBlocksAsync. */
  *run(device: Device, ids: TokenIds): BlockRun<ClipOutput> {
    const op = "ClipTextEncoder";
    const { positions, vocabSize } = this.#cfg;
    const length = ids[0]?.length ?? 0;
    if (length > positions) throw new ShapeError(op, `a text has at most ${positions} tokens, got ${length}; truncate it`);
    const ends = ids.map((row) => this.#endPosition(op, row));
    using state = hold(scope(() => this.embeddings.forward(tokenTensor(op, device, ids, vocabSize))));
    for (const layer of this.encoder.layers) {
      yield layer;
      state.update((x) => layer.forward(x));
    }
    const hidden = this.final_layer_norm.forward(state.value);
    const rows = Int32Array.from(ends, (end, i) => i * length + end);
    return { hidden, pooled: hidden.flatten(0, 1).indexSelect(0, device.tensor(rows)) };
  }

  #endPosition(op: string, ids: ArrayLike<number>): number {
    const list = Array.from(ids);
    const { endToken } = this.#cfg;
    const at = endToken === "largest" ? list.indexOf(list.reduce((a, b) => Math.max(a, b), 0)) : list.indexOf(endToken);
    if (at < 0) throw new ShapeError(op, `a text has no end token ${endToken}, whose place is pooled; add it when tokenizing`);
    return at;
  }
}
