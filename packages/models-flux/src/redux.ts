// Redux: features of a picture as further text tokens of FLUX.1 dev, which varies the picture.
// After black-forest-labs/flux @ 802fb47 src/flux/modules/image_embedders.py (ReduxImageEncoder) and huggingface/diffusers
// src/diffusers/pipelines/flux/modeling_flux.py, whose names are the same.
import { Linear, Module } from "@wick/nn";
import { scope, type Tensor } from "@wick/tensor";

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
