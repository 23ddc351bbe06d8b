// Kernels that compute each output element on its own: a function of the linear output index, four per thread.
import { contiguousLayout } from "../../../layout.ts";
import type { ExprNode } from "../../../ops/expr.ts";
import { sizeOf } from "../../../shape.ts";
import type { View } from "../../../view.ts";
import type { BindingSpec, ProgramSpec } from "../pipelines.ts";
import { elementBytes, formatFunctions, loadElement, loadQuad, packQuad, quadType, type StoredDType } from "../wgsl/formats.ts";
import { mathFunctions } from "../wgsl/math.ts";
import { type Bound, bindView, bytesOfView, type KernelContext, scratchView } from "./context.ts";
import { type Finish, isEmpty, withFinish } from "./finish.ts";
import { widthOf } from "./rows.ts";

export interface PointKernel {
  readonly op: string;
  /** Everything the text depends on besides the operands' dtypes. */
  readonly key: string;
  /** Operands by name; `NAME_at(i)` loads element i, counted from the view's first. */
  readonly inputs: Readonly<Record<string, View>>;
  readonly params: Readonly<Record<string, number>>;
  /** WGSL with `fn value(i: u32)`: the f32 result, or in `moveBits` the raw bits, of output element i. */
  readonly text: string;
  /** WGSL with `fn value4(i: u32)`, the results of four elements from i on, a multiple of 4; `x_at4(i)` loads four of input "x" where that is aligned. */
  readonly fours?: string;
  readonly flops?: number;
}

/** The integer format that carries an element's bits. */
export const bitsOf = (dtype: StoredDType): StoredDType => ({ 1: "u8", 2: "u16", 4: "u32" })[elementBytes[dtype]] as StoredDType;

interface Sources {
  readonly bounds: readonly Bound[];
  /** Input "x" is read by vectors. */
  readonly fours: boolean;
  readonly specs: readonly BindingSpec[];
  readonly text: string;
  readonly key: string;
}

function planSources(ctx: KernelContext, kernel: PointKernel, raw: boolean, quad = false): Sources {
  const entries = Object.entries(kernel.inputs);
  const bounds = entries.map(([, v]) => bindView(ctx, kernel.op, v));
  const fours = quad && kernel.fours !== undefined && entries.every(([name], i) => name !== "x" || bounds[i]!.offset % 4 === 0);
  const isFour = (name: string): boolean => fours && name === "x";
  const loads = entries.map(([name, v]) => {
    const d = raw && name === "x" ? bitsOf(v.dtype as StoredDType) : (v.dtype as StoredDType);
    const type = raw && name === "x" ? "u32" : ["i32", "i64"].includes(d) ? "i32" : d[0] === "u" ? "u32" : "f32";
    if (isFour(name)) return `fn x_at4(i: u32) -> vec4<f32> { return vec4<f32>(${loadQuad(d, "x", "(p.x_o + i) >> 2u")}); }\n`;
    return `fn ${name}_at(i: u32) -> ${type} { let j = p.${name}_o + i; return ${loadElement(d, name, "j")}; }\n`;
  });
  return {
    bounds,
    fours,
    specs: entries.map(([name, v]) => ({ name, type: isFour(name) ? quadType(v.dtype as StoredDType) : "array<u32>" })),
    text: loads.join(""),
    key: entries.map(([n, v]) => `${n}:${v.dtype}`).join() + (fours ? "4" : ""),
  };
}

function pointSpec(kernel: PointKernel, sources: Sources, end: Pick<Finish, "specs" | "params" | "text">, body: string): ProgramSpec {
  const text = `${sources.text}${end.text}\n${(sources.fours ? kernel.fours : undefined) ?? kernel.text}\n`;
  const functions = mathFunctions(text + body);
  return {
    label: kernel.op,
    bindings: [...sources.specs, ...end.specs],
    params: ["n", ...sources.specs.map(({ name }) => `${name}_o`), ...Object.keys(kernel.params), ...end.params],
    workgroup: [64],
    declarations: formatFunctions(functions + text + body) + functions + text,
    body,
  };
}

