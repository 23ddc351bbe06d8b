// How kernels end: an epilogue over the f32 result, conversion to the output's dtype, and a store that owns whole words.
import { contiguousLayout } from "../../../layout.ts";
import { type ExprNode, inputNode } from "../../../ops/expr.ts";
import { sizeOf } from "../../../shape.ts";
import type { View } from "../../../view.ts";
import type { Binding } from "../encoder.ts";
import type { BindingSpec } from "../pipelines.ts";
import { exprKey, exprText } from "../wgsl/expr.ts";
import { packElement, packQuad, quadType, type StoredDType, wordType } from "../wgsl/formats.ts";
import { coordinates, exprTypeOf, operandType, readFour, readMode, walkOf, walkParams, walkValues } from "../wgsl/strided.ts";
import { bindView, fits, type KernelContext, scratchView } from "./context.ts";
import { runMap, storeConversion } from "./elementwise.ts";

/** The end of a kernel as text: `put4(i, v)` (i a multiple of 4) or `put(i, v)` store results at linear output index i. */
export interface Finish {
  readonly key: string;
  readonly quad: boolean;
  readonly specs: readonly BindingSpec[];
  readonly bindings: readonly Binding[];
  readonly params: readonly string[];
  readonly values: readonly number[];
  readonly text: string;
}

const noWalk = { shape: [1], strides: [] };

/** Plans the end of a kernel whose contiguous output has rows of `width` elements. */
export function planFinish(
  ctx: KernelContext,
  op: string,
  out: View,
  width: number,
  epilogue?: ExprNode,
  operands: readonly View[] = [],
): Finish {
  const quad = width % 4 === 0;
  const dtype = out.dtype as StoredDType;
  const bound = bindView(ctx, op, out);
  const used = epilogue ? operands : [];
  const bounds = used.map((v) => bindView(ctx, op, v));
  const walk = used.length > 0 ? walkOf([contiguousLayout(out.layout.shape), ...used.map((v) => v.layout)]) : noWalk;
  const dtypes = used.map((v) => v.dtype as StoredDType);
  const modes = bounds.map((b, i) => (quad ? readMode(walk, i + 1, b.offset) : "elem"));
  const names = used.map((_, i) => `e${i}`);
  const rank = walk.shape.length;
  return {
    key: `${dtype}${quad ? "q" : "s"}${epilogue ? `${exprKey(epilogue)}${rank}${modes.join()}${dtypes.join()}` : ""}`,
    quad,
    get specs() {
      const operand = (name: string, i: number): BindingSpec => ({ name, type: operandType(dtypes[i]!, modes[i]!) });
      return [{ name: "out", type: quad ? quadType(dtype) : "array<u32>", write: true }, ...names.map(operand)];
    },
    bindings: [bound.binding, ...bounds.map((b) => b.binding)],
    get params() {
      return ["out_o", ...(used.length > 0 ? walkParams(rank, names, modes) : [])];
    },
    values: [
      bound.offset,
      ...(used.length > 0
        ? walkValues(
            walk,
            used.map((_, i) => i + 1),
            bounds.map((b) => b.offset),
            modes,
          )
        : []),
    ],
    get text() {
      const reads = dtypes.map((d, i) => readFour(`v${i}`, d, names[i]!, rank, names[i]!, modes[i]!, false));
      const value = (acc: string, lane: string): string => finishValue(epilogue, dtypes, dtype, acc, lane);
      return quad ? putFour(dtype, rank, reads, value) : putOne(dtype, rank, reads, value);
    },
  };
}

function finishValue(epilogue: ExprNode | undefined, dtypes: readonly StoredDType[], out: StoredDType, acc: string, lane: string): string {
  if (!epilogue) return storeConversion(acc, "f32", out);
  const text = exprText(epilogue, (i) =>
    i === 0 ? { text: acc, type: "f32" } : { text: `v${i - 1}.${lane}`, type: exprTypeOf(dtypes[i - 1]!) },
  );
  return storeConversion(text, epilogue.type, out);
}

function putFour(dtype: StoredDType, rank: number, reads: readonly string[], value: (acc: string, lane: string) => string): string {
  const lanes = ["x", "y", "z", "w"].map((l) => value(`a.${l}`, l));
  const walk = reads.length > 0 ? coordinates(rank, "i") : "";
  return `fn put4(i: u32, a: vec4<f32>) {
  ${walk} ${reads.join(" ")}
  let res = vec4<${wordType(dtype)}>(${lanes.join(", ")});
  out[(p.out_o + i) >> 2u] = ${packQuad(dtype, "res")};
}`;
}

function putOne(dtype: StoredDType, rank: number, reads: readonly string[], value: (acc: string, lane: string) => string): string {
  const walk = reads.length > 0 ? coordinates(rank, "i") : "";
  return `fn put(i: u32, a: f32) {
  ${walk} ${reads.join(" ")}
  let res = ${value("a", "x")};
  out[p.out_o + i] = ${packElement(dtype, "res")};
}`;
}

/**
 * Runs a kernel with its epilogue fused when the output's words and the number of bindings allow it; otherwise computes the f32 result into
 * scratch memory and applies the epilogue as a map. `own` is how many bindings the kernel needs besides the output and the operands.
 */
export function withFinish(
  ctx: KernelContext,
  op: string,
  out: View,
  width: number,
  own: number,
  attrs: { readonly epilogue?: ExprNode | undefined },
  operands: readonly View[] | undefined,
  run: (out: View, finish: (out: View) => Finish) => void,
): void {
  const { epilogue } = attrs;
  const used = epilogue ? (operands ?? []) : [];
  const packed = wordBytes(out) === 4 || width % 4 === 0;
  const aligned = out.layout.offset % 4 === 0 || width % 4 !== 0;
  const bindable = used.length + own + 1 <= ctx.traits.maxBindings && [out, ...used].every((v) => fits(ctx.traits, v));
  if (packed && aligned && bindable) {
    run(out, (o) => planFinish(ctx, op, o, width, epilogue, used));
    return;
  }
  const scratch = scratchView(ctx, "f32", out.layout.shape, `${op} result`);
  run(scratch, (o) => planFinish(ctx, op, o, width));
  runMap(ctx, op, out, [scratch, ...used], epilogue ?? inputNode(0, "f32"));
  ctx.drop(scratch.buffer);
}

const wordBytes = (v: View): number => ({ f32: 4, i32: 4, u32: 4 })[v.dtype as string] ?? 2;

/** Result memory for kernels that only write f32: `out` itself, or scratch that is converted afterwards. */
export function withFloatOutput(ctx: KernelContext, op: string, out: View, run: (out: View) => void): void {
  if (out.dtype === "f32") {
    run(out);
    return;
  }
  const scratch = scratchView(ctx, "f32", out.layout.shape, `${op} result`);
  run(scratch);
  runMap(ctx, op, out, [scratch], inputNode(0, "f32"));
  ctx.drop(scratch.buffer);
}

/** Whether a view has no values, so that nothing is dispatched. */
export const isEmpty = (v: View): boolean => sizeOf(v.layout.shape) === 0;
