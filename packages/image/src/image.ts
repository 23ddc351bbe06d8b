// The picture of this package: 8-bit RGB, rows from the top, no padding; alpha only where a decoded file had it.
import { ImageSizeError } from "./errors.ts";

/** An RGB picture; `rgb` has width * height * 3 bytes, row by row. */
export interface Image {
  /** In pixels. */
  readonly width: number;
  /** In pixels. */
  readonly height: number;
  /** Red, green, blue of every pixel, from the top left, row by row. */
  readonly rgb: Uint8Array;
  /** Straight (not premultiplied) opacity, width * height bytes, where the picture has any. */
  readonly alpha?: Uint8Array;
}

/** A colour as red, green, blue in 0..255. */
export type Rgb = readonly [number, number, number];

/** Most pixels a decoder accepts unless told otherwise: 8192 x 8192. */
export const defaultMaxPixels = 2 ** 26;

/** Throws `ImageSizeError` unless the sizes are whole, positive and match the arrays. */
export function checkImage(op: string, image: Image): void {
  const { width, height, rgb, alpha } = image;
  checkSize(op, width, height);
  const pixels = width * height;
  if (rgb.length !== pixels * 3)
    throw new ImageSizeError(op, `rgb has ${rgb.length} bytes, ${width} x ${height} pixels need ${pixels * 3}`);
  if (alpha !== undefined && alpha.length !== pixels) {
    throw new ImageSizeError(op, `alpha has ${alpha.length} bytes, ${width} x ${height} pixels need ${pixels}`);
  }
}

/** Throws `ImageSizeError` unless width and height are whole, positive, and at most `maxPixels` together. */
export function checkSize(op: string, width: number, height: number, maxPixels = 2 ** 30): void {
  const whole = Number.isSafeInteger(width) && Number.isSafeInteger(height) && width > 0 && height > 0;
  if (!whole) throw new ImageSizeError(op, `width and height must be whole numbers above 0: ${width} x ${height}`);
  if (width * height > maxPixels) {
    throw new ImageSizeError(
      op,
      `too many pixels: ${width} x ${height}, the limit is ${maxPixels}; pass a larger maxPixels if this is meant`,
    );
  }
}

/** Lays a picture with alpha over a plain colour; without alpha it is returned as it is. */
export function flatten(image: Image, background: Rgb = [255, 255, 255]): Image {
  checkImage("flatten", image);
  const { width, height, rgb, alpha } = image;
  if (alpha === undefined) return image;
  const flat = new Uint8Array(rgb.length);
  for (let i = 0; i < flat.length; i++) {
    const opacity = alpha[Math.floor(i / 3)]!;
    flat[i] = Math.round((rgb[i]! * opacity + background[i % 3]! * (255 - opacity)) / 255);
  }
  return { width, height, rgb: flat };
}
