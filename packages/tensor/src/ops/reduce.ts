// Reductions over any set of dimensions, and running sums.
import { type DType, isFloat } from "../dtype.ts";
import { DTypeError, ShapeError } from "../errors.ts";
import { dimIndex, sizeOf } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { checkComputable } from "./elementwise.ts";
import type { ReduceKind } from "./table.ts";

/** How a reduction shapes its result. */
export interface ReduceOptions {
  /** Keep the reduced dimensions with size 1. */
  readonly keepdim?: boolean;
}
/** One dimension, several, or (undefined) all. */
export type Dims = number | readonly number[] | undefined;

interface Extra extends ReduceOptions {
  readonly correction?: number;
  readonly p?: number;
}

const needsValues = new Set<ReduceKind>(["max", "min", "argmax", "argmin"]);

/** Reduces `dims` of x with `kind`; the shared rule behind sum, mean, max and others. Throws ShapeError where no values have no result. */
export function reduce(kind: ReduceKind, x: Tensor, dims: Dims, { keepdim = false, correction = 1, p = 2 }: Extra = {}): Tensor {
  checkComputable(kind, x);
  const axes = reducedAxes(kind, x, dims);
  if (needsValues.has(kind) && axes.some((a) => x.shape[a] === 0)) throw new ShapeError(kind, `has no value over an empty dimension: ${x}`);
  const kept = x.shape.map((_, i) => i).filter((i) => !axes.includes(i));
  const moved = x.permute(...kept, ...axes);
  const out = x.device.empty(
    kept.map((i) => x.shape[i]!),
    reducedDType(kind, x),
    kind,
  );
  if (out.size > 0) x.device.backend.kernels.reduce(out.view, { x: moved.view }, { kind, reduceRank: axes.length, correction, p });
  return keepdim ? out.reshape(x.shape.map((d, i) => (axes.includes(i) ? 1 : d))) : out;
}

function reducedAxes(kind: string, x: Tensor, dims: Dims): number[] {
  if (dims === undefined) return x.shape.map((_, i) => i);
  const list = (typeof dims === "number" ? [dims] : dims).map((d) => dimIndex(kind, d, x.rank, x));
  if (new Set(list).size !== list.length) throw new ShapeError(kind, `a dimension appears twice in [${list.join(", ")}]: ${x}`);
  return list.sort((a, b) => a - b);
}

/** torch sums integers in i64; ours keep i32 (u8 and u32 give i32). */
function reducedDType(kind: ReduceKind, x: Tensor): DType {
  if (kind === "argmax" || kind === "argmin") return "i32";
  if (kind === "any" || kind === "all") return "u8";
  if (kind === "max" || kind === "min" || isFloat(x.dtype)) return x.dtype;
  if (kind === "sum" || kind === "prod") return "i32";
  throw new DTypeError(kind, `takes floats: ${x}; cast first, e.g. to("f32")`);
}

/** Running sum or product along `dim`. */
export function scan(kind: "sum" | "prod", x: Tensor, dim: number): Tensor {
  const op = kind === "sum" ? "cumsum" : "cumprod";
  checkComputable(op, x);
  const d = dimIndex(op, dim, x.rank, x);
  return alongLast(x, d, (rows) => {
    const out = x.device.empty(rows.shape, isFloat(x.dtype) ? x.dtype : "i32", op);
    if (sizeOf(rows.shape) > 0) x.device.backend.kernels.scan(out.view, { x: rows.view }, { kind });
    return out;
  });
}

/** Runs a row op along dimension `dim` by moving it last and back; `rows` has stride 1 in its last dimension. */
export function alongLast(x: Tensor, dim: number, op: (rows: Tensor) => Tensor): Tensor {
  if (dim === x.rank - 1) return op(asRows(x));
  const moved = x.transpose(dim, -1);
  return op(asRows(moved)).transpose(dim, -1);
}

/** x itself if its last dimension has stride 1, else a copy. */
export const asRows = (x: Tensor): Tensor => (x.rank === 0 || x.layout.strides.at(-1) === 1 || x.dim(-1) <= 1 ? x : x.copy());
