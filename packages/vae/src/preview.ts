// A picture of latents without a network: one linear map from 16 channels to red, green and blue, one pixel per latent.
import { ShapeError, scope, type Tensor } from "@wick/tensor";

/** A linear map from latent channels to colours in -1…1. */
export interface RgbFactors {
  /** One row [red, green, blue] per latent channel. */
  readonly weights: readonly (readonly [number, number, number])[];
  /** Added to the weighted sum. */
  readonly bias: readonly [number, number, number];
}

/**
 * Of the FLUX.1 and Z-Image latents: constants fitted and published by Comfy-Org/ComfyUI, comfy/latent_formats.py (class Flux), used as well by
 * leejet/stable-diffusion.cpp, latent-preview.h.
 */
export const flux1Rgb: RgbFactors = {
  // biome-ignore format: a table
  weights: [
    [-0.0346,  0.0244,  0.0681], [ 0.0034,  0.0210,  0.0687], [ 0.0275, -0.0668, -0.0433], [-0.0174,  0.0160,  0.0617],
    [ 0.0859,  0.0721,  0.0329], [ 0.0004,  0.0383,  0.0115], [ 0.0405,  0.0861,  0.0915], [-0.0236, -0.0185, -0.0259],
    [-0.0245,  0.0250,  0.1180], [ 0.1008,  0.0755, -0.0421], [-0.0515,  0.0201,  0.0011], [ 0.0428, -0.0012, -0.0036],
    [ 0.0817,  0.0765,  0.0749], [-0.1264, -0.0522, -0.1103], [-0.0280, -0.0881, -0.0499], [-0.1262, -0.0982, -0.0778],
  ],
  bias: [-0.0329, -0.0718, -0.0851],
};

/** model latents [b, c, h, w] → rough image [b, 3, h, w] in -1…1, for progress while sampling. Throws ShapeError for other channel counts. */
export function latentPreview(latents: Tensor, { weights, bias }: RgbFactors = flux1Rgb): Tensor {
  if (latents.rank !== 4 || latents.dim(1) !== weights.length) {
    throw new ShapeError("latentPreview", `latents are [b, ${weights.length}, h, w]: ${latents}`);
  }
  return scope(() => {
    const [, , rows, columns] = latents.dims(4);
    const toRgb = latents.device.tensor(weights.flat(), [weights.length, 3]);
    const pixels = latents.rearrange("b c h w -> b (h w) c").matmul(toRgb);
    const image = pixels.add(latents.device.tensor([...bias])).clamp(-1, 1);
    return image.rearrange("b (h w) c -> b c h w", { h: rows, w: columns }).contiguous();
  });
}
