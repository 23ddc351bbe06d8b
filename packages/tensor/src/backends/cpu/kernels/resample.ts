// pool, resample and filter: windows and interpolation over the planes of images. Coordinates are computed in f32, as torch does.
import { isFloat } from "../../../dtype.ts";
import type { Kernel, OpTable } from "../../../ops/table.ts";
import type { View } from "../../../view.ts";
import { readFloats, storageOf, writeBlock } from "./access.ts";

type Pool = OpTable["pool"]["attrs"];
/** Computes one output plane from one input plane. */
type PlaneStep = (plane: Float32Array, result: Float32Array) => void;

function eachPlane(out: Parameters<Kernel<"pool">>[0], x: Parameters<Kernel<"pool">>[0], step: PlaneStep): void {
  const [b, c, h, w] = x.layout.shape as [number, number, number, number];
  const [oh, ow] = out.layout.shape.slice(2) as [number, number];
  const plane = new Float32Array(h * w);
  const result = new Float32Array(oh * ow);
  for (let i = 0; i < b * c; i++) {
    readFloats(x, x.layout.offset + i * plane.length, 1, plane, 0, plane.length);
    step(plane, result);
    const values = isFloat(out.dtype) ? result : Int32Array.from(result);
    writeBlock(out, out.layout.offset + i * result.length, 1, values, 0, result.length);
  }
}

/** out = largest or mean value of each window of x, see the op table. */
export const pool: Kernel<"pool"> = (out, { x }, attrs) => {
  const [h, w] = x.layout.shape.slice(2) as [number, number];
  const [oh, ow] = out.layout.shape.slice(2) as [number, number];
  eachPlane(out, x, (plane, result) => {
    for (let y = 0; y < oh; y++) for (let i = 0; i < ow; i++) result[y * ow + i] = poolWindow(plane, h, w, y, i, attrs);
  });
};

function poolWindow(plane: Float32Array, h: number, w: number, oy: number, ox: number, attrs: Pool): number {
  const { kind, kernel, stride, padding, countPad } = attrs;
  const [y0, x0] = [oy * stride[0] - padding[0], ox * stride[1] - padding[1]];
  const [top, left] = [Math.max(0, y0), Math.max(0, x0)];
  const [bottom, right] = [Math.min(h, y0 + kernel[0]), Math.min(w, x0 + kernel[1])];
  let best = Number.NEGATIVE_INFINITY;
  let sum = 0;
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right; x++) {
      best = Math.max(best, plane[y * w + x]!);
      sum += plane[y * w + x]!;
    }
  }
  if (kind === "max") return best;
  // Torch counts padding but not what lies beyond it, which ceil-mode windows can reach.
  const padded = (Math.min(h + padding[0], y0 + kernel[0]) - y0) * (Math.min(w + padding[1], x0 + kernel[1]) - x0);
  return sum / (countPad ? padded : (bottom - top) * (right - left));
}

/** out = x at out's size, nearest or bilinear, see the op table. */
export const resample: Kernel<"resample"> = (out, { x }, { mode, alignCorners }) => {
  const [h, w] = x.layout.shape.slice(2) as [number, number];
  const [oh, ow] = out.layout.shape.slice(2) as [number, number];
  if (mode === "nearest") {
    const [rows, columns] = [nearestSources(h, oh), nearestSources(w, ow)];
    eachPlane(out, x, (plane, result) => {
      for (let y = 0; y < oh; y++) for (let i = 0; i < ow; i++) result[y * ow + i] = plane[rows[y]! * w + columns[i]!]!;
    });
    return;
  }
  const [rows, columns] = [linearSources(h, oh, alignCorners), linearSources(w, ow, alignCorners)];
  eachPlane(out, x, (plane, result) => {
    for (let y = 0; y < oh; y++) for (let i = 0; i < ow; i++) result[y * ow + i] = blend(plane, w, rows[y]!, columns[i]!);
  });
};

/** The source of each of `to` rows or columns of `size`. */
export function nearestSources(size: number, to: number): number[] {
  const scale = Math.fround(size / to);
  return Array.from({ length: to }, (_, i) => Math.min(size - 1, Math.floor(Math.fround(i * scale))));
}

interface LinearSource {
  readonly low: number;
  readonly high: number;
  readonly weight: number;
}

/** The neighbours of each of `to` rows or columns of `size`, and the weight of the second. */
export function linearSources(size: number, to: number, alignCorners: boolean): LinearSource[] {
  const scale = Math.fround(alignCorners ? (to > 1 ? (size - 1) / (to - 1) : 0) : size / to);
  return Array.from({ length: to }, (_, i) => {
    const at = alignCorners ? Math.fround(i * scale) : Math.max(0, Math.fround(Math.fround(scale * (i + 0.5)) - 0.5));
    const low = Math.min(size - 1, Math.floor(at));
    return { low, high: Math.min(size - 1, low + 1), weight: Math.fround(at - low) };
  });
}

function blend(plane: Float32Array, width: number, row: LinearSource, column: LinearSource): number {
  const top = mix(plane[row.low * width + column.low]!, plane[row.low * width + column.high]!, column.weight);
  const bottom = mix(plane[row.high * width + column.low]!, plane[row.high * width + column.high]!, column.weight);
  return mix(top, bottom, row.weight);
}

const mix = (a: number, b: number, weight: number): number => (1 - weight) * a + weight * b;

/** out = sums of x's rows or columns, see the op table. */
export const filter: Kernel<"filter"> = (out, { x, index, weight }, { dim }) => {
  const taps = tapsOf(index, weight);
  const w = x.layout.shape[3]!;
  eachPlane(out, x, (plane, result) => (dim === 3 ? sumColumns(plane, w, taps, result) : sumRows(plane, w, taps, result)));
};

/** Tap t of row or column i at t · count + i. */
export interface FilterTaps {
  readonly count: number;
  readonly picks: Int32Array;
  readonly weights: Float32Array;
}

/** The taps that operands of the filter hold. */
export function tapsOf(index: View, weight: View): FilterTaps {
  const [each, count] = index.layout.shape as [number, number];
  const { offset } = index.layout;
  const picks = Int32Array.from(storageOf(index).subarray(offset, offset + each * count) as ArrayLike<number>);
  const weights = new Float32Array(each * count);
  readFloats(weight, weight.layout.offset, 1, weights, 0, weights.length);
  return { count, picks, weights };
}

function sumColumns(plane: Float32Array, width: number, { count, picks, weights }: FilterTaps, result: Float32Array): void {
  for (let row = 0, at = 0; row < plane.length; row += width) {
    for (let i = 0; i < count; i++) {
      let sum = 0;
      for (let t = i; t < picks.length; t += count) sum += weights[t]! * plane[row + picks[t]!]!;
      result[at++] = sum;
    }
  }
}

function sumRows(plane: Float32Array, width: number, { count, picks, weights }: FilterTaps, result: Float32Array): void {
  const sums = new Float64Array(width);
  for (let i = 0; i < count; i++) {
    sums.fill(0);
    for (let t = i; t < picks.length; t += count) {
      const [row, weight] = [picks[t]! * width, weights[t]!];
      for (let j = 0; j < width; j++) sums[j]! += weight * plane[row + j]!;
    }
    result.set(sums, i * width);
  }
}
