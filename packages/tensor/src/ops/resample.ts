// Pictures and rows at another size, as torch's interpolate. Nearest and bilinear are one kernel; bicubic, and filters that widen when they
// shrink, are sums of columns, then of rows, that tables made on the host pick and weigh.
// After pytorch/pytorch aten/src/ATen/native/UpSample.h and native/cpu/UpSampleKernel.cpp.
import { type DType, isFloat } from "../dtype.ts";
import { DTypeError, ShapeError } from "../errors.ts";
import type { Tensor } from "../tensor.ts";
import { checkComputable } from "./elementwise.ts";

/** How `interpolate` resamples; PyTorch's names. */
export interface ResampleOptions {
  /** How values between the samples are made: "bilinear" or "bicubic" of images, "linear" of rows. */
  readonly mode?: "nearest" | "bilinear" | "linear" | "bicubic";
  /** Corner samples stay at the corners; false by default. */
  readonly alignCorners?: boolean;
  /** Bilinear and bicubic: every sample counts when the result is smaller, as in Pillow; false by default. */
  readonly antialias?: boolean;
}

/**
 * Resamples x [b, c, h, w] to `size` [rows, columns], or x [b, c, l] to [length], as torch's interpolate.
 * Throws ShapeError for sizes that do not fit, DTypeError for filters of integers.
 */
export function interpolate(
  x: Tensor,
  size: readonly number[],
  { mode = "nearest", alignCorners = false, antialias = false }: ResampleOptions = {},
): Tensor {
  checkComputable("interpolate", x);
  const known = x.rank === 3 ? ["nearest", "linear"] : ["nearest", "bilinear", "bicubic"];
  if (!known.includes(mode)) throw new ShapeError("interpolate", `mode "${mode}" is not for ${x}; use ${quoted(known.slice(1))}`);
  const bad = size.length !== x.rank - 2 || size.some((n) => n < 1) || x.shape.slice(2).includes(0);
  if (bad) throw new ShapeError("interpolate", `cannot resample ${x} to [${size.join(", ")}]`);
  if (antialias && mode !== "bilinear" && mode !== "bicubic")
    throw new ShapeError("interpolate", `antialias is for "bilinear" and "bicubic", not "${mode}": ${x}`);
  if (x.rank === 3) return resample(x.unsqueeze(2), [1, size[0]!], mode === "nearest" ? mode : "bilinear", alignCorners).squeeze(2);
  const target = size as readonly [number, number];
  if (mode === "bicubic" || antialias) return filtered(x, target, mode as "bilinear" | "bicubic", { alignCorners, antialias });
  return resample(x, target, mode as "nearest" | "bilinear", alignCorners);
}

const quoted = (names: readonly string[]): string => names.map((n) => `"${n}"`).join(" or ");

function resample(x: Tensor, size: readonly [number, number], mode: "nearest" | "bilinear", alignCorners: boolean): Tensor {
  const [b, c] = x.dims(4);
  const out = x.device.empty([b, c, ...size], x.dtype, "interpolate");
  if (out.size > 0) x.device.backend.kernels.resample(out.view, { x: x.contiguous().view }, { mode, alignCorners });
  return out;
}

/** The samples that make each result along one dimension, and their weights: tap k of result i at k · count + i. */
interface Taps {
  readonly count: number;
  readonly index: Int32Array;
  readonly weight: Float32Array;
}

type Filter = Readonly<Required<Pick<ResampleOptions, "alignCorners" | "antialias">>>;

/** Columns first, then rows, in f32; rounded once. */
function filtered(x: Tensor, [rows, columns]: readonly [number, number], mode: "bilinear" | "bicubic", filter: Filter): Tensor {
  if (!isFloat(x.dtype))
    throw new DTypeError("interpolate", `"${mode}"${filter.antialias ? " with antialias" : ""} is for floats: ${x}; cast first`);
  const taps = (from: number, to: number) => (filter.antialias ? antialiasTaps : cubicTaps)(from, to, mode, filter.alignCorners);
  const [, , h, w] = x.dims(4);
  return alongDim(alongDim(x, 3, taps(w, columns), "f32"), 2, taps(h, rows), x.dtype);
}

/** x [b, c, h, w] with dimension `dim` made of its taps. */
function alongDim(x: Tensor, dim: 2 | 3, { count, index, weight }: Taps, dtype: DType): Tensor {
  const taps = [index.length / count, count];
  const [indices, weights] = [x.device.tensor(index, taps), x.device.tensor(weight, taps)];
  const out = x.device.empty(
    x.shape.map((n, i) => (i === dim ? count : n)),
    dtype,
    "interpolate",
  );
  const inputs = { x: x.contiguous().view, index: indices.view, weight: weights.view };
  if (out.size > 0) x.device.backend.kernels.filter(out.view, inputs, { dim });
  return out;
}

/** Distance between results in samples. */
const stepOf = (from: number, to: number, alignCorners: boolean): number =>
  alignCorners ? (to > 1 ? (from - 1) / (to - 1) : 0) : from / to;

/** Keys' cubic: -0.75 is torch's constant, -0.5 the one of Pillow that torch takes with antialias. */
function cubic(distance: number, a: number): number {
  const d = Math.abs(distance);
  if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0;
}

/** Four samples around each place; those beyond an edge are the edge's. */
function cubicTaps(from: number, to: number, _: string, alignCorners: boolean): Taps {
  const step = stepOf(from, to, alignCorners);
  const taps = { count: to, index: new Int32Array(4 * to), weight: new Float32Array(4 * to) };
  for (let i = 0; i < to; i++) {
    const at = alignCorners ? step * i : step * (i + 0.5) - 0.5;
    const left = Math.floor(at);
    for (let k = 0; k < 4; k++) {
      taps.index[k * to + i] = Math.min(from - 1, Math.max(0, left - 1 + k));
      taps.weight[k * to + i] = cubic(at - (left - 1 + k), -0.75);
    }
  }
  return taps;
}

/** All samples under a filter as wide as a step; what is beyond an edge does not count. */
function antialiasTaps(from: number, to: number, mode: "bilinear" | "bicubic", alignCorners: boolean): Taps {
  const step = stepOf(from, to, alignCorners);
  const stretch = Math.max(1, step);
  const support = (mode === "bicubic" ? 2 : 1) * stretch;
  const value = mode === "bicubic" ? (d: number) => cubic(d, -0.5) : (d: number) => Math.max(0, 1 - Math.abs(d));
  const rows = Array.from({ length: to }, (_, i) => {
    const center = step * (i + 0.5);
    const first = Math.max(0, Math.trunc(center - support + 0.5));
    const length = Math.min(from, Math.trunc(center + support + 0.5)) - first;
    const weights = Array.from({ length }, (_, k) => value((k + first - center + 0.5) / stretch));
    return { first, weights, total: weights.reduce((sum, w) => sum + w, 0) };
  });
  const each = Math.max(...rows.map((r) => r.weights.length));
  const taps = { count: to, index: new Int32Array(each * to), weight: new Float32Array(each * to) };
  for (const [i, { first, weights, total }] of rows.entries()) {
    for (let k = 0; k < each; k++) {
      // Taps that a result lacks read a sample that it has, with no weight.
      taps.index[k * to + i] = first + Math.min(k, weights.length - 1);
      taps.weight[k * to + i] = k < weights.length ? weights[k]! / total : 0;
    }
  }
  return taps;
}
