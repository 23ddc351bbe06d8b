// PNG out: 8-bit RGB or RGBA, each row with the filter that leaves the smallest differences, texts before the pixels.
// One deflate (fflate) everywhere, so Node and browsers write the same bytes.
import { zlibSync } from "fflate";
import { checkImage, type Image } from "../image.ts";
import { writeChunks } from "./chunks.ts";
import { predict } from "./filter.ts";
import { textChunk } from "./text.ts";

/** Options of `encodePng`. */
export interface EncodePngOptions {
  /** Texts to store by keyword: tEXt where Latin-1 suffices, iTXt otherwise. */
  text?: Readonly<Record<string, string>>;
  /** Deflate effort from 0 (none) to 9; 6 by default. */
  level?: 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9;
}

/** Encodes a picture as PNG (RGBA when it has alpha). Throws `ImageSizeError` or, for a bad keyword, `ImageValueError`. */
export function encodePng(image: Image, options: EncodePngOptions = {}): Uint8Array {
  checkImage("encodePng", image);
  const texts = Object.entries(options.text ?? {}).map(([keyword, text]) => textChunk(keyword, text));
  const pixels = zlibSync(filterRows(image), { level: options.level ?? 6 });
  return writeChunks([{ type: "IHDR", data: header(image) }, ...texts, { type: "IDAT", data: pixels }]);
}

function header({ width, height, alpha }: Image): Uint8Array {
  const data = new Uint8Array(13);
  const view = new DataView(data.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  data.set([8, alpha ? 6 : 2, 0, 0, 0], 8);
  return data;
}

function filterRows(image: Image): Uint8Array {
  const { width, height } = image;
  const step = image.alpha ? 4 : 3;
  const rowBytes = width * step;
  const pixels = image.alpha ? withAlpha(image.rgb, image.alpha) : image.rgb;
  const filtered = new Uint8Array(height * (rowBytes + 1));
  const trial = new Uint8Array(rowBytes);
  let above = new Uint8Array(rowBytes);
  for (let y = 0; y < height; y++) {
    const row = pixels.subarray(y * rowBytes, (y + 1) * rowBytes);
    const target = filtered.subarray(y * (rowBytes + 1), (y + 1) * (rowBytes + 1));
    let least = Number.POSITIVE_INFINITY;
    for (let filter = 0; filter < 5; filter++) {
      const cost = applyFilter(filter, row, above, step, trial, least);
      if (cost >= least) continue;
      least = cost;
      target[0] = filter;
      target.set(trial, 1);
    }
    above = row as Uint8Array<ArrayBuffer>;
  }
  return filtered;
}

// Writes one filtered row and returns the sum of its absolute values as signed bytes: the usual guess at what deflates best.
// Stops early once the sum reaches `limit`.
function applyFilter(filter: number, row: Uint8Array, above: Uint8Array, step: number, out: Uint8Array, limit: number): number {
  let cost = 0;
  for (let i = 0; i < row.length && cost < limit; i++) {
    const left = i < step ? 0 : row[i - step]!;
    const up = above[i]!;
    const corner = i < step ? 0 : above[i - step]!;
    const value = (row[i]! - predict(filter, left, up, corner)) & 0xff;
    out[i] = value;
    cost += value < 128 ? value : 256 - value;
  }
  return cost;
}

function withAlpha(rgb: Uint8Array, alpha: Uint8Array): Uint8Array {
  const rgba = new Uint8Array(alpha.length * 4);
  for (let i = 0; i < alpha.length; i++) {
    rgba[i * 4] = rgb[i * 3]!;
    rgba[i * 4 + 1] = rgb[i * 3 + 1]!;
    rgba[i * 4 + 2] = rgb[i * 3 + 2]!;
    rgba[i * 4 + 3] = alpha[i]!;
  }
  return rgba;
}
