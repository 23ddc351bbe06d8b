// attention: one query row of scores at a time; keys and values of a head are widened to f32 once.
import type { Kernel } from "../../../ops/table.ts";
import type { View } from "../../../view.ts";
import { readFloats, readOne, writeBlock } from "./access.ts";
import { softmaxRow } from "./softmax.ts";

/** out = softmax(scale · q kᵀ + mask) v, see the op table. */
export const attention: Kernel<"attention"> = (out, { q, k, v, mask, lengths }, { scale, causal }) => {
  const [b, n, l, width] = q.layout.shape as [number, number, number, number];
  const [, m, s] = k.layout.shape as [number, number, number];
  const valueWidth = v.layout.shape[3]!;
  const keys = new Float32Array(s * width);
  const values = new Float32Array(s * valueWidth);
  const query = new Float32Array(width);
  const scores = new Float32Array(s);
  const row = new Float32Array(valueWidth);
  for (let i = 0; i < b; i++) {
    const limit = lengths ? Math.min(s, readOne(lengths, lengths.layout.offset + i * (lengths.layout.strides[0] ?? 1))) : s;
    for (let head = 0; head < n; head++) {
      readHead(k, i, Math.floor(head / (n / m)), keys);
      readHead(v, i, Math.floor(head / (n / m)), values);
      for (let t = 0; t < l; t++) {
        readFloats(q, offsetOf(q, i, head, t), q.layout.strides[3]!, query, 0, width);
        const seen = causal ? Math.min(limit, t + 1) : limit;
        const any = scoreRow(query, keys, seen, scale, scores, mask, mask ? offsetOf(mask, i, head, t) : 0);
        if (any) softmaxRow(scores, seen);
        mixRow(any ? scores : scores.fill(0), values, seen, row);
        writeBlock(out, offsetOf(out, i, head, t), 1, row, 0, valueWidth);
      }
    }
  }
};

const offsetOf = ({ layout: { offset, strides } }: View, b: number, n: number, l: number): number =>
  offset + b * strides[0]! + n * strides[1]! + l * strides[2]!;

function readHead(x: View, b: number, n: number, out: Float32Array): void {
  const [rows, width] = x.layout.shape.slice(2) as [number, number];
  for (let r = 0; r < rows; r++) readFloats(x, offsetOf(x, b, n, r), x.layout.strides[3]!, out, r * width, width);
}

/** Masked scores of one query; false when it sees no key. */
function scoreRow(
  query: Float32Array,
  keys: Float32Array,
  seen: number,
  scale: number,
  scores: Float32Array,
  mask: View | undefined,
  maskAt: number,
): boolean {
  const step = mask?.layout.strides[3] ?? 0;
  let any = false;
  for (let j = 0; j < seen; j++) {
    let sum = 0;
    for (let d = 0, at = j * query.length; d < query.length; d++) sum += query[d]! * keys[at + d]!;
    let score = sum * scale;
    if (mask?.dtype === "u8") score = readOne(mask, maskAt + j * step) !== 0 ? score : Number.NEGATIVE_INFINITY;
    else if (mask) score += readOne(mask, maskAt + j * step);
    scores[j] = score;
    any ||= scores[j] !== Number.NEGATIVE_INFINITY;
  }
  return any;
}

/** row = scores · values over the seen keys, accumulated in f64. */
function mixRow(scores: Float32Array, values: Float32Array, seen: number, row: Float32Array): void {
  const width = row.length;
  const sums = new Float64Array(width);
  for (let j = 0; j < seen; j++) {
    const p = scores[j]!;
    if (p === 0) continue;
    for (let d = 0; d < width; d++) sums[d] = sums[d]! + p * values[j * width + d]!;
  }
  row.set(sums);
}
