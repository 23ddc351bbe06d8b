// Start pictures and masks: what image-to-image and inpainting add to a run.
// After huggingface/diffusers src/diffusers/pipelines/{z_image,flux}/pipeline_*_{img2img,inpaint}.py and image_processor.py.
import { flatten, type Image, resize, toPixels } from "@wick/image";
import { type Device, scope, type Tensor } from "@wick/tensor";

/** Of a picture, in pixels. */
export interface PictureSize {
  /** In pixels. */
  readonly width: number;
  /** In pixels. */
  readonly height: number;
}

/** A picture scaled to a size: [1, 3, h, w] in -1…1. What is transparent counts as white. */
export function pixelTensor(device: Device, image: Image, { width, height }: PictureSize): Tensor {
  return device.tensor(toPixels(resize(flatten(image), width, height)), [1, 3, height, width], { label: "pixels" });
}

/** A mask scaled to a size, as 0 and 1 by pixel, row by row: 1 where its grey is at least half. Grey as Pillow computes it. */
export function binaryMask(mask: Image, { width, height }: PictureSize): Float32Array {
  const { rgb } = resize(flatten(mask), width, height);
  return Float32Array.from({ length: width * height }, (_, i) => {
    const grey = (rgb[3 * i]! * 19_595 + rgb[3 * i + 1]! * 38_470 + rgb[3 * i + 2]! * 7471 + 0x8000) >> 16;
    return grey >= 127.5 ? 1 : 0;
  });
}

/** Every `factor`-th value of every `factor`-th row: torch's nearest interpolation to a smaller grid. */
export function nearestCells(mask: Float32Array, { width, height }: PictureSize, factor: number): Float32Array {
  const [columns, rows] = [width / factor, height / factor];
  return Float32Array.from({ length: rows * columns }, (_, i) => mask[Math.floor(i / columns) * factor * width + (i % columns) * factor]!);
}

/** A mask as [1, 1, h / factor, w / factor] over latents: 1 is made anew, 0 is kept. */
export function latentMask(device: Device, mask: Image, size: PictureSize, factor: number): Tensor {
  const cells = nearestCells(binaryMask(mask, size), size, factor);
  return device.tensor(cells, [1, 1, size.height / factor, size.width / factor], { label: "mask" });
}

/** Clean latents at a noise level: sigma · noise + (1 - sigma) · clean, the order and rounding of scale_noise. */
export const atNoiseLevel = (clean: Tensor, noise: Tensor, sigma: number): Tensor =>
  scope(() => noise.mul(sigma).add(clean.mul(Math.fround(1 - sigma))));

/** Latents that keep the picture where the mask [1, 1, h, w] is 0, at their noise level; for `adjust` of `denoise`. */
export const keepKnown =
  (clean: Tensor, noise: Tensor, mask: Tensor) =>
  (latents: Tensor, sigma: number): Tensor =>
    scope(() => mask.gt(0.5).where(latents, atNoiseLevel(clean, noise, sigma)));
