// PNG in: every colour type, depth and interlacing, to 8-bit RGB with alpha where the file has it. Colour profiles are ignored.
// fast-png was measured and is the tests' second opinion; it inflates without a limit and misreads interlaced pictures under 8 bits.
import { ImageFormatError } from "../errors.ts";
import { defaultMaxPixels, type Image } from "../image.ts";
import { type PngChunk, readChunks } from "./chunks.ts";
import { predict } from "./filter.ts";
import { type PngHeader, parseHeader, passesOf } from "./header.ts";
import { inflateBounded } from "./inflate.ts";
import { collectText } from "./text.ts";

/** A decoded PNG: the picture and its texts. */
export interface DecodedPng extends Image {
  /** The texts by keyword. */
  readonly text: Record<string, string>;
}

/** Options of the decoders. */
export interface DecodeOptions {
  /** Largest width * height accepted; 2^26 by default. */
  maxPixels?: number;
}

type Samples = Uint8Array | Uint16Array;
const op = "decodePng";

/** Decodes a PNG. Throws `ImageFormatError` for a cut or damaged file, `ImageSizeError` for one with too many pixels. */
export function decodePng(bytes: Uint8Array, options: DecodeOptions = {}): DecodedPng {
  const source = readChunks(op, bytes);
  const first = source.next();
  const header = parseHeader(op, first.done ? undefined : first.value, options.maxPixels ?? defaultMaxPixels);
  const chunks = [...source];
  const samples = readSamples(header, inflatePixels(header, chunks));
  const palette = chunks.find((chunk) => chunk.type === "PLTE")?.data;
  const transparency = chunks.find((chunk) => chunk.type === "tRNS")?.data;
  const { width, height } = header;
  const pixels = header.isPalette ? fromPalette(samples, palette, transparency) : fromChannels(header, samples, transparency);
  return { width, height, ...pixels, text: collectText(op, chunks) };
}

function inflatePixels(header: PngHeader, chunks: readonly PngChunk[]): Uint8Array {
  const parts = chunks.filter((chunk) => chunk.type === "IDAT").map((chunk) => chunk.data);
  if (parts.length === 0) throw new ImageFormatError(op, "the file has no IDAT chunk, so no pixels");
  const packed = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    packed.set(part, at);
    at += part.length;
  }
  const neededBytes = passesOf(header).reduce((sum, pass) => sum + pass.height * (pass.rowBytes + 1), 0);
  const raw = inflateBounded(op, "the pixel data", packed, neededBytes);
  if (raw.length >= neededBytes) return raw;
  throw new ImageFormatError(op, `the pixel data has ${raw.length} bytes, ${header.width} x ${header.height} pixels need ${neededBytes}`);
}

// All samples at their own depth, pixel by pixel.
function readSamples(header: PngHeader, raw: Uint8Array): Samples {
  const { width, height, channels, depth } = header;
  const samples: Samples = depth === 16 ? new Uint16Array(width * height * channels) : new Uint8Array(width * height * channels);
  const step = Math.max(1, (channels * depth) / 8);
  let at = 0;
  for (const pass of passesOf(header)) {
    let above = new Uint8Array(pass.rowBytes);
    for (let row = 0; row < pass.height; row++) {
      const filter = raw[at]!;
      if (filter > 4) throw new ImageFormatError(op, `row ${row} has unknown filter ${filter}`);
      const line = raw.subarray(at + 1, at + 1 + pass.rowBytes) as Uint8Array<ArrayBuffer>;
      unfilter(filter, line, above, step);
      const start = (pass.y + row * pass.stepY) * width + pass.x;
      for (let i = 0; i < pass.width * channels; i++) {
        const pixel = start + Math.floor(i / channels) * pass.stepX;
        samples[pixel * channels + (i % channels)] = sampleAt(line, i, depth);
      }
      above = line;
      at += 1 + pass.rowBytes;
    }
  }
  return samples;
}

function unfilter(filter: number, line: Uint8Array, above: Uint8Array, step: number): void {
  if (filter === 0) return;
  for (let i = 0; i < line.length; i++) {
    const left = i < step ? 0 : line[i - step]!;
    const corner = i < step ? 0 : above[i - step]!;
    line[i] = line[i]! + predict(filter, left, above[i]!, corner);
  }
}

function sampleAt(line: Uint8Array, index: number, depth: number): number {
  if (depth === 8) return line[index]!;
  if (depth === 16) return (line[index * 2]! << 8) | line[index * 2 + 1]!;
  const bit = index * depth;
  return (line[bit >> 3]! >> (8 - depth - (bit & 7))) & ((1 << depth) - 1);
}

function fromPalette(indices: Samples, palette: Uint8Array | undefined, opacity: Uint8Array | undefined): Pick<Image, "rgb" | "alpha"> {
  if (palette === undefined || palette.length === 0 || palette.length % 3 !== 0) {
    throw new ImageFormatError(op, `a palette picture needs a PLTE chunk of colours, it has ${palette?.length ?? "none"}`);
  }
  const rgb = new Uint8Array(indices.length * 3);
  const alpha = opacity && new Uint8Array(indices.length);
  for (let i = 0; i < indices.length; i++) {
    const index = indices[i]!;
    if (index * 3 >= palette.length)
      throw new ImageFormatError(op, `pixel ${i} has colour ${index}, the palette has ${palette.length / 3}`);
    rgb.set(palette.subarray(index * 3, index * 3 + 3), i * 3);
    if (alpha) alpha[i] = opacity[index] ?? 255;
  }
  return alpha ? { rgb, alpha } : { rgb };
}

function fromChannels(header: PngHeader, samples: Samples, transparency: Uint8Array | undefined): Pick<Image, "rgb" | "alpha"> {
  const { channels, depth } = header;
  const pixels = samples.length / channels;
  const colours = channels < 3 ? 1 : 3;
  const hasAlpha = channels % 2 === 0;
  const key = hasAlpha ? undefined : transparentKey(transparency, colours);
  const rgb = new Uint8Array(pixels * 3);
  const alpha = hasAlpha || key ? new Uint8Array(pixels) : undefined;
  for (let i = 0; i < pixels; i++) {
    const at = i * channels;
    for (let c = 0; c < 3; c++) rgb[i * 3 + c] = toByte(samples[at + (colours === 1 ? 0 : c)]!, depth);
    if (alpha) alpha[i] = key ? (key.every((value, c) => samples[at + c] === value) ? 0 : 255) : toByte(samples[at + colours]!, depth);
  }
  return alpha ? { rgb, alpha } : { rgb };
}

// The one colour that is fully transparent, at the file's own depth.
function transparentKey(data: Uint8Array | undefined, colours: number): number[] | undefined {
  if (data === undefined) return undefined;
  if (data.length !== colours * 2)
    throw new ImageFormatError(op, `the tRNS chunk has ${data.length} bytes, this picture needs ${colours * 2}`);
  return Array.from({ length: colours }, (_, c) => (data[c * 2]! << 8) | data[c * 2 + 1]!);
}

function toByte(sample: number, depth: number): number {
  if (depth === 8) return sample;
  return Math.round((sample * 255) / ((1 << depth) - 1));
}
