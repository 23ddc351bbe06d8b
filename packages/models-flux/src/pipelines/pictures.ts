// Pictures on their way into a pipeline: sizes, pixels, masks.
// After huggingface/diffusers src/diffusers/image_processor.py and pipelines/flux/pipeline_flux_{fill,inpaint,kontext}.py.
import { flatten, type Image, resize, toPixels } from "@wick/image";
import type { Device, Tensor } from "@wick/tensor";

/** Sizes Kontext was trained with (diffusers PREFERRED_KONTEXT_RESOLUTIONS, black-forest-labs/flux src/flux/util.py). */
export const kontextSizes: readonly (readonly [width: number, height: number])[] = [
  [672, 1568],
  [688, 1504],
  [720, 1456],
  [752, 1392],
  [800, 1328],
  [832, 1248],
  [880, 1184],
  [944, 1104],
  [1024, 1024],
  [1104, 944],
  [1184, 880],
  [1248, 832],
  [1328, 800],
  [1392, 752],
  [1456, 720],
  [1504, 688],
  [1568, 672],
];

export interface PictureSize {
  readonly width: number;
  readonly height: number;
}

/** The size in pixels that Kontext sees a picture in: the trained one of the nearest aspect ratio, or its own in multiples of 16. */
export function kontextSize({ width, height }: PictureSize, fit: boolean): PictureSize {
  const multiple = 16;
  const floored = (side: number) => Math.max(multiple, Math.floor(side / multiple) * multiple);
  if (!fit) return { width: floored(width), height: floored(height) };
  const aspect = width / height;
  const distance = ([w, h]: readonly [number, number]) => Math.abs(aspect - w / h);
  const [w, h] = kontextSizes.reduce((best, size) => (distance(size) < distance(best) ? size : best));
  return { width: w, height: h };
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
