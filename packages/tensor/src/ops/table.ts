// The contract between ops and backends: every kernel's operands and attributes.
// Adding a line here breaks every backend's `satisfies KernelTable` until it answers. Only the lines named in `FusedOp` may be missing.
// Rules common to all lines:
// * Shapes and dtypes were checked by the op's rule (ops/<family>.ts); kernels do not check again. No operand is i64, f8 or
//   quantized unless the line says so; floats accumulate in f32 and round to nearest even on store.
// * `out` is freshly allocated and contiguous with offset 0 unless the line says otherwise. Sizes may be 0: then nothing is done
//   (reductions over nothing write their identity).
// * "strided" operands have any strides (0 for broadcast, negative for flipped); "rows" have stride 1 in the last dimension and any
//   strides elsewhere; "contiguous" ones are row-major with any offset.
// * An epilogue is an expression whose input 0 is the op's f32 result at an output position (before rounding to the output dtype)
//   and whose input i ≥ 1 is operands[i - 1], strided and expanded to the output's shape.
import type { View } from "../view.ts";
import type { ExprNode } from "./expr.ts";

export type ReduceKind = "sum" | "mean" | "prod" | "max" | "min" | "argmax" | "argmin" | "var" | "logSumExp" | "norm" | "any" | "all";

interface Epilogue {
  readonly epilogue?: ExprNode;
}
interface Operands {
  readonly operands?: readonly View[];
}

export interface ConvAttrs extends Epilogue {
  /** [rows, columns] each; a 1-d convolution has one row. */
  readonly stride: readonly [number, number];
  readonly padding: readonly [number, number];
  readonly dilation: readonly [number, number];
  readonly groups: number;
}

