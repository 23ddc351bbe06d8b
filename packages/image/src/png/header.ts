// The first chunk of a PNG: size and pixel format, checked before anything is allocated.
import { ImageFormatError } from "../errors.ts";
import { checkSize } from "../image.ts";
import type { PngChunk } from "./chunks.ts";

/** What IHDR says. */
export interface PngHeader {
  readonly width: number;
  readonly height: number;
  /** Bits per sample. */
  readonly depth: number;
  /** Samples per pixel: 1 grey or palette, 2 grey and alpha, 3 RGB, 4 RGBA. */
  readonly channels: number;
  readonly isPalette: boolean;
  readonly isInterlaced: boolean;
}

/** A run of scan lines: the whole picture, or one of the seven passes of an interlaced one. */
export interface Pass {
  readonly x: number;
  readonly y: number;
  readonly stepX: number;
  readonly stepY: number;
  readonly width: number;
  readonly height: number;
  readonly rowBytes: number;
}

const channelsOf: Record<number, number> = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 };
const depthsOf: Record<number, readonly number[]> = { 0: [1, 2, 4, 8, 16], 2: [8, 16], 3: [1, 2, 4, 8], 4: [8, 16], 6: [8, 16] };
// x, y, step in x, step in y of Adam7. Specification: W3C PNG, section 8.
const adam7 = [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]] as const; // biome-ignore format: one table

/** Reads IHDR. Throws `ImageFormatError` for a pixel format that does not exist, `ImageSizeError` beyond `maxPixels`. */
export function parseHeader(op: string, chunk: PngChunk | undefined, maxPixels: number): PngHeader {
  if (chunk?.type !== "IHDR" || chunk.data.length !== 13) {
    throw new ImageFormatError(op, `the first chunk must be IHDR of 13 bytes, it is ${chunk?.type} of ${chunk?.data.length}`);
  }
  const view = new DataView(chunk.data.buffer, chunk.data.byteOffset, 13);
  const [depth = 0, colour = 0, compression, filter, interlace] = chunk.data.subarray(8);
  if (!depthsOf[colour]?.includes(depth) || compression !== 0 || filter !== 0 || (interlace !== 0 && interlace !== 1)) {
    const found = `depth ${depth}, colour type ${colour}, compression ${compression}, filter ${filter}, interlace ${interlace}`;
    throw new ImageFormatError(op, `no such PNG pixel format: ${found}`);
  }
  const [width, height] = [view.getUint32(0), view.getUint32(4)];
  checkSize(op, width, height, maxPixels);
  return { width, height, depth, channels: channelsOf[colour]!, isPalette: colour === 3, isInterlaced: interlace === 1 };
}

/** The runs of scan lines in file order; empty ones are left out. */
export function passesOf({ width, height, depth, channels, isInterlaced }: PngHeader): Pass[] {
  const grid = isInterlaced ? adam7 : ([[0, 0, 1, 1]] as const);
  const passes = grid.map(([x, y, stepX, stepY]) => {
    const columns = Math.ceil((width - x) / stepX);
    const rows = Math.ceil((height - y) / stepY);
    return { x, y, stepX, stepY, width: columns, height: rows, rowBytes: Math.ceil((columns * channels * depth) / 8) };
  });
  return passes.filter((pass) => pass.width > 0 && pass.height > 0);
}
