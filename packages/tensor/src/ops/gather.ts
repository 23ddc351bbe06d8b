// Picking and writing by index, sorting.
import { type DType, isFloat, isInt, isQuantized } from "../dtype.ts";
import { DTypeError, ShapeError } from "../errors.ts";
import { dimIndex, formatShape, sameShape } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { checkComputable, checkDevices } from "./elementwise.ts";
import { alongLast } from "./reduce.ts";

/** Indices as the kernels take them; i64 from outside becomes i32. */
function indexTensor(op: string, index: Tensor): Tensor {
  if (!isInt(index.dtype)) throw new DTypeError(op, `an index is i32 or u32: ${index}`);
  return index.dtype === "i32" || index.dtype === "u32" ? index : index.to("i32");
}

/** out[…, i, …] = x[…, index[…, i, …], …] along `dim`; index has x's rank and at most its size elsewhere. */
export function gather(x: Tensor, dim: number, index: Tensor): Tensor {
  checkDevices("gather", [x, index]);
  checkComputable("gather", x);
  const d = dimIndex("gather", dim, x.rank, x);
  checkIndexShape("gather", x, index, d);
  const out = x.device.empty(index.shape, x.dtype, "gather");
  if (out.size > 0) x.device.backend.kernels.gather(out.view, { x: x.view, index: indexTensor("gather", index).view }, { dim: d });
  return out;
}

function checkIndexShape(op: string, x: Tensor, index: Tensor, d: number): void {
  const fits = index.rank === x.rank && index.shape.every((n, i) => i === d || n <= x.shape[i]!);
  if (!fits) throw new ShapeError(op, `the index does not fit along dimension ${d}: x ${x}, index ${index}`);
}

/**
 * A copy of x with src written (or added) at index along `dim`; later equal indices win, sums run in index order.
 * Throws ShapeError or DTypeError for operands that do not fit.
 */
export function scatter(x: Tensor, dim: number, index: Tensor, src: Tensor, add: boolean): Tensor {
  const op = add ? "scatterAdd" : "scatter";
  checkDevices(op, [x, index, src]);
  checkComputable(op, x);
  const d = dimIndex(op, dim, x.rank, x);
  checkIndexShape(op, x, index, d);
  if (src.rank !== x.rank || src.shape.some((n, i) => n < index.shape[i]!))
    throw new ShapeError(op, `src does not cover the index: src ${src}, index ${index}`);
  if (src.dtype !== x.dtype) throw new DTypeError(op, `src has another dtype: x ${x}, src ${src}`);
  if (index.size === 0) return x.copy();
  const cut = index.shape.reduce((t, n, i) => t.narrow(i, 0, n), src);
  const out = x.device.empty(x.shape, x.dtype, op);
  const inputs = { x: x.contiguous().view, index: indexTensor(op, index).contiguous().view, src: cut.contiguous().view };
  if (out.size > 0) x.device.backend.kernels.scatter(out.view, inputs, { dim: d, add });
  return out;
}

/**
 * Whole slices of x along `dim`. index [n] → the same shape with n in place of `dim`.
 * Throws ShapeError for an index that is no list.
 */
export function indexSelect(x: Tensor, dim: number, index: Tensor): Tensor {
  checkDevices("indexSelect", [x, index]);
  const d = dimIndex("indexSelect", dim, x.rank, x);
  if (index.rank !== 1) throw new ShapeError("indexSelect", `the index is a list: ${index}`);
  const packed = isQuantized(x.dtype) || x.dtype.startsWith("f8");
  if (packed && (x.rank !== 2 || d !== 0)) throw new ShapeError("indexSelect", `rows of a ${x.dtype} matrix only: ${x}`);
  const out = x.device.empty(
    x.shape.map((n, i) => (i === d ? index.dim(0) : n)),
    packed ? "f32" : x.dtype,
    "indexSelect",
  );
  const source = packed ? x : x.contiguous();
  if (out.size > 0)
    x.device.backend.kernels.indexSelect(
      out.view,
      { x: source.view, index: indexTensor("indexSelect", index).contiguous().view },
      { dim: d },
    );
  return out;
}

