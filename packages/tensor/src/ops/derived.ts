// Ops that are a few others, under the names PyTorch has for them: no kernels of their own, so that they run wherever those run.
import { isFloat } from "../dtype.ts";
import { DTypeError } from "../errors.ts";
import type { Tensor } from "../tensor.ts";

/** x with `value` where `mask` (broadcast) is nonzero. */
export const maskedFill = (x: Tensor, mask: Tensor, value: number): Tensor => mask.where(value, x).to(x.dtype);

/** x divided by its p-norm along `dim`, or by `eps` where that is smaller; in f32, rounded once. */
export function normalize(x: Tensor, dim: number, { p = 2, eps = 1e-12 }: { p?: number; eps?: number } = {}): Tensor {
  const wide = x.to("f32");
  return wide.div(wide.norm(dim, { p, keepdim: true }).maximum(eps)).to(isFloat(x.dtype) ? x.dtype : "f32");
}

/** Largest finite values of the dtypes that hold infinities. */
const largest: Readonly<Record<string, number>> = { f32: 3.4028234663852886e38, f16: 65504, bf16: 3.3895313892515355e38 };

/**
 * x with finite values in place of NaN and both infinities; by default 0 and the largest magnitude of the dtype.
 * Throws DTypeError for f8.
 */
export function nanToNum(x: Tensor, { nan = 0, posInf, negInf }: { nan?: number; posInf?: number; negInf?: number } = {}): Tensor {
  const most = largest[x.dtype];
  if (most === undefined) {
    if (isFloat(x.dtype)) throw new DTypeError("nanToNum", `${x.dtype} is a storage format: ${x}; cast first`);
    return x.view_();
  }
  const infinite = x.gt(0).where(posInf ?? most, negInf ?? -most);
  return x.isNan().where(nan, x.isInf().where(infinite, x)).to(x.dtype);
}

/** ids [...] integers below `classes` → u8 [..., classes]: 1 at each id. */
export const oneHot = (ids: Tensor, classes: number): Tensor => ids.unsqueeze(-1).eq(ids.device.arange(classes, undefined, 1, "i32"));

/** How close counts as equal: |x - y| ≤ atol + rtol · |y|. */
export interface CloseOptions {
  /** Relative to the second operand; 1e-5 by default. */
  readonly rtol?: number;
  /** Absolute; 1e-8 by default. */
  readonly atol?: number;
  /** Whether NaN is close to NaN; false by default. */
  readonly equalNan?: boolean;
}

/** u8: 1 where x and y (broadcast) are as close as the options ask, in f32; equal infinities are. */
export function isClose(x: Tensor, y: Tensor | number, { rtol = 1e-5, atol = 1e-8, equalNan = false }: CloseOptions = {}): Tensor {
  const a = x.to("f32");
  const b = typeof y === "number" ? x.device.full([], y) : y.to("f32");
  const apart = a.sub(b).abs();
  const close = a.eq(b).or(apart.isFinite().and(apart.le(b.abs().mul(rtol).add(atol))));
  return equalNan ? close.or(a.isNan().and(b.isNan())) : close;
}