/** Computes floats: result in f32, epilogue, conversion to out's dtype. out is contiguous. */
export function computePoints(
  ctx: KernelContext,
  out: View,
  kernel: PointKernel,
  attrs: { epilogue?: ExprNode },
  operands?: readonly View[],
): void {
  if (isEmpty(out)) return;
  withFinish(ctx, kernel.op, out, widthOf(out.layout), Object.keys(kernel.inputs).length, attrs, operands, (target, plan) => {
    const finish = plan(target);
    const sources = planSources(ctx, kernel, false, finish.quad);
    const four = sources.fours ? "value4(i)" : "vec4<f32>(value(i), value(i + 1u), value(i + 2u), value(i + 3u))";
    const n = sizeOf(target.layout.shape);
    const step = finish.quad ? 4 : 1;
    const body = finish.quad
      ? `let i = (wg * 64u + lid) * 4u; if (i >= p.n) { return; }\n  put4(i, ${four});`
      : "let i = wg * 64u + lid; if (i >= p.n) { return; }\n  put(i, value(i));";
    const program = ctx.program(`${kernel.op}|${kernel.key}|${sources.key}|${finish.key}`, () => pointSpec(kernel, sources, finish, body));
    ctx.record({
      op: kernel.op,
      program,
      bindings: [...sources.bounds.map((b) => b.binding), ...finish.bindings],
      params: [n, ...sources.bounds.map((b) => b.offset), ...Object.values(kernel.params), ...finish.values],
      grid: Math.ceil(n / (64 * step)),
      flops: kernel.flops ?? 0,
      bytes: bytesOfView(out) * 2,
    });
  });
}

/** Moves elements without interpreting them; input "x" is the source and may be of any format as wide as out's. out is contiguous. */
export function moveElements(ctx: KernelContext, out: View, kernel: PointKernel): void {
  if (isEmpty(out)) return;
  const bound = bindView(ctx, kernel.op, out);
  const n = sizeOf(out.layout.shape);
  const whole = n % 4 === 0 || (out.layout.offset + n) * elementBytes[out.dtype as StoredDType] >= out.buffer.byteLength;
  if (bound.offset % 4 !== 0 || !whole) {
    const scratch = scratchView(ctx, out.dtype, out.layout.shape, `${kernel.op} result`);
    moveElements(ctx, scratch, kernel);
    ctx.kernels.copy(out, { x: scratch }, {});
    ctx.drop(scratch.buffer);
    return;
  }
  const sources = planSources(ctx, kernel, true);
  const d = bitsOf(out.dtype as StoredDType);
  const body = `let i = (wg * 64u + lid) * 4u; if (i >= p.n) { return; }
  let last = p.n - 1u;
  let at = (p.out_o + i) >> 2u;
  ${kernel.key.includes("keep") ? `let old = ${quadLoad(d)};` : ""}
  let res = vec4<u32>(${[0, 1, 2, 3].map((j) => `value(min(i + ${j}u, last)${kernel.key.includes("keep") ? `, old[${j}]` : ""})`).join(", ")});
  out[at] = ${packQuad(d, "res")};`;
  const end = { specs: [{ name: "out", type: quadType(d), write: true }], params: ["out_o"], text: "" };
  const program = ctx.program(`${kernel.op}|${kernel.key}|${sources.key}|${d}`, () => pointSpec(kernel, sources, end, body));
  ctx.record({
    op: kernel.op,
    program,
    bindings: [...sources.bounds.map((b) => b.binding), bound.binding],
    params: [n, ...sources.bounds.map((b) => b.offset), ...Object.values(kernel.params), bound.offset],
    grid: Math.ceil(n / 256),
    bytes: bytesOfView(out) * 2,
  });
}

const quadLoad = (d: StoredDType): string =>
  d === "u32"
    ? "out[at]"
    : d === "u16"
      ? "vec4<u32>(out[at].x & 0xffffu, out[at].x >> 16u, out[at].y & 0xffffu, out[at].y >> 16u)"
      : "unpack4xU8(out[at])";

/** A view's elements as one row. */
export const flat = (v: View): View => ({ ...v, layout: { ...contiguousLayout([sizeOf(v.layout.shape)]), offset: v.layout.offset } });
