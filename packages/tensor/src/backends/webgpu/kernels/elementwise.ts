// map, copy and fill: one thread per four consecutive output elements, so that every packed word has one owner.
import { bytesOf, dtypeInfo, isQuantized } from "../../../dtype.ts";
import { isContiguous } from "../../../layout.ts";
import { type ExprNode, type ExprType, inputNode } from "../../../ops/expr.ts";
import type { Kernel } from "../../../ops/table.ts";
import { sizeOf } from "../../../shape.ts";
import type { View } from "../../../view.ts";
import type { Program, ProgramSpec } from "../pipelines.ts";
import { storeOf } from "../store.ts";
import { convert, exprKey, exprText } from "../wgsl/expr.ts";
import { atomicStores, formatFunctions, packQuad, quadType, type StoredDType, storeElement, wordType } from "../wgsl/formats.ts";
import { mathFunctions } from "../wgsl/math.ts";
import {
  coordinates,
  elementIndex,
  exprTypeOf,
  operandType,
  type ReadMode,
  readFour,
  readMode,
  type Walk,
  walkOf,
  walkParams,
  walkValues,
} from "../wgsl/strided.ts";
import { type Bound, bindView, bytesOfView, forEachPiece, type KernelContext, withContiguous } from "./context.ts";

const threads = 64;

/** How the output is written: whole vectors, or one element per thread (through atomics when smaller than a word). */
type StoreMode = "quad" | "tail" | "single";

interface MapPlan {
  readonly walk: Walk;
  readonly store: StoreMode;
  readonly modes: readonly ReadMode[];
  readonly perElement: boolean;
  readonly out: StoredDType;
  readonly inputs: readonly StoredDType[];
}

/** One expression over broadcast operands, compiled to one kernel. */
export function mapKernel(ctx: KernelContext): Kernel<"map"> {
  return (out, { inputs }, { expr }) => runMap(ctx, "map", out, inputs, expr);
}

/** out = expr(inputs), all of one shape, any strides (also out's); `raw` moves 16-bit elements as bits. */
export function runMap(ctx: KernelContext, op: string, out: View, inputs: readonly View[], expr: ExprNode, raw = false): void {
  if (sizeOf(out.layout.shape) === 0) return;
  forEachPiece(ctx, [out, ...inputs], ([o, ...xs]) => mapPiece(ctx, op, o!, xs, expr, raw));
}

function mapPiece(ctx: KernelContext, op: string, out: View, inputs: readonly View[], expr: ExprNode, raw: boolean): void {
  const bounds = [out, ...inputs].map((v) => bindView(ctx, op, v));
  const plan = planMap(out, inputs, bounds, raw);
  const key = `map|${exprKey(expr)}|${plan.store}${plan.perElement ? "e" : ""}${plan.walk.shape.length}|${plan.out}|${plan.modes.join()}|${plan.inputs.join()}`;
  const program = ctx.program(key, () => mapSpec(expr, plan));
  const n = sizeOf(out.layout.shape);
  const values = [
    n,
    ...walkValues(
      plan.walk,
      bounds.map((_, i) => i),
      bounds.map((b) => b.offset),
      plan.modes,
    ),
  ];
  const work = plan.store === "single" ? n : Math.ceil(n / 4);
  dispatchMap(
    ctx,
    op,
    program,
    bounds,
    values,
    Math.ceil(work / threads),
    bytesOfView(out) + inputs.reduce((s, v) => s + bytesOfView(v), 0),
  );
}

function dispatchMap(
  ctx: KernelContext,
  op: string,
  program: Program,
  bounds: readonly Bound[],
  params: readonly number[],
  grid: number,
  bytes: number,
): void {
  ctx.record({ op, program, bindings: bounds.map((b) => b.binding), params, grid, bytes });
}

function planMap(out: View, inputs: readonly View[], bounds: readonly Bound[], raw: boolean): MapPlan {
  const walk = walkOf([out.layout, ...inputs.map((v) => v.layout)]);
  const last = walk.shape.length - 1;
  const best = bounds.map((b, i) => readMode(walk, i, b.offset));
  const contiguous = isContiguous(out.layout) && bounds[0]!.offset % 4 === 0;
  // The last vector may run over the end only where the buffer's padding follows.
  const mayOverrun = sizeOf(out.layout.shape) % 4 === 0 || out.layout.offset + sizeOf(out.layout.shape) >= lastElement(out);
  const store: StoreMode = best[0] === "vec" && (last > 0 || mayOverrun) ? "quad" : contiguous && mayOverrun ? "tail" : "single";
  // A thread with one element reads element by element.
  const modes = store === "single" ? best.map((m, i) => (i > 0 && m === "vec" ? "elem" : m)) : best;
  const perElement = last > 0 && walk.shape[last]! % 4 !== 0;
  const stored = (v: View): StoredDType => (raw && dtypeInfo[v.dtype].blockBytes === 2 ? "u16" : (v.dtype as StoredDType));
  return { walk, store, modes, perElement, out: stored(out), inputs: inputs.map(stored) };
}

/** Number of whole elements in the tensor's own bytes. */
const lastElement = (v: View): number => Math.floor(v.buffer.byteLength / dtypeInfo[v.dtype].blockBytes);

