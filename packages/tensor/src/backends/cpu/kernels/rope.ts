// rope: rotates pairs of the last dimension by given cosines and sines.
import type { Kernel } from "../../../ops/table.ts";
import { Reader, rowReader, writeBlock } from "./access.ts";

/** Rotates the pairs of one row of 2 n values, (2i, 2i+1) or (i, i + n), by n cosines and sines. */
export function turnPairs(row: Float32Array, cos: Float32Array, sin: Float32Array, interleaved: boolean, turned: Float32Array): void {
  const half = cos.length;
  for (let i = 0; i < half; i++) {
    const [first, second] = interleaved ? [2 * i, 2 * i + 1] : [i, i + half];
    turned[first] = row[first]! * cos[i]! - row[second]! * sin[i]!;
    turned[second] = row[second]! * cos[i]! + row[first]! * sin[i]!;
  }
}

/** out = x with its pairs rotated, see the op table. */
export const rope: Kernel<"rope"> = (out, { x, cos, sin }, { interleaved }) => {
  const { rows, width, read } = rowReader(x);
  const half = width / 2;
  const row = new Float32Array(width);
  const turned = new Float32Array(width);
  const c = new Float32Array(half);
  const s = new Float32Array(half);
  const [cosines, sines] = [new Reader(cos), new Reader(sin)];
  for (let r = 0; r < rows; r++) {
    read(r, row);
    cosines.floats(r * half, half, c);
    sines.floats(r * half, half, s);
    turnPairs(row, c, s, interleaved, turned);
    writeBlock(out, out.layout.offset + r * width, 1, turned, 0, width);
  }
};
