// Softmax and the normalisations, with epilogues.

import { isFloat } from "../dtype.ts";
import { DTypeError, ShapeError } from "../errors.ts";
import { dimIndex, formatShape } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { composedGroupNorm, composedRowNorm, composedSoftmax } from "./composed.ts";
import { checkDevices } from "./elementwise.ts";
import { epilogueViews } from "./epilogue.ts";
import type { NormOptions } from "./fused-options.ts";
import { alongLast, asRows } from "./reduce.ts";

function checkFloat(op: string, x: Tensor): void {
  if (!isFloat(x.dtype) || x.dtype.startsWith("f8")) throw new DTypeError(op, `takes f32, f16 or bf16: ${x}`);
}

/** softmax (or its logarithm) along `dim`. */
export function softmax(x: Tensor, dim: number, log: boolean): Tensor {
  const op = log ? "logSoftmax" : "softmax";
  checkFloat(op, x);
  if (x.rank === 0) return softmax(x.reshape(1), 0, log).reshape();
  const { softmax: kernel } = x.device.backend.kernels;
  const d = dimIndex(op, dim, x.rank, x);
  if (!kernel && x.size > 0) return composedSoftmax(x, d, log);
  return alongLast(x, d, (rows) => {
    const out = x.device.empty(rows.shape, x.dtype, op);
    if (out.size > 0) kernel!(out.view, { x: rows.view }, { log });
    return out;
  });
}

/**
 * Normalises the last dimension: layer (subtracting the mean) or rms, statistics in f32. x [..., d] → [..., d].
 * Throws ShapeError for a scalar.
 */
export function rowNorm(kind: "layer" | "rms", x: Tensor, options: NormOptions): Tensor {
  const { weight, bias, eps, then } = options;
  const op = kind === "layer" ? "layerNorm" : "rmsNorm";
  checkFloat(op, x);
  if (x.rank === 0) throw new ShapeError(op, `needs at least one dimension: ${x}`);
  const affine = affineViews(op, x, x.dim(-1), weight, bias);
  const { operands, attrs } = epilogueViews(op, x, x.shape, then);
  const { norm } = x.device.backend.kernels;
  if (!norm && x.size > 0) return composedRowNorm(kind, x, options);
  const out = x.device.empty(x.shape, x.dtype, op);
  if (out.size > 0) norm!(out.view, { x: asRows(x).view, ...affine, ...(operands ? { operands } : {}) }, { kind, eps, ...attrs });
  return out;
}

/** x [b, c, ...] in `groups` groups of channels; weight and bias [c]. Throws ShapeError for channels that do not divide. */
export function groupNorm(x: Tensor, groups: number, options: NormOptions): Tensor {
  const { weight, bias, eps, then } = options;
  checkFloat("groupNorm", x);
  if (x.rank < 2) throw new ShapeError("groupNorm", `needs [b, c, ...]: ${x}`);
  if (x.dim(1) % groups !== 0) throw new ShapeError("groupNorm", `${x.dim(1)} channels do not divide into ${groups} groups: ${x}`);
  const affine = affineViews("groupNorm", x, x.dim(1), weight, bias);
  const { operands, attrs } = epilogueViews("groupNorm", x, x.shape, then);
  const kernel = x.device.backend.kernels.groupNorm;
  if (!kernel && x.size > 0) return composedGroupNorm(x, groups, options);
  const out = x.device.empty(x.shape, x.dtype, "groupNorm");
  const inputs = { x: x.contiguous().view, ...affine, ...(operands ? { operands } : {}) };
  if (out.size > 0) kernel!(out.view, inputs, { groups, eps, ...attrs });
  return out;
}

/** Views of a weight and a bias [width], checked. Throws ShapeError for weights of another length. */
export function affineViews(op: string, x: Tensor, width: number, weight: Tensor | undefined, bias: Tensor | undefined) {
  for (const t of [weight, bias]) {
    if (!t) continue;
    checkDevices(op, [x, t]);
    checkFloat(op, t);
    if (t.rank !== 1 || t.dim(0) !== width) throw new ShapeError(op, `weight and bias are ${formatShape([width])}: got ${t} for ${x}`);
  }
  return { ...(weight ? { weight: weight.contiguous().view } : {}), ...(bias ? { bias: bias.contiguous().view } : {}) };
}
