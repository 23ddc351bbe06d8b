// JPEG, WebP and friends in: by sharp in Node (an optional package), by the browser's own decoder in browsers. PNG by ourselves.
import { DecoderMissingError, ImageFormatError, ImageSizeError } from "./errors.ts";
import { checkSize, defaultMaxPixels, type Image } from "./image.ts";
import { isPng } from "./png/chunks.ts";
import { type DecodeOptions, decodePng } from "./png/decode.ts";

const op = "decodeImage";

/** The file formats recognised by their first bytes. */
export type ImageFormat = "png" | "jpeg" | "webp" | "gif" | "avif";

/** The format that bytes start like, or `undefined`. */
export function imageFormat(bytes: Uint8Array): ImageFormat | undefined {
  const start = String.fromCharCode(...bytes.subarray(0, 12));
  if (isPng(bytes)) return "png";
  if (start.startsWith("\xff\xd8\xff")) return "jpeg";
  if (start.startsWith("RIFF") && start.slice(8) === "WEBP") return "webp";
  if (start.startsWith("GIF8")) return "gif";
  return start.slice(4) === "ftypavif" ? "avif" : undefined;
}

/**
 * Decodes a PNG, JPEG, WebP, GIF (first frame) or AVIF, upright as its EXIF data says, in sRGB. Throws `ImageFormatError` for
 * damaged or unknown bytes, `ImageSizeError` beyond `maxPixels`, `DecoderMissingError` where nothing here decodes the format.
 */
export async function decodeImage(bytes: Uint8Array, options: DecodeOptions = {}): Promise<Image> {
  const { maxPixels = defaultMaxPixels } = options;
  const format = imageFormat(bytes);
  if (format === undefined)
    throw new ImageFormatError(op, `not an image file of a known format (${bytes.length} bytes); use PNG, JPEG or WebP`);
  if (format === "png") {
    const { width, height, rgb, alpha } = decodePng(bytes, { maxPixels });
    return { width, height, rgb, ...(alpha && { alpha }) };
  }
  const browser = browserDecoder();
  const { width, height, rgba } = browser ? await browser(bytes, format, maxPixels) : await decodeWithSharp(bytes, format, maxPixels);
  return splitRgba(width, height, rgba);
}

interface Rgba {
  readonly width: number;
  readonly height: number;
  readonly rgba: Uint8Array | Uint8ClampedArray;
}

// The calls used of sharp; its types are not a dependency of ours.
interface SharpPipeline {
  metadata(): Promise<{ width: number; height: number }>;
  rotate(): SharpPipeline;
  toColourspace(space: string): SharpPipeline;
  ensureAlpha(): SharpPipeline;
  raw(options: { depth: string }): SharpPipeline;
  toBuffer(options: { resolveWithObject: true }): Promise<{ data: Uint8Array; info: { width: number; height: number } }>;
}
type Sharp = (bytes: Uint8Array, options: { limitInputPixels: number | false; failOn: string }) => SharpPipeline;

async function decodeWithSharp(bytes: Uint8Array, format: ImageFormat, maxPixels: number): Promise<Rgba> {
  const sharp = await loadSharp(format);
  try {
    // The header first: sharp's own refusal of large pictures has no name to know it by.
    const { width, height } = await sharp(bytes, { limitInputPixels: false, failOn: "truncated" }).metadata();
    checkSize(op, width, height, maxPixels);
    const pipeline = sharp(bytes, { limitInputPixels: maxPixels, failOn: "truncated" }).rotate().toColourspace("srgb").ensureAlpha();
    const { data, info } = await pipeline.raw({ depth: "uchar" }).toBuffer({ resolveWithObject: true });
    return { width: info.width, height: info.height, rgba: data };
  } catch (cause) {
    throw cause instanceof ImageSizeError ? cause : undecodable(format, cause);
  }
}

const undecodable = (format: ImageFormat, cause: unknown): ImageFormatError =>
  new ImageFormatError(op, `this ${format} does not decode: ${(cause as Error).message.split("\n")[0]}`, { cause });

async function loadSharp(format: ImageFormat): Promise<Sharp> {
  const name = "sharp"; // Not a literal in the import: bundlers must not look for an optional package.
  try {
    return ((await import(/* @vite-ignore */ name)) as { default: Sharp }).default;
  } catch (cause) {
    throw new DecoderMissingError(op, `${format} needs the optional package sharp here; npm install sharp, or convert the file to PNG`, {
      cause,
    });
  }
}

// The DOM library is not part of this build; these are the calls used of it.
interface Bitmap {
  readonly width: number;
  readonly height: number;
  close(): void;
}
interface Canvas2d {
  drawImage(bitmap: Bitmap, x: number, y: number): void;
  getImageData(x: number, y: number, width: number, height: number): { data: Uint8ClampedArray };
}
interface BrowserGlobals {
  createImageBitmap?: (blob: Blob, options: object) => Promise<Bitmap>;
  OffscreenCanvas?: new (width: number, height: number) => { getContext(kind: "2d"): Canvas2d | null };
}

function browserDecoder(): ((bytes: Uint8Array, format: ImageFormat, maxPixels: number) => Promise<Rgba>) | undefined {
  const { createImageBitmap, OffscreenCanvas } = globalThis as BrowserGlobals;
  if (createImageBitmap === undefined || OffscreenCanvas === undefined) return undefined;
  return async (bytes, format, maxPixels) => {
    const blob = new Blob([bytes as Uint8Array<ArrayBuffer>], { type: `image/${format}` });
    const bitmap = await createImageBitmap(blob, { premultiplyAlpha: "none" }).catch((cause: unknown) => {
      throw undecodable(format, cause);
    });
    try {
      const { width, height } = bitmap;
      checkSize(op, width, height, maxPixels);
      const context = new OffscreenCanvas(width, height).getContext("2d");
      if (context === null) throw new DecoderMissingError(op, `no 2d canvas in this browser for ${format}; convert the file to PNG`);
      context.drawImage(bitmap, 0, 0);
      return { width, height, rgba: context.getImageData(0, 0, width, height).data };
    } finally {
      bitmap.close();
    }
  };
}

// Alpha is kept only where some pixel is not opaque.
function splitRgba(width: number, height: number, rgba: Uint8Array | Uint8ClampedArray): Image {
  const pixels = width * height;
  const rgb = new Uint8Array(pixels * 3);
  const alpha = new Uint8Array(pixels);
  let isOpaque = true;
  for (let i = 0; i < pixels; i++) {
    rgb[i * 3] = rgba[i * 4]!;
    rgb[i * 3 + 1] = rgba[i * 4 + 1]!;
    rgb[i * 3 + 2] = rgba[i * 4 + 2]!;
    alpha[i] = rgba[i * 4 + 3]!;
    isOpaque &&= alpha[i] === 255;
  }
  return isOpaque ? { width, height, rgb } : { width, height, rgb, alpha };
}
