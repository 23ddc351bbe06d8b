// The sizes that Kontext sees pictures in.
// After huggingface/diffusers src/diffusers/pipelines/flux/pipeline_flux_kontext.py.
import type { PictureSize } from "@wick/diffusion";

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