export interface OpTable {
  /** out[i] = expr(inputs[0][i], …). inputs strided, expanded to out's shape; up to 7 of them. i64 and f8 inputs and outputs are allowed (i64 as i32). */
  map: { in: { inputs: readonly View[] }; attrs: { readonly expr: ExprNode } };
  /** Moves elements of one dtype of 1, 2, 4 or 8 bytes, or whole quantized rows. x strided; out strided too (a part of a larger tensor), without overlap. */
  copy: { in: { x: View }; attrs: object };
  /** Every element of out (strided) becomes `value`. */
  fill: { in: object; attrs: { readonly value: number } };
  /** a [..., m, k] @ b [..., k, n] → [..., m, n]. Batch dimensions are equal (expanded). Either of the last two strides of a and b is 1.
   *  dtypes of a and b may differ (floats). b may be f8 or quantized: then it is the transpose of contiguous rows [n, k], without batch. */
  matmul: { in: { a: View; b: View } & Operands; attrs: Epilogue };
  /** x strided with the reduced dimensions last; out has the leading ones. arg kinds write i32 (the index into the flattened reduced
   *  dimensions, first of equals, NaN wins), any and all write u8. */
  reduce: {
    in: { x: View };
    /** correction: of var (1 = Bessel). p: of norm (Infinity, 0 and any other number). */
    attrs: { readonly kind: ReduceKind; readonly reduceRank: number; readonly correction: number; readonly p: number };
  };
  /** Running sum or product along the last dimension. x rows. */
  scan: { in: { x: View }; attrs: { readonly kind: "sum" | "prod" } };
  /** Along the last dimension; `log` gives log-softmax. x rows. A row of only -inf gives NaN, as torch. */
  softmax: { in: { x: View }; attrs: { readonly log: boolean } };
  /** Layer or RMS norm along the last dimension, statistics in f32. x rows; weight and bias [d] contiguous, any float dtype. */
  norm: {
    in: { x: View; weight?: View; bias?: View } & Operands;
    attrs: { readonly kind: "layer" | "rms"; readonly eps: number } & Epilogue;
  };
  /** x [b, c, spatial…] contiguous; weight and bias [c]. */
  groupNorm: {
    in: { x: View; weight?: View; bias?: View } & Operands;
    attrs: { readonly groups: number; readonly eps: number } & Epilogue;
  };
  /** softmax(scale · q kᵀ + mask) v. q [b, n, l, k], k [b, m, s, k], v [b, m, s, kv], n a multiple of m (grouped heads), all rows. out [b, n, l, kv], rows.
   *  mask [b, n, l, s] strided: u8 keeps where nonzero, float is added. lengths [b] i32: keys at s ≥ lengths[b] are ignored.
   *  causal: key j is seen by query i if j ≤ i (top-left aligned, as torch). A query that sees no key gives 0. */
  attention: {
    in: { q: View; k: View; v: View; mask?: View; lengths?: View };
    attrs: { readonly scale: number; readonly causal: boolean };
  };
  /** Rotates pairs of the last dimension of x (rows): (2i, 2i+1) if interleaved, else (i, i + k/2). cos, sin f32, strided, expanded to x's shape with k/2 last. */
  rope: { in: { x: View; cos: View; sin: View }; attrs: { readonly interleaved: boolean } };
  /** RMS norm of every head of projected queries or keys, then rope. x [b, l, n, k] rows; weight [k] contiguous, any float dtype; cos, sin f32, strided,
   *  expanded to [b, l, n, k/2]. The norm rounds to x's dtype before it is rotated. out is x's shape in rows, maybe a part of a larger tensor. */
  qkNormRope: { in: { x: View; weight?: View; cos: View; sin: View }; attrs: { readonly eps: number; readonly interleaved: boolean } };
  /** x [b, c, h, w] contiguous, weight [o, c/groups, kh, kw] contiguous → [b, o, h', w']. */
  conv: { in: { x: View; weight: View } & Operands; attrs: ConvAttrs };
  /** x [b, c, h, w], weight [c, o/groups, kh, kw], both contiguous → [b, o, h', w'] (output padding is already in out's shape). */
  convTranspose: { in: { x: View; weight: View } & Operands; attrs: ConvAttrs };
  /** x [b, c, h, w] contiguous. avg divides by the full window unless countPad is false. */
  pool: {
    in: { x: View };
    attrs: {
      readonly kind: "max" | "avg";
      readonly kernel: readonly [number, number];
      readonly stride: readonly [number, number];
      readonly padding: readonly [number, number];
      readonly countPad: boolean;
    };
  };
  /** x [b, c, h, w] contiguous, to out's h and w, as torch's interpolate. */
  resample: { in: { x: View }; attrs: { readonly mode: "nearest" | "bilinear"; readonly alignCorners: boolean } };
  /** Each row (dim 2) or column (dim 3) of out is a sum of x's: taps index [k, n] i32 (within x) and weight [k, n] f32, n out's size of `dim`.
   *  x [b, c, h, w] float, all contiguous. */
  filter: { in: { x: View; index: View; weight: View }; attrs: { readonly dim: 2 | 3 } };
  /** x [b, c, h, w] float at grid [b, h', w', 2] f32 → [b, c, h', w'], as torch's grid_sample. All contiguous. */
  gridSample: { in: { x: View; grid: View }; attrs: GridSampleAttrs };
  /** out[…, i, …] = x[…, index[…, i, …], …] along `dim`. x, index strided; index i32 or u32 of out's shape. */
  gather: { in: { x: View; index: View }; attrs: { readonly dim: number } };
  /** out = copy of x, then out[…, index[…i…], …] = or += src. x, index, src contiguous; adding is in index order, deterministic. */
  scatter: { in: { x: View; index: View; src: View }; attrs: { readonly dim: number; readonly add: boolean } };
  /** Picks whole slices along `dim`: out[a, i, c] = x[a, index[i], c]. x contiguous; index [n] i32 or u32 contiguous. x may be f8 or quantized when
   *  dim is 0 of 2: then out is float. An index outside 0…size-1 gives 0 (the rule checks host-known indices). */
  indexSelect: { in: { x: View; index: View }; attrs: { readonly dim: number } };
  /** out = copy of x, then out[a, index[i], c] += src[a, i, c], in order. All contiguous. */
  indexAdd: { in: { x: View; index: View; src: View }; attrs: { readonly dim: number } };
  /** Stable order of the last dimension → i32 indices. NaN sorts as the largest. x rows. */
  argsort: { in: { x: View }; attrs: { readonly descending: boolean } };
  /** x f8 or quantized, contiguous → out f32, f16 or bf16. */
  dequantize: { in: { x: View }; attrs: object };
}

/** How a picture is read at given places: see GridSampleOptions in grid-sample.ts. */
export interface GridSampleAttrs {
  readonly mode: "bilinear" | "nearest" | "bicubic";
  readonly paddingMode: "zeros" | "border" | "reflection";
  readonly alignCorners: boolean;
}

export type OpName = keyof OpTable;
export type Kernel<K extends OpName> = (out: View, inputs: OpTable[K]["in"], attrs: OpTable[K]["attrs"]) => void;
/** A kernel for every line. */
export type KernelTable = { readonly [K in OpName]: Kernel<K> };
/** Ops that a backend may leave out: they are then computed from the others (ops/composed.ts). */
export type FusedOp = "softmax" | "norm" | "groupNorm" | "attention" | "rope" | "qkNormRope";
/** What a backend must have, and may have. */
export type BackendKernels = Omit<KernelTable, FusedOp> & Partial<Pick<KernelTable, FusedOp>>;
