// Matrix products with batch broadcasting, transposed operands, quantized weights and epilogues.

import { type DType, isFloat, isQuantized, promote } from "../dtype.ts";
import { DTypeError, ShapeError } from "../errors.ts";
import { expandLayout, reshapeLayout } from "../layout.ts";
import { broadcastShapes, type Shape, sizeOf } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import type { View } from "../view.ts";
import { checkDevices } from "./elementwise.ts";
import { chainEpilogues, type Epilogue, epilogue, epilogueViews } from "./epilogue.ts";

/** Formats only a weight may have: the kernel expands them panel by panel. */
const isPacked = (d: DType): boolean => isQuantized(d) || d.startsWith("f8");

/**
 * a [..., m, k] @ b [..., k, n] → [..., m, n]; 1-d operands and batch broadcasting as torch.matmul.
 * Throws ShapeError for operands that do not fit.
 */
export function matmul(a: Tensor, b: Tensor, then?: Epilogue): Tensor {
  checkDevices("matmul", [a, b]);
  if (a.rank === 0 || b.rank === 0) throw new ShapeError("matmul", `operands need at least 1 dimension: lhs ${a}, rhs ${b}`);
  if (a.rank === 1) return matmul(a.unsqueeze(0), b, then).squeeze(-2);
  if (b.rank === 1) return matmul(a, b.unsqueeze(1), then).squeeze(-1);
  const dtype = resultDType(a, b);
  const [m, k, n] = [a.dim(-2), a.dim(-1), b.dim(-1)];
  if (k !== b.dim(-2)) throw new ShapeError("matmul", `inner dimensions differ (${k} and ${b.dim(-2)}): lhs ${a} @ rhs ${b}`);
  const batch = broadcastShapes("matmul", a.shape.slice(0, -2), b.shape.slice(0, -2), () => `batch of lhs ${a} @ rhs ${b}`);
  const { operands = [], attrs } = epilogueViews("matmul", a, [...batch, m, n], then);
  const out = a.device.empty([...batch, m, n], dtype, "matmul");
  if (out.size === 0) return out;
  const lhs = unitStride(a).view;
  const rhs = isPacked(b.dtype) ? b.view : unitStride(b).view;
  const views = flattened(out.view, lhs, rhs, operands) ?? batched(out.view, lhs, rhs, operands, batch);
  a.device.backend.kernels.matmul(views.out, views.inputs, attrs);
  return out;
}

interface Product {
  readonly out: View;
  readonly inputs: { readonly a: View; readonly b: View; readonly operands?: readonly View[] };
}
const relaid = (v: View, layout: View["layout"]): View => ({ buffer: v.buffer, dtype: v.dtype, layout });
const product = (out: View, a: View, b: View, operands: readonly View[]): Product => ({
  out,
  inputs: { a, b, ...(operands.length > 0 ? { operands } : {}) },
});

/** One large product when the right side has no batch and everything else can be seen as rows; undefined otherwise. */
function flattened(out: View, a: View, b: View, operands: readonly View[]): Product | undefined {
  const bShape = b.layout.shape;
  if (sizeOf(bShape.slice(0, -2)) !== 1) return undefined;
  const rows = sizeOf(out.layout.shape.slice(0, -1));
  const as = (v: View, shape: Shape) => {
    const layout = reshapeLayout(v.layout, shape);
    return layout && relaid(v, layout);
  };
  const lhs = as(a, [rows, a.layout.shape.at(-1)!]);
  const rhs = bShape.length === 2 ? b : as(b, bShape.slice(-2));
  const flat = operands.map((o) => as(o, [rows, out.layout.shape.at(-1)!]));
  if (!lhs || !rhs || lhs.layout.strides[1] !== 1 || flat.some((o) => !o)) return undefined;
  return product(as(out, [rows, out.layout.shape.at(-1)!])!, lhs, rhs, flat as View[]);
}

function batched(out: View, a: View, b: View, operands: readonly View[], batch: Shape): Product {
  const over = (v: View) => relaid(v, expandLayout("matmul", v.layout, [...batch, ...v.layout.shape.slice(-2)]));
  return product(out, over(a), isPacked(b.dtype) ? b : over(b), operands);
}

/** Kernels want one of the last two strides to be 1. */
function unitStride(x: Tensor): Tensor {
  const [r, c] = [x.layout.strides.at(-2), x.layout.strides.at(-1)];
  return c === 1 || r === 1 ? x : x.copy();
}

function resultDType(a: Tensor, b: Tensor): DType {
  if (!isFloat(a.dtype) || isPacked(a.dtype)) throw new DTypeError("matmul", `the left side must be f32, f16 or bf16: lhs ${a}, rhs ${b}`);
  if (!isFloat(b.dtype) && !isPacked(b.dtype))
    throw new DTypeError("matmul", `the right side must be a float or a quantized weight: lhs ${a}, rhs ${b}`);
  if (!isPacked(b.dtype)) return promote(a.dtype, b.dtype);
  const [stepK, stepN] = b.layout.strides;
  if (b.rank !== 2 || stepK !== 1 || (stepN !== b.dim(0) && b.dim(1) !== 1)) {
    throw new ShapeError("matmul", `a ${b.dtype} weight is used as w.t() of rows [n, k]: lhs ${a}, rhs ${b}`);
  }
  return a.dtype;
}

/**
 * x wᵀ + bias. x [..., k], w [n, k], bias [n] → [..., n]; `then` sees the biased result.
 * Throws ShapeError for operands that do not fit.
 */
export function linear(x: Tensor, w: Tensor, bias?: Tensor, then?: Epilogue): Tensor {
  if (w.rank !== 2) throw new ShapeError("linear", `a weight is [out, in]: ${w}`);
  const biased = bias && epilogue((y, b) => y.add(b), bias);
  return matmul(x, w.t(), chainEpilogues(biased, then));
}
