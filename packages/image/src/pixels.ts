// Between bytes and a model's numbers: [3, h, w] floats in -1..1, with the rounding of the reference pipelines.
// Reference: huggingface/diffusers src/diffusers/image_processor.py (normalize, denormalize, numpy_to_pil).
import { ImageSizeError, ImageValueError } from "./errors.ts";
import { checkImage, checkSize, type Image } from "./image.ts";

/** A picture as floats in -1..1, shape [3, h, w], in f32 steps: value / 255, then 2 x - 1. Alpha is left out: `flatten` first. */
export function toPixels(image: Image): Float32Array {
  checkImage("toPixels", image);
  const area = image.width * image.height;
  const pixels = new Float32Array(area * 3);
  for (let i = 0; i < area; i++) {
    for (let c = 0; c < 3; c++) pixels[c * area + i] = 2 * Math.fround(image.rgb[i * 3 + c]! / 255) - 1;
  }
  return pixels;
}

/**
 * Floats of shape [3, h, w] as a picture: x / 2 + 0.5, clamped to 0..1, times 255, rounded half to even, each step in f32.
 * Throws `ImageSizeError` for a wrong length and `ImageValueError` when a value is NaN.
 */
export function fromPixels(pixels: Float32Array, width: number, height: number): Image {
  checkSize("fromPixels", width, height);
  const area = width * height;
  if (pixels.length !== area * 3) {
    throw new ImageSizeError("fromPixels", `${pixels.length} values do not fill [3, ${height}, ${width}], which has ${area * 3}`);
  }
  const rgb = new Uint8Array(area * 3);
  let nanCount = 0;
  for (let i = 0; i < area; i++) {
    for (let c = 0; c < 3; c++) {
      const value = pixels[c * area + i]!;
      if (Number.isNaN(value)) nanCount++;
      rgb[i * 3 + c] = toByte(value);
    }
  }
  if (nanCount === 0) return { width, height, rgb };
  const detail = `${nanCount} of ${pixels.length} values are NaN: [3, ${height}, ${width}]`;
  throw new ImageValueError("fromPixels", `${detail}; the model overflowed on the way: try dtype f32 or bf16`);
}

function toByte(value: number): number {
  const unit = Math.fround(Math.fround(value * 0.5) + 0.5);
  return roundHalfToEven(Math.fround(Math.min(1, Math.max(0, unit)) * 255));
}

function roundHalfToEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}
