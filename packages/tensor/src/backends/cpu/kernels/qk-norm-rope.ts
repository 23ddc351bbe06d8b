// qkNormRope: the RMS norm of every head, then rotary positions, into the layout that attention reads.

import type { Kernel } from "../../../ops/table.ts";
import type { View } from "../../../view.ts";
import { Reader, readFloats, rowOffsets, rowReader, vectorOf, writeBlock } from "./access.ts";
import { turnPairs } from "./rope.ts";

/** out = rope(rmsNorm(x)), see the op table. */
export const qkNormRope: Kernel<"qkNormRope"> = (out, { x, weight, cos, sin }, { eps, interleaved }) => {
  const { rows, width, read } = rowReader(x);
  const { at } = rowOffsets(out.layout);
  const half = width / 2;
  const [row, turned, c, s] = [width, width, half, half].map((n) => new Float32Array(n)) as [
    Float32Array,
    Float32Array,
    Float32Array,
    Float32Array,
  ];
  const w = vectorOf(weight, width);
  const [cosines, sines] = [new Reader(cos), new Reader(sin)];
  for (let r = 0; r < rows; r++) {
    const to = at(r);
    read(r, row);
    normalise(row, w, eps);
    if (out.dtype !== "f32") roundThrough(out, to, row);
    cosines.floats(r * half, half, c);
    sines.floats(r * half, half, s);
    turnPairs(row, c, s, interleaved, turned);
    writeBlock(out, to, 1, turned, 0, width);
  }
};

function normalise(row: Float32Array, weight: Float32Array | undefined, eps: number): void {
  let sum = 0;
  for (const v of row) sum += v * v;
  const scale = 1 / Math.sqrt(sum / row.length + eps);
  for (let i = 0; i < row.length; i++) row[i] = row[i]! * scale * (weight ? weight[i]! : 1);
}

/** Rounds a row as storing it would. */
function roundThrough(out: View, to: number, row: Float32Array): void {
  writeBlock(out, to, 1, row, 0, row.length);
  readFloats(out, to, 1, row, 0, row.length);
}
