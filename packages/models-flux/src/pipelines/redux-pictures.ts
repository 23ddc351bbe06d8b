// What a request's `redux` adds to the text of a prompt.
// After huggingface/diffusers src/diffusers/pipelines/flux/pipeline_flux_prior_redux.py: the tokens of each picture after those of the text, all
// times the picture's scale, and the sum over the pictures.

import { type EnsureOptions, type LazyModel, RequestError, type Watching } from "@wick/diffusion";
import { siglipPatches, siglipPixels } from "@wick/encoders";
import { runBlocksAsync } from "@wick/nn";
import { cat, type Device, hold, scope, type Tensor } from "@wick/tensor";
import type { ReduxPrior } from "../redux.ts";
import { noRedux, type ReduxPicture } from "./redux-request.ts";
import type { FluxEmbeddings } from "./request.ts";

/** Tokens of one picture. */
export const reduxTokenCount = ({ config }: ReduxPrior): number => siglipPatches(config.encoder);

/** How pictures are read: where, stopped and reported by whom, and what of the weights may be on the device. */
export interface ReduxReading {
  /** Where it computes. */
  readonly device: Device;
  /** What stops it and hears of it. */
  readonly request: Watching;
  /** How the weights are brought in. */
  readonly loading: EnsureOptions;
  /** Whether they stay. */
  readonly keepLoaded: boolean;
}

/**
 * pictures → the sum of their tokens [1, l, textWidth], each times strength and scale. Owned by the caller.
 * Throws RequestError where there is no Redux.
 */
export async function reduxTokens(
  redux: LazyModel<ReduxPrior> | undefined,
  pictures: readonly ReduxPicture[],
  { device, request, loading, keepLoaded }: ReduxReading,
): Promise<Tensor> {
  if (!redux) throw new RequestError("generate", noRedux);
  const { signal, onProgress } = request;
  try {
    const model = await redux.ensure(device, loading);
    using sum = hold<TokenSum>({});
    for (const { image, strength = 1, scale = 1 } of pictures) {
      onProgress?.({ stage: "encode" });
      using pixels = hold(siglipPixels(device, image, model.config.encoder));
      using one = hold(await runBlocksAsync(device, model.run(pixels.value), { signal, ...redux.driver(signal) }));
      sum.update((before) => plusTokens(before, one.value, strength * scale));
    }
    return sum.release().tokens!;
  } finally {
    await redux.settle();
    if (!keepLoaded) redux.release();
  }
}

/** Tokens of the pictures read so far. */
export interface TokenSum {
  /** [1, l, textWidth]; absent before the first. */
  readonly tokens?: Tensor;
}

/** The sum with another picture's tokens [1, l, textWidth] times a number. */
export function plusTokens({ tokens }: TokenSum, one: Tensor, weight: number): TokenSum {
  const weighed = one.mul(weight);
  return { tokens: tokens ? tokens.add(weighed) : weighed };
}

/** Text and its pooled vector times the sums of the scales, the pictures' tokens [1, l, textWidth] after the text. */
export function withPictures({ text, pooled }: FluxEmbeddings, tokens: Tensor, pictures: readonly ReduxPicture[]): FluxEmbeddings {
  const sum = (of: (picture: ReduxPicture) => number) => pictures.reduce((total, picture) => total + of(picture), 0);
  return scope(() => ({
    text: cat([text.mul(sum(({ scale = 1 }) => scale)), tokens], 1),
    pooled: pooled.mul(sum(({ pooledScale = 1 }) => pooledScale)),
  }));
}
