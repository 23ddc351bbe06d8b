// Redux: a picture as further text tokens of FLUX.1, which varies it.
// After black-forest-labs/flux @ 802fb47 src/flux/modules/image_embedders.py (ReduxImageEncoder) and huggingface/diffusers
// src/diffusers/pipelines/flux/modeling_flux.py, whose names are the same.
import { type SiglipConfig, SiglipVision, siglipSo400m } from "@wick/encoders";
import { type BlockRun, Linear, Module } from "@wick/nn";
import { hold, scope, type Tensor, UnsupportedError } from "@wick/tensor";

/** Sizes of Redux. */
export interface ReduxConfig {
  /** Of the picture's features. */
  readonly featureWidth: number;
  /** Of the text tokens. */
  readonly textWidth: number;
}

/** FLUX.1-Redux-dev: last hidden state of SigLIP so400m patch14-384 (729 tokens) to T5's width. */
export const flux1Redux: ReduxConfig = { featureWidth: 1152, textWidth: 4096 };

/** The projection in flux1-redux-dev.safetensors. */
export class Redux extends Module {
  /** To three times the text's width. */
  readonly redux_up: Linear;
  /** To the text's width. */
  readonly redux_down: Linear;
  constructor({ featureWidth, textWidth }: ReduxConfig) {
    super();
    this.redux_up = new Linear(featureWidth, 3 * textWidth);
    this.redux_down = new Linear(3 * textWidth, textWidth);
  }
  /** features [b, l, featureWidth] → tokens [b, l, textWidth]: what `imageTokens` of a request takes */
  forward(features: Tensor): Tensor {
    return scope(() => this.redux_down.forward(this.redux_up.forward(features).silu()));
  }
}

/** Sizes of both networks of FLUX.1-Redux-dev. */
export interface ReduxPriorConfig {
  /** Of SigLIP. */
  readonly encoder: SiglipConfig;
  /** Of the projection. */
  readonly embedder: ReduxConfig;
}

/** FLUX.1-Redux-dev as released. */
export const flux1ReduxPrior: ReduxPriorConfig = { encoder: siglipSo400m, embedder: flux1Redux };

/** SigLIP and Redux in a row, named as the folders of FLUX.1-Redux-dev. Throws UnsupportedError when one does not fit the other. */
export class ReduxPrior extends Module {
  /** Pixels to features. */
  readonly image_encoder: SiglipVision;
  /** Features to tokens. */
  readonly image_embedder: Redux;
  readonly #cfg: ReduxPriorConfig;
  constructor(cfg: ReduxPriorConfig) {
    super();
    const { encoder, embedder } = cfg;
    if (encoder.width !== embedder.featureWidth)
      throw new UnsupportedError(
        "ReduxPrior",
        `the encoder's features are ${encoder.width} wide, the embedder reads ${embedder.featureWidth}`,
      );
    this.image_encoder = new SiglipVision(encoder);
    this.image_embedder = new Redux(embedder);
    this.#cfg = cfg;
  }
  /** The sizes it was made with. */
  get config(): ReduxPriorConfig {
    return this.#cfg;
  }
  /** pixels [b, 3, h, w] of `siglipPixels` → tokens [b, l, textWidth], pausing before each layer. */
  *run(pixels: Tensor): BlockRun<Tensor> {
    using features = hold(yield* this.image_encoder.run(pixels));
    return this.image_embedder.forward(features.value);
  }
}
