// softmax and log-softmax along the last dimension, in f64 per row.
import type { Kernel } from "../../../ops/table.ts";
import { rowReader, writeBlock } from "./access.ts";

/** out = softmax(x) or log-softmax(x) over the last dimension, see the op table. */
export const softmax: Kernel<"softmax"> = (out, { x }, { log }) => {
  const { rows, width, read } = rowReader(x);
  if (width === 0) return;
  const row = new Float32Array(width);
  for (let r = 0; r < rows; r++) {
    read(r, row);
    if (log) logSoftmaxRow(row);
    else softmaxRow(row, width);
    writeBlock(out, out.layout.offset + r * width, 1, row, 0, width);
  }
};

/** Largest of the first `count` values; NaN if any is. */
export function largest(row: Float32Array, count: number): number {
  let top = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < count; i++) top = Math.max(top, row[i]!);
  return top;
}

/** Replaces the first `count` values by their softmax; only -inf gives NaN. */
export function softmaxRow(row: Float32Array, count: number): void {
  const top = largest(row, count);
  let sum = 0;
  for (let i = 0; i < count; i++) sum += Math.exp(row[i]! - top);
  for (let i = 0; i < count; i++) row[i] = Math.exp(row[i]! - top) / sum;
}

function logSoftmaxRow(row: Float32Array): void {
  const top = largest(row, row.length);
  let sum = 0;
  for (const v of row) sum += Math.exp(v - top);
  const shift = top + Math.log(sum);
  for (let i = 0; i < row.length; i++) row[i] = row[i]! - shift;
}
