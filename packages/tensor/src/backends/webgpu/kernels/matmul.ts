// Matrix multiplication: what is common to all kernels of the family — operands as text, splitting by rows and columns, choice of kernel.

import { bytesOf, isQuantized, type QuantDType } from "../../../dtype.ts";
import { UnsupportedError } from "../../../errors.ts";
import { type Layout, narrowLayout } from "../../../layout.ts";
import { type ExprNode, inputNode } from "../../../ops/expr.ts";
import type { Kernel } from "../../../ops/table.ts";
import { sizeOf } from "../../../shape.ts";
import type { View } from "../../../view.ts";
import { elementBytes, loadElement, loadQuad, quadType, type StoredDType } from "../wgsl/formats.ts";
import { offsetFunction } from "../wgsl/offsets.ts";
import { quantFunctions } from "../wgsl/quant.ts";
import { bindView, bytesOfView, fits, fitsAsFloat, type KernelContext, scratchView, withContiguous } from "./context.ts";
import { runMap } from "./elementwise.ts";
import { type Finish, isEmpty, withFinish } from "./finish.ts";
import { chooseGemm } from "./gemm.ts";
import { largestMagnitude } from "./gemm-magnitude.ts";
import { type Gemm, gemmBindings } from "./gemm-parts.ts";
import { blockRuns, plainRuns } from "./gemm-runs.ts";
import type { GemmOperand, MatrixSource } from "./matrix-source.ts";
import { forEachRowPiece } from "./rows.ts";

/** Products with what follows them elementwise, on the best tier and variant for their shape. */
export function matmulKernel(ctx: KernelContext): Kernel<"matmul"> {
  return (out, { a, b, operands = [] }, attrs) => {
    if (isEmpty(out)) return;
    if (a.layout.shape.at(-1) === 0) {
      emptySum(ctx, out, attrs.epilogue, operands);
      return;
    }
    const used = attrs.epilogue ? operands : [];
    const rank = out.layout.shape.length;
    const flat = foldBatch(out, a, b);
    if (flat) multiply(ctx, out, flat.a, flat.b, attrs, used);
    else {
      const batched = [out, a, broadcastBatch(b, rank, out.layout), ...used];
      forEachRowPiece(ctx, 2, batched, ([o, pa, pb, ...rest]) => multiply(ctx, o!, pa!, pb!, attrs, rest));
    }
  };
}

/** The product over an empty inner dimension: the epilogue of zero. */
function emptySum(ctx: KernelContext, out: View, epilogue: ExprNode | undefined, operands: readonly View[]): void {
  const zero = scratchView(ctx, "f32", [1], "zero");
  ctx.kernels.fill(zero, {}, { value: 0 });
  const { shape } = out.layout;
  const expanded = { ...zero, layout: { shape, strides: shape.map(() => 0), offset: 0 } };
  runMap(ctx, "matmul", out, [expanded, ...(epilogue ? operands : [])], epilogue ?? inputNode(0, "f32"));
  ctx.drop(zero.buffer);
}

function broadcastBatch(b: View, rank: number, out: Layout): View {
  const missing = rank - b.layout.shape.length;
  if (missing === 0) return b;
  const { shape, strides, offset } = b.layout;
  return {
    ...b,
    layout: { shape: [...out.shape.slice(0, missing), ...shape], strides: [...new Array<number>(missing).fill(0), ...strides], offset },
  };
}

/** With one b for all batches and a's rows evenly spaced, batches are just more rows. */
function foldBatch(out: View, a: View, b: View): { a: View; b: View } | undefined {
  const rank = out.layout.shape.length;
  const { shape, strides } = b.layout;
  const lead = shape.length - 2;
  for (let i = 0; i < lead; i++) if (shape[i] !== 1 && strides[i] !== 0) return undefined;
  const matrix = { ...b, layout: { shape: shape.slice(lead), strides: strides.slice(lead), offset: b.layout.offset } };
  const rows = a.layout;
  const k = rows.shape.length - 1;
  let count = 1;
  let step = 0;
  for (let i = k - 1; i >= 0; i--) {
    if (rows.shape[i] === 1) continue;
    if (count > 1 && rows.strides[i] !== step * count) return undefined;
    if (count === 1) step = rows.strides[i]!;
    count *= rows.shape[i]!;
  }
  if (sizeOf(out.layout.shape.slice(0, rank - 1)) !== count) return undefined;
  return { a: { ...a, layout: { shape: [count, rows.shape[k]!], strides: [step, rows.strides[k]!], offset: rows.offset } }, b: matrix };
}

