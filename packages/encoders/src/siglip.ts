// The SigLIP vision encoder, whose last hidden state FLUX.1 Redux reads.
// After huggingface/transformers src/transformers/models/siglip/modeling_siglip.py (Apache-2.0).
// Fields are spelled as the checkpoint spells them, without the leading "vision_model.". b batch, l patches, d width, n heads.
import {
  type AttentionFunction,
  type BlockRun,
  Conv2d,
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
import { epilogue, hold, ShapeError, scope, type Tensor } from "@wick/tensor";

/** Sizes of a SigLIP vision model, as in its config.json. */
export interface SiglipConfig {
  /** Side of the pictures in pixels; what is beyond the last whole patch is not seen. */
  readonly imageSize: number;
  /** Side of a patch in pixels. */
  readonly patchSize: number;
  /** Of the pictures: 3 for RGB. */
  readonly channels: number;
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
}

/** google/siglip-so400m-patch14-384 vision_config, `image_encoder` of FLUX.1 Redux. */
export const siglipSo400m: SiglipConfig = {
  imageSize: 384,
  patchSize: 14,
  channels: 3,
  width: 1152,
  ffnWidth: 4304,
  layers: 27,
  heads: 16,
  eps: 1e-6,
};

/** Patches of a picture, row by row: l of the hidden states. */
export const siglipPatches = ({ imageSize, patchSize }: Pick<SiglipConfig, "imageSize" | "patchSize">): number =>
  Math.floor(imageSize / patchSize) ** 2;

/** Patches with their learned positions. */
export class SiglipEmbeddings extends Module {
  /** A patch to a row. */
  readonly patch_embedding: Conv2d;
  /** One row per patch. */
  readonly position_embedding: Embedding;
  constructor(cfg: SiglipConfig) {
    super();
    this.patch_embedding = new Conv2d(cfg.channels, cfg.width, cfg.patchSize, { stride: cfg.patchSize });
    this.position_embedding = new Embedding(siglipPatches(cfg), cfg.width);
  }
  /** pixels [b, channels, imageSize, imageSize] → [b, l, d] */
  forward(pixels: Tensor): Tensor {
    const patches = this.patch_embedding.forward(pixels).rearrange("b d h w -> b (h w) d");
    const length = patches.dim(1);
    const positions = pixels.device.tensor(
      Int32Array.from({ length }, (_, i) => i),
      [1, length],
    );
    return patches.add(this.position_embedding.forward(positions));
  }
}

/** Self-attention in which every patch sees every other. */
export class SiglipAttention extends Module {
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
  constructor({ width, heads }: SiglipConfig, attention: AttentionFunction = fusedAttention) {
    super();
    this.k_proj = new Linear(width, width);
    this.v_proj = new Linear(width, width);
    this.q_proj = new Linear(width, width);
    this.out_proj = new Linear(width, width);
    this.#heads = heads;
    this.#attention = attention;
  }
  /** x [b, l, d] → [b, l, d] */
  forward(x: Tensor): Tensor {
    const [q, k, v] = [this.q_proj, this.k_proj, this.v_proj].map((p) => splitHeads(p.forward(x), this.#heads)) as [Tensor, Tensor, Tensor];
    return this.out_proj.forward(mergeHeads(this.#attention(q, k, v)));
  }
}

const geluAfter = epilogue((y) => y.gelu());

/** The feed-forward part of a layer. */
export class SiglipMlp extends Module {
  /** To the hidden width. */
  readonly fc1: Linear;
  /** Back to the model's width. */
  readonly fc2: Linear;
  constructor({ width, ffnWidth }: SiglipConfig) {
    super();
    this.fc1 = new Linear(width, ffnWidth);
    this.fc2 = new Linear(ffnWidth, width);
  }
  /** x [b, l, d] → [b, l, d] */
  forward(x: Tensor): Tensor {
    return this.fc2.forward(this.fc1.forward(x, geluAfter));
  }
}

/** One layer: attention and feed-forward part, each after its norm. */
export class SiglipLayer extends Module {
  /** Before attention. */
  readonly layer_norm1: LayerNorm;
  /** Between the patches. */
  readonly self_attn: SiglipAttention;
  /** Before the feed-forward. */
  readonly layer_norm2: LayerNorm;
  /** The feed-forward. */
  readonly mlp: SiglipMlp;
  constructor(cfg: SiglipConfig) {
    super();
    this.layer_norm1 = new LayerNorm(cfg.width, { eps: cfg.eps });
    this.self_attn = new SiglipAttention(cfg);
    this.layer_norm2 = new LayerNorm(cfg.width, { eps: cfg.eps });
    this.mlp = new SiglipMlp(cfg);
  }
  /** x [b, l, d] → [b, l, d] */
  forward(x: Tensor): Tensor {
    const attended = x.add(this.self_attn.forward(this.layer_norm1.forward(x)));
    return attended.add(this.mlp.forward(this.layer_norm2.forward(attended)));
  }
}

/** SigLIP's vision model, named as in transformers, without the head that pools its patches. */
export class SiglipVision extends Module {
  /** Patches and positions. */
  readonly embeddings: SiglipEmbeddings;
  /** The stack, nested as in the checkpoint. */
  readonly encoder: {
    /** In the order they run. */
    readonly layers: readonly SiglipLayer[];
  };
  /** After the last layer. */
  readonly post_layernorm: LayerNorm;
  readonly #cfg: SiglipConfig;
  constructor(cfg: SiglipConfig) {
    super();
    this.embeddings = new SiglipEmbeddings(cfg);
    this.encoder = { layers: repeat(cfg.layers, () => new SiglipLayer(cfg)) };
    this.post_layernorm = new LayerNorm(cfg.width, { eps: cfg.eps });
    this.#cfg = cfg;
  }
  /** The sizes it was made with. */
  get config(): SiglipConfig {
    return this.#cfg;
  }

  /** pixels [b, channels, imageSize, imageSize] in -1…1 (`siglipPixels`) → last_hidden_state [b, l, d], f32. Throws ShapeError for other sizes. */
  forward(pixels: Tensor): Tensor {
    return runBlocks(this.run(pixels));
  }

  /** `forward` that pauses before each layer; see runBlocksAsync. */
  *run(pixels: Tensor): BlockRun<Tensor> {
    const { channels, imageSize } = this.#cfg;
    const wanted = [channels, imageSize, imageSize];
    if (pixels.rank !== 4 || `${pixels.shape.slice(1)}` !== `${wanted}`)
      throw new ShapeError("SiglipVision", `pixels are [b, ${wanted.join(", ")}]: ${pixels}; siglipPixels makes them of a picture`);
    using state = hold(scope(() => this.embeddings.forward(pixels)));
    for (const layer of this.encoder.layers) {
      yield layer;
      state.update((x) => layer.forward(x));
    }
    return this.post_layernorm.forward(state.value);
  }
}
