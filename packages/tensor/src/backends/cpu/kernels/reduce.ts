// reduce and scan: f64 accumulators, one pass (two for var and logSumExp) over blocks of the reduced dimensions.
import { isFloat } from "../../../dtype.ts";
import type { Kernel, OpTable, ReduceKind } from "../../../ops/table.ts";
import type { View } from "../../../view.ts";
import { type Block, blockLength, Reader, readFloats, readInts, rowOffsets, writeBlock } from "./access.ts";

type Attrs = OpTable["reduce"]["attrs"];
/** Gives every block of the reduced elements in order, with the position of its first element. */
type Feed = (visit: (values: Block, count: number, position: number) => void) => void;

/** out = x reduced over its last `reduceRank` dimensions, see the op table. */
export const reduce: Kernel<"reduce"> = (out, { x }, attrs) => {
  const { shape } = x.layout;
  const lead = shape.length - attrs.reduceRank;
  const length = shape.slice(lead).reduce((n, d) => n * d, 1);
  const count = shape.slice(0, lead).reduce((n, d) => n * d, 1);
  const results = isFloat(out.dtype) ? new Float32Array(1) : new Int32Array(1);
  const feed = feeder(x, length);
  for (let i = 0; i < count; i++) {
    results[0] = reduceOne(feed(i), length, attrs, isFloat(x.dtype), x.dtype === "u32");
    writeBlock(out, out.layout.offset + i, 1, results, 0, 1);
  }
};

/** Blocks of the i-th stretch of `length` elements of a view. */
function feeder(x: View, length: number): (i: number) => Feed {
  const reader = new Reader(x);
  const block = isFloat(x.dtype) ? new Float32Array(Math.min(blockLength, length)) : new Int32Array(Math.min(blockLength, length));
  return (i) => (visit) => {
    for (let done = 0; done < length; done += blockLength) {
      const n = Math.min(blockLength, length - done);
      if (block instanceof Float32Array) reader.floats(i * length + done, n, block);
      else reader.ints(i * length + done, n, block);
      visit(block, n, done);
    }
  };
}

function reduceOne(feed: Feed, length: number, { kind, correction, p }: Attrs, float: boolean, unsigned: boolean): number {
  switch (kind) {
    case "sum":
    case "mean": {
      const sum = fold(feed, 0, unsigned ? (s, v) => s + (v >>> 0) : (s, v) => s + v);
      return kind === "mean" ? sum / length : sum;
    }
    case "prod":
      return fold(feed, 1, float ? (s, v) => s * v : Math.imul);
    case "max":
    case "min":
    case "argmax":
    case "argmin":
      return extreme(feed, kind, float, unsigned);
    case "var":
      return variance(feed, length, correction);
    case "logSumExp":
      return logSumExp(feed);
    case "norm":
      return vectorNorm(feed, p);
    case "any":
      return fold(feed, 0, (s, v) => (v !== 0 ? 1 : s));
    case "all":
      return fold(feed, 1, (s, v) => (v === 0 ? 0 : s));
  }
}

function fold(feed: Feed, start: number, step: (sum: number, value: number) => number): number {
  let sum = start;
  feed((values, count) => {
    for (let i = 0; i < count; i++) sum = step(sum, values[i]!);
  });
  return sum;
}

/** Largest or smallest value, or its first position; NaN beats everything. Over nothing: the identity, position 0. */
function extreme(feed: Feed, kind: ReduceKind, float: boolean, unsigned: boolean): number {
  const sign = kind === "max" || kind === "argmax" ? 1 : -1;
  let best = Number.NEGATIVE_INFINITY;
  let at = -1;
  feed((values, count, position) => {
    for (let i = 0; i < count; i++) {
      const v = sign * (unsigned ? values[i]! >>> 0 : values[i]!);
      if (at < 0 || v > best || (Number.isNaN(v) && !Number.isNaN(best))) {
        best = v;
        at = position + i;
      }
    }
  });
  if (kind === "argmax" || kind === "argmin") return Math.max(0, at);
  if (at >= 0 || float) return sign * best;
  return unsigned ? (sign > 0 ? 0 : 0xffffffff) : sign > 0 ? -2147483648 : 2147483647;
}

function variance(feed: Feed, length: number, correction: number): number {
  const mean = fold(feed, 0, (s, v) => s + v) / length;
  return fold(feed, 0, (s, v) => s + (v - mean) * (v - mean)) / Math.max(0, length - correction);
}

function logSumExp(feed: Feed): number {
  const top = fold(feed, Number.NEGATIVE_INFINITY, Math.max);
  const shift = Math.abs(top) === Number.POSITIVE_INFINITY ? 0 : top;
  return Math.log(fold(feed, 0, (s, v) => s + Math.exp(v - shift))) + shift;
}

function vectorNorm(feed: Feed, p: number): number {
  if (p === Number.POSITIVE_INFINITY) return fold(feed, 0, (s, v) => Math.max(s, Math.abs(v)));
  if (p === Number.NEGATIVE_INFINITY) return fold(feed, Number.POSITIVE_INFINITY, (s, v) => Math.min(s, Math.abs(v)));
  if (p === 0) return fold(feed, 0, (s, v) => (v !== 0 ? s + 1 : s));
  if (p === 1) return fold(feed, 0, (s, v) => s + Math.abs(v));
  if (p === 2) return Math.sqrt(fold(feed, 0, (s, v) => s + v * v));
  return fold(feed, 0, (s, v) => s + Math.abs(v) ** p) ** (1 / p);
}

/** Running sum or product along the last dimension, see the op table. */
export const scan: Kernel<"scan"> = (out, { x }, { kind }) => {
  const width = x.layout.shape.at(-1)!;
  const { rows, at } = rowOffsets(x.layout);
  const float = isFloat(x.dtype);
  const block: Block = float ? new Float32Array(width) : new Int32Array(width);
  const step = x.layout.strides.at(-1)!;
  for (let row = 0; row < rows; row++) {
    if (block instanceof Float32Array) readFloats(x, at(row), step, block, 0, width);
    else readInts(x, at(row), step, block, 0, width);
    accumulate(block, kind, float);
    writeBlock(out, out.layout.offset + row * width, 1, block, 0, width);
  }
};

function accumulate(block: Block, kind: "sum" | "prod", float: boolean): void {
  let total = kind === "sum" ? 0 : 1;
  for (let i = 0; i < block.length; i++) {
    const v = block[i]!;
    total = kind === "sum" ? total + v : float ? total * v : Math.imul(total, v);
    block[i] = total;
  }
}