/**
 * Plans operand `name` seen as [batch…, rows, k] (b is passed transposed). Defines `NAME_k4(z, r, k)`, four values along k, zero beyond `p.k`;
 * for operands that are contiguous along the rows also `NAME_r4(z, r, k)`, four values along the rows.
 */
export function matrixSource(ctx: KernelContext, name: string, view: View, rows: number): MatrixSource {
  const { shape, strides } = view.layout;
  const rank = shape.length;
  const bound = bindView(ctx, "matmul", view);
  const batch = offsetFunction(`${name}_batch`, view.layout, 0, rank - 2);
  const along = strides[rank - 1] === 1 || shape[rank - 1] === 1 ? "k" : "r";
  const step = along === "k" ? strides[rank - 2]! : strides[rank - 1]!;
  const common = { bound, batch, along, dtype: view.dtype, params: [`${name}_o`, `${name}_step`, ...batch.params] } as const;
  if (isQuantized(view.dtype)) {
    const rowBytes = bytesOf(view.dtype, step || shape[rank - 1]!);
    const text = (): string =>
      `${quantFunctions(view.dtype as QuantDType, name)}fn ${name}_k4(z: u32, r: u32, k: u32) -> vec4<f32> { return ${name}_quant4(p.${name}_o + r * p.${name}_step, k); }\n`;
    const aligned = bound.offset % 16 === 0 && rowBytes % 16 === 0;
    return {
      ...common,
      type: "array<u32>",
      get text() {
        return text();
      },
      runs: (values) => blockRuns(view.dtype as QuantDType, name, values, aligned),
      values: [bound.offset, rowBytes],
      params: [`${name}_o`, `${name}_step`],
      key: `${view.dtype}${aligned ? "o" : ""}`,
      quad: true,
    };
  }
  const inner = along === "k" ? shape[rank - 1]! : rows;
  const aligned = (unit: number): boolean =>
    [inner, bound.offset, step].every((v) => v % unit === 0) &&
    strides.slice(0, rank - 2).every((s, i) => s % unit === 0 || shape[i] === 1);
  const quad = aligned(4);
  const d = view.dtype as StoredDType;
  const eights = along === "k" && elementBytes[d] === 2 && aligned(8);
  return {
    ...common,
    type: quad ? quadType(d) : "array<u32>",
    get text() {
      return `${batch.text}\n${plainSource(name, d, along, quad)}`;
    },
    values: [bound.offset, step, ...batch.values],
    key: `${d}${along}${eights ? "o" : quad ? "q" : "s"}${batch.key}`,
    quad,
    runs: (values) => plainRuns({ name, dtype: d, along, quad, eights: eights && values === 8, batch }),
  };
}

function plainSource(name: string, d: StoredDType, along: "k" | "r", quad: boolean): string {
  const base = `p.${name}_o + ${name}_batch(z)`;
  const at = (r: string, k: string): string =>
    along === "k" ? `${base} + (${r}) * p.${name}_step + (${k})` : `${base} + (${k}) * p.${name}_step + (${r})`;
  const one = (r: string, k: string): string => `f32(${loadElement(d, name, `(${at(r, k)})`)})`;
  const whole = `return vec4<f32>(${loadQuad(d, name, `(${at("r", "k")}) >> 2u`)});`;
  const lanes = [0, 1, 2, 3];
  if (along === "k") {
    if (quad) return `fn ${name}_k4(z: u32, r: u32, k: u32) -> vec4<f32> { ${whole} }\n`;
    const parts = lanes.map((j) => `select(0.0, ${one("r", `min(k + ${j}u, p.k - 1u)`)}, k + ${j}u < p.k)`);
    return `fn ${name}_k4(z: u32, r: u32, k: u32) -> vec4<f32> { return vec4<f32>(${parts.join(", ")}); }\n`;
  }
  const limit = name === "a" ? "p.m" : "p.n";
  const parts = lanes.map((j) => one(`min(r + ${j}u, ${limit} - 1u)`, "k"));
  const load = quad ? whole : `return vec4<f32>(${parts.join(", ")});`;
  return `fn ${name}_r4(z: u32, r: u32, k: u32) -> vec4<f32> { if (k >= p.k) { return vec4<f32>(); } ${load} }\n`;
}