function mapSpec(expr: ExprNode, plan: MapPlan): ProgramSpec {
  const names = plan.inputs.map((_, i) => `x${i}`);
  const body = plan.store === "single" ? singleBody(expr, plan) : quadBody(expr, plan);
  const outType = plan.store !== "single" ? quadType(plan.out) : atomicStores(plan.out) ? "array<atomic<u32>>" : "array<u32>";
  const types = plan.inputs.map((d, i) => (plan.store === "single" ? "array<u32>" : operandType(d, plan.modes[i + 1]!)));
  const functions = mathFunctions(body);
  return {
    label: `map ${exprKey(expr)}`.slice(0, 80),
    bindings: [{ name: "out", type: outType, write: true }, ...names.map((name, i) => ({ name, type: types[i]! }))],
    params: ["n", ...walkParams(plan.walk.shape.length, ["out", ...names], plan.modes)],
    workgroup: [threads],
    declarations: formatFunctions(functions + body) + functions,
    body,
  };
}

const swizzle = ["x", "y", "z", "w"];

function quadBody(expr: ExprNode, plan: MapPlan): string {
  const rank = plan.walk.shape.length;
  const lines = [`let q = wg * ${threads}u + lid; let e = q * 4u;`, "if (e >= p.n) { return; }"];
  if (plan.perElement) for (let j = 0; j < 4; j++) lines.push(coordinates(rank, `min(e + ${j}u, p.n - 1u)`, `_${j}`));
  else lines.push(coordinates(rank, "e"));
  plan.inputs.forEach((d, i) => {
    lines.push(readFour(`v${i}`, d, `x${i}`, rank, `x${i}`, plan.modes[i + 1]!, plan.perElement));
  });
  const values = swizzle.map((s) => outValue(expr, plan, (i) => `v${i}.${s}`));
  lines.push(`let res = vec4<${wordType(plan.out)}>(${values.join(", ")});`);
  const at = plan.store === "tail" ? "(p.out_o >> 2u) + q" : `(${elementIndex(rank, "out", "vec")}) >> 2u`;
  lines.push(`out[${at}] = ${packQuad(plan.out, "res")};`);
  return lines.join("\n  ");
}

function singleBody(expr: ExprNode, plan: MapPlan): string {
  const rank = plan.walk.shape.length;
  const lines = [`let e = wg * ${threads}u + lid;`, "if (e >= p.n) { return; }", coordinates(rank, "e")];
  plan.inputs.forEach((d, i) => {
    lines.push(readFour(`q${i}`, d, `x${i}`, rank, `x${i}`, plan.modes[i + 1] === "one" ? "one" : "elem", false));
    lines.push(`let v${i} = q${i}.x;`);
  });
  lines.push(`let res = ${outValue(expr, plan, (i) => `v${i}`)};`);
  lines.push(storeElement(plan.out, "out", elementIndex(rank, "out", plan.modes[0]!), "res"));
  return lines.join("\n  ");
}

function outValue(expr: ExprNode, plan: MapPlan, input: (i: number) => string): string {
  const text = exprText(expr, (i) => ({ text: input(i), type: exprTypeOf(plan.inputs[i]!) }));
  return storeConversion(text, expr.type, plan.out);
}

/** An expression's value as the word type of the output's dtype. */
export const storeConversion = (text: string, from: ExprType, out: StoredDType): string => convert(text, from, exprTypeOf(out));

/** Every value the same. */
export function fillKernel(ctx: KernelContext): Kernel<"fill"> {
  return (out, _inputs, { value }) => {
    if (isQuantized(out.dtype)) throw new TypeError(`fill of ${out.dtype}`);
    const type = exprTypeOf(out.dtype as StoredDType);
    runMap(ctx, "fill", out, [], { kind: "const", value, type });
  };
}

/** A view into another layout or dtype. */
export function copyKernel(ctx: KernelContext): Kernel<"copy"> {
  return (out, { x }) => {
    if (sizeOf(out.layout.shape) === 0) return;
    if (storeOf(out.buffer) === storeOf(x.buffer)) {
      withContiguous(ctx, x, (copy) => moveBits(ctx, out, copy));
      return;
    }
    moveBits(ctx, out, x);
  };
}

/** Copies bits, whatever they mean: floats of 16 and 8 bits travel as integers, quantized rows as 16-bit units. */
function moveBits(ctx: KernelContext, out: View, x: View): void {
  const [o, v] = [out, x].map(asBits) as [View, View];
  runMap(ctx, "copy", o, [v], inputNode(0, "u32"), true);
}

function asBits(view: View): View {
  if (isQuantized(view.dtype)) return quantAsHalves(view);
  const bytes = dtypeInfo[view.dtype].blockBytes;
  if (bytes === 1) return { ...view, dtype: "u8" };
  if (bytes === 2) return { ...view, dtype: "bf16" };
  if (bytes === 4) return { ...view, dtype: "u32" };
  const { shape, strides, offset } = view.layout;
  return { ...view, dtype: "u32", layout: { shape: [...shape, 2], strides: [...strides.map((s) => 2 * s), 1], offset: 2 * offset } };
}

function quantAsHalves(view: View): View {
  const { shape, strides, offset } = view.layout;
  const units = (elements: number): number => bytesOf(view.dtype, elements) / 2;
  const last = shape.length - 1;
  const layout = {
    shape: shape.map((d, i) => (i === last ? units(d) : d)),
    strides: strides.map((s, i) => (i === last ? 1 : units(s))),
    offset: units(offset),
  };
  return { buffer: view.buffer, dtype: "bf16", layout };
}