/**
 * A copy of x with src's slices added at index along `dim`, in index order.
 * Throws ShapeError or DTypeError for operands that do not fit.
 */
export function indexAdd(x: Tensor, dim: number, index: Tensor, src: Tensor): Tensor {
  checkDevices("indexAdd", [x, index, src]);
  checkComputable("indexAdd", x);
  const d = dimIndex("indexAdd", dim, x.rank, x);
  const want = x.shape.map((n, i) => (i === d ? index.size : n));
  if (index.rank !== 1 || !sameShape(src.shape, want))
    throw new ShapeError("indexAdd", `src must be ${formatShape(want)}: x ${x}, index ${index}, src ${src}`);
  if (src.dtype !== x.dtype) throw new DTypeError("indexAdd", `src has another dtype: x ${x}, src ${src}`);
  if (src.size === 0) return x.copy();
  const out = x.device.empty(x.shape, x.dtype, "indexAdd");
  const inputs = { x: x.contiguous().view, index: indexTensor("indexAdd", index).contiguous().view, src: src.contiguous().view };
  x.device.backend.kernels.indexAdd(out.view, inputs, { dim: d });
  return out;
}

/**
 * Rows of a table. ids any integer shape [...], table [n, d] (any dtype, quantized too) → [..., d].
 * Throws ShapeError for a table of another rank.
 */
export function embedding(table: Tensor, ids: Tensor): Tensor {
  if (table.rank !== 2) throw new ShapeError("embedding", `a table is [n, d]: ${table}`);
  return indexSelect(table, 0, ids.reshape(-1)).reshape([...ids.shape, table.dim(1)]);
}

/** Stable order along `dim` → i32 positions. NaN counts as the largest value. */
export function argsort(x: Tensor, dim: number, descending: boolean): Tensor {
  checkComputable("argsort", x);
  if (x.rank === 0) return x.device.zeros([], "i32");
  return alongLast(x, dimIndex("argsort", dim, x.rank, x), (rows) => {
    const out = x.device.empty(rows.shape, "i32", "argsort");
    if (out.size > 0) x.device.backend.kernels.argsort(out.view, { x: rows.view }, { descending });
    return out;
  });
}

/** Values in order, and where they were. */
export interface Sorted {
  /** In their own dtype. */
  readonly values: Tensor;
  /** i32 positions along the sorted dimension. */
  readonly indices: Tensor;
}

/** In stable order along `dim`, with the positions the values had. */
export function sort(x: Tensor, dim: number, descending: boolean): Sorted {
  const indices = argsort(x, dim, descending);
  return { values: x.rank === 0 ? x.copy() : gather(x, dim, indices), indices };
}

/** The k largest along `dim`, largest first. Throws ShapeError for a k beyond the size. */
export function topk(x: Tensor, k: number, dim: number): Sorted {
  const n = x.dim(dim);
  if (!Number.isInteger(k) || k < 0 || k > n) throw new ShapeError("topk", `${k} of the ${n} values along dimension ${dim} of ${x}`);
  const { values, indices } = sort(x, dim, true);
  return { values: values.narrow(dim, 0, k), indices: indices.narrow(dim, 0, k) };
}

/** f8 or quantized blocks as plain floats. Throws DTypeError for another target than f32, f16 and bf16. */
export function dequantize(x: Tensor, dtype: DType = "f32"): Tensor {
  if (!isFloat(dtype) || dtype.startsWith("f8")) throw new DTypeError("dequantize", `gives f32, f16 or bf16, not ${dtype}: ${x}`);
  if (!isQuantized(x.dtype) && !x.dtype.startsWith("f8")) return x.to(dtype);
  const out = x.device.empty(x.shape, dtype, "dequantize");
  if (out.size > 0) x.device.backend.kernels.dequantize(out.view, { x: x.view }, {});
  return out;
}