/** The whole product of one piece of the batch: cut by columns of b and rows of a where bindings or the work of a dispatch ask for it. */
function multiply(ctx: KernelContext, out: View, a: View, b: View, attrs: { epilogue?: ExprNode }, operands: readonly View[]): void {
  const n = out.layout.shape.at(-1)!;
  const batch = a.layout.shape.slice(0, -2);
  const piece = { m: a.layout.shape.at(-2)!, n, k: a.layout.shape.at(-1)!, batch: sizeOf(batch) };
  const work = 2 * piece.m * n * piece.k;
  if (piece.batch === 1) {
    const limit = rowLimit(ctx, out, a, operands, piece.m, work);
    if (limit < piece.m && operands.some((v) => offsetRows(v.layout.shape, v.layout.strides) === undefined)) {
      unfused(ctx, out, a, b, attrs, operands);
      return;
    }
    for (let m0 = 0; m0 < piece.m; m0 += limit) rowsPiece(ctx, out, a, b, attrs, operands, piece, m0, Math.min(limit, piece.m - m0));
    return;
  }
  withFinish(ctx, "matmul", out, n, gemmBindings(ctx.traits), attrs, operands, (o, finish) => columns(ctx, a, b, { ...piece }, finish(o)));
}

/** The product into f32 memory, then the epilogue as a map: for operands that cannot be cut by rows. */
function unfused(ctx: KernelContext, out: View, a: View, b: View, { epilogue }: { epilogue?: ExprNode }, operands: readonly View[]): void {
  const product = scratchView(ctx, "f32", out.layout.shape, "matmul result");
  multiply(ctx, product, a, b, {}, []);
  runMap(ctx, "matmul", out, [product, ...operands], epilogue ?? inputNode(0, "f32"));
  ctx.drop(product.buffer);
}

/** Most rows at once: a multiple of 64 within the bindings of a, out and the operands, and within the work of one dispatch. */
function rowLimit(ctx: KernelContext, out: View, a: View, operands: readonly View[], m: number, work: number): number {
  const { maxBindingBytes, dispatchFlops } = ctx.traits;
  let limit = m;
  if (work > dispatchFlops) limit = Math.max(64, Math.floor((m * dispatchFlops) / work / 64) * 64);
  for (const v of [out, a, ...operands]) {
    if (v === out ? fitsAsFloat(ctx.traits, v) : fits(ctx.traits, v)) continue;
    const bytes = v === out ? sizeOf(v.layout.shape) * 4 : bytesOfView(v);
    const rows = Math.floor((m * maxBindingBytes * 0.6) / bytes);
    limit = Math.min(limit, rows >= 64 ? Math.floor(rows / 64) * 64 : Math.max(1, rows));
  }
  return limit;
}

interface Piece {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly batch: number;
}

function rowsPiece(
  ctx: KernelContext,
  out: View,
  a: View,
  b: View,
  attrs: { epilogue?: ExprNode },
  operands: readonly View[],
  whole: Piece,
  m0: number,
  m: number,
): void {
  const narrow = (v: View): View => (m === whole.m ? v : { ...v, layout: narrowLayout(asRows(v.layout, whole.m), 0, m0, m) });
  const rows = narrow(a);
  if (!fits(ctx.traits, rows)) {
    withContiguous(ctx, rows, (copy) => rowsOf(ctx, narrow(out), copy, b, attrs, operands.map(narrow), { ...whole, m }));
    return;
  }
  rowsOf(ctx, narrow(out), rows, b, attrs, operands.map(narrow), { ...whole, m });
}

/** A layout of [batch…, m, n] as [rows, n]; the caller knows that its leading dimensions are evenly spaced, or reports it. */
function asRows({ shape, strides, offset }: Layout, rows: number): Layout {
  const last = shape.length - 1;
  const lead = offsetRows(shape, strides);
  if (lead === undefined)
    throw new UnsupportedError("matmul", `an epilogue operand [${shape.join(", ")}] cannot be cut by rows; make it contiguous`);
  return { shape: [rows, shape[last]!], strides: [lead, strides[last]!], offset };
}

/** The single step between consecutive rows, if there is one. */
function offsetRows(shape: readonly number[], strides: readonly number[]): number | undefined {
  let count = 1;
  let step = 0;
  for (let i = shape.length - 2; i >= 0; i--) {
    if (shape[i] === 1) continue;
    if (count > 1 && strides[i] !== step * count) return undefined;
    if (count === 1) step = strides[i]!;
    count *= shape[i]!;
  }
  return step;
}

function rowsOf(
  ctx: KernelContext,
  out: View,
  a: View,
  b: View,
  attrs: { epilogue?: ExprNode },
  operands: readonly View[],
  piece: Piece,
): void {
  withFinish(ctx, "matmul", out, piece.n, gemmBindings(ctx.traits), attrs, operands, (o, finish) => columns(ctx, a, b, piece, finish(o)));
}

/** Cuts b by its columns until a piece fits a binding; pieces that are not contiguous along k are copied transposed. */
function columns(ctx: KernelContext, a: View, b: View, piece: Piece, finish: Finish): void {
  const rank = b.layout.shape.length;
  const { traits } = ctx;
  if (fits(traits, b)) {
    product(ctx, a, b, piece, finish, 0, piece.n);
    return;
  }
  const bytes = Math.max(1, Math.ceil(bytesOfView(b) / piece.n / piece.batch));
  const fit = Math.floor((traits.maxBindingBytes * 0.9 - traits.offsetAlignment) / bytes / piece.batch);
  const step = fit >= 64 ? fit - (fit % 64) : Math.max(4, fit - (fit % 4));
  for (let n0 = 0; n0 < piece.n; n0 += step) {
    const n = Math.min(step, piece.n - n0);
    const part = { ...b, layout: narrowLayout(b.layout, rank - 1, n0, n) };
    if (fits(traits, part)) product(ctx, a, part, piece, finish, n0, n);
    else withContiguous(ctx, transposed(part), (copy) => product(ctx, a, transposed(copy), piece, finish, n0, n));
  }
}

function transposed(v: View): View {
  const { shape, strides, offset } = v.layout;
  const r = shape.length;
  const swap = (x: readonly number[]): number[] => [...x.slice(0, r - 2), x[r - 1]!, x[r - 2]!];
  return { ...v, layout: { shape: swap(shape), strides: swap(strides), offset } };
}

/** Records one dispatch: columns n0…n0+n of the output. */
function product(ctx: KernelContext, a: View, b: View, piece: Piece, finish: Finish, n0: number, n: number): void {
  const sa = matrixSource(ctx, "a", a, piece.m);
  const sb = matrixSource(ctx, "b", transposed(b), n);
  recordGemm(ctx, "matmul", { view: a, source: sa }, { view: b, source: sb }, piece, finish, n0, n);
}

/** Records the fastest kernel for columns n0…n0+n of a product whose operands are any sources, on behalf of `op`. */
export function recordGemm(
  ctx: KernelContext,
  op: string,
  a: GemmOperand,
  b: GemmOperand,
  piece: Piece,
  finish: Finish,
  n0: number,
  n: number,
): void {
  recordKernel(ctx, op, chooseGemm(ctx.traits, { ...piece, n }, a.source, b.source, finish), a, b, piece, finish, n0, n);
}

/** As `recordGemm`, with a kernel that was chosen. */
export function recordKernel(
  ctx: KernelContext,
  op: string,
  gemm: Gemm,
  a: GemmOperand,
  b: GemmOperand,
  piece: Piece,
  finish: Finish,
  n0: number,
  n: number,
): void {
  const { source: sa } = a;
  const { source: sb } = b;
  const program = ctx.program(`matmul|${gemm.key}|${sa.key}|${sb.key}|${finish.key}`, () => gemm.spec());
  const largest = (gemm.measured ?? []).map((side) => largestMagnitude(ctx, op, side, side === "a" ? a : b, { ...piece, n }));
  ctx.record({
    op,
    program,
    bindings: [sa.bound.binding, sb.bound.binding, ...finish.bindings, ...largest],
    params: [piece.m, n, piece.k, piece.n, n0, ...sa.values, ...sb.values, ...finish.values],
    grid: gemm.grid,
    flops: 2 * piece.m * n * piece.k * piece.batch,
    bytes: bytesOfView(a.view) + bytesOfView(b.view),
  });
}
