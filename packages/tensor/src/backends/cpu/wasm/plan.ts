// From views to addresses: which operands a generated kernel can walk, and the tables it walks them with.
import { dtypeInfo } from "../../../dtype.ts";
import { collapse, type Layout } from "../../../layout.ts";
import { type ExprNode, inputNode } from "../../../ops/expr.ts";
import type { View } from "../../../view.ts";
import type { CpuBuffer } from "../memory.ts";
import { Arena } from "./arena.ts";
import { operandModes } from "./blocking.ts";
import type { WasmEngine } from "./engine.ts";
import { elementKind, floatKind, type RowOperand } from "./row-function.ts";

/** The memory a view lies in. */
export const arenaOf = (view: View): Arena => (view.buffer as CpuBuffer).region.home as Arena;

/** The common memory of views, or undefined when they lie in several or not in WebAssembly memory. */
export function commonArena(views: readonly (View | undefined)[]): Arena | undefined {
  let found: Arena | undefined;
  for (const view of views) {
    if (!view) continue;
    const arena = arenaOf(view);
    if (!(arena instanceof Arena) || (found && found !== arena)) return undefined;
    found = arena;
  }
  return found;
}

/** Bytes of an element of a plain dtype. */
export const elementBytes = (view: View): number => dtypeInfo[view.dtype].blockBytes;

/** Address of a view's first element. */
export const addressOf = (view: View): number => (view.buffer as CpuBuffer).region.byteOffset + view.layout.offset * elementBytes(view);

/** Sizes and strides of views as batch, row and column. */
export interface Grid {
  readonly batch: number;
  readonly rows: number;
  readonly columns: number;
  /** Of each view, in elements: strides of batch, row and column. */
  readonly strides: readonly (readonly [number, number, number])[];
}

/** All dimensions joined to at most three; undefined when the views need more. */
export function gridOf(layouts: readonly Layout[]): Grid | undefined {
  const { shape, strides } = collapse(layouts);
  if (shape.length > 3) return undefined;
  const pad = 3 - shape.length;
  const at = (list: readonly number[], i: number, fill: number) => (i < pad ? fill : list[i - pad]!);
  return {
    batch: at(shape, 0, 1),
    rows: at(shape, 1, 1),
    columns: at(shape, 2, 1),
    strides: strides.map((s) => [at(s, 0, 0), at(s, 1, 0), at(s, 2, 1)] as const),
  };
}

/** Leading dimensions joined to at most `keep` before the last one, which stays the column. */
export function rowGrid(layouts: readonly Layout[], keep: 1 | 2): Grid | undefined {
  const split = layouts.map(({ shape, strides, offset }) => ({ shape: shape.slice(0, -1), strides: strides.slice(0, -1), offset }));
  const { shape, strides } = collapse(split);
  if (shape.length > keep) return undefined;
  const pad = 2 - shape.length;
  const at = (list: readonly number[], i: number, fill: number) => (i < pad ? fill : list[i - pad]!);
  return {
    batch: at(shape, 0, 1),
    rows: at(shape, 1, 1),
    columns: layouts[0]!.shape.at(-1)!,
    strides: strides.map((s, i) => [at(s, 0, 0), at(s, 1, 0), layouts[i]!.strides.at(-1)!] as const),
  };
}

const identity: ExprNode = inputNode(0, "f32");

/** A row function and its operand table, ready for a job. */
export interface Finish {
  readonly slot: number;
  readonly table: number;
}

/**
 * The row function that ends a kernel. `strides` belong to out and then each operand; undefined when the expression, a dtype or a stride is
 * not covered. With `fromResult`, the expression's input 0 is the kernel's result and operands start at input 1.
 */
export function planFinish(
  engine: WasmEngine,
  arena: Arena,
  expr: ExprNode | undefined,
  views: readonly View[],
  strides: Grid["strides"],
  fromResult: boolean,
): Finish | undefined {
  const [out, ...operands] = views as [View, ...View[]];
  const outKind = elementKind(out.dtype);
  const rowOperands: RowOperand[] = [];
  for (const [i, view] of operands.entries()) {
    const kind = elementKind(view.dtype);
    const step = strides[i + 1]![2];
    if (!kind || (step !== 0 && step !== 1)) return undefined;
    rowOperands.push({ kind, along: step === 1 });
  }
  if (!outKind || strides[0]![2] !== 1) return undefined;
  const slot = engine.slotOf({ expr: expr ?? identity, operands: rowOperands, fromResult, out: outKind });
  if (slot === undefined) return undefined;
  const words: number[] = [];
  for (const [i, view] of views.entries()) {
    const bytes = elementBytes(view);
    words.push(addressOf(view), strides[i]![0] * bytes, strides[i]![1] * bytes);
  }
  return { slot, table: engine.writeTable(arena, words) };
}

/** As `planFinish` with a result, but slot 0 (no row function) where f32 rows can be stored as they are. */
export function planRows(
  engine: WasmEngine,
  arena: Arena,
  expr: ExprNode | undefined,
  views: readonly View[],
  strides: Grid["strides"],
): Finish | undefined {
  const [out, [batch, row, column]] = [views[0]!, strides[0]!];
  if (expr || out.dtype !== "f32" || column !== 1) return planFinish(engine, arena, expr, views, strides, true);
  return { slot: 0, table: engine.writeTable(arena, [addressOf(out), 4 * batch, 4 * row]) };
}

const [oneFloat, oneWord] = ((bytes) => [new Float32Array(bytes), new Int32Array(bytes)] as const)(new ArrayBuffer(4));

/** The bits of a number as f32, for an argument word. */
export function floatBits(x: number): number {
  oneFloat[0] = x;
  return oneWord[0]!;
}

/** A vector that kernels widen themselves: address and operand mode, or undefined for other dtypes and for steps other than 1; absent ones are 0. */
export function vectorWords(view: View | undefined): { address: number; mode: number } | undefined {
  if (!view) return { address: 0, mode: 0 };
  const kind = floatKind(view.dtype);
  const { shape, strides } = view.layout;
  if (shape.at(-1) !== 1 && strides.at(-1) !== 1) return undefined;
  return kind && { address: addressOf(view), mode: operandModes[kind] };
}

/** Views cut along their outermost dimensions until at most two remain before the last. */
export function* rowParts(views: readonly View[]): Generator<readonly View[]> {
  const layouts = views.map((v) => v.layout);
  const lead = layouts.map(({ shape, strides, offset }) => ({ shape: shape.slice(0, -1), strides: strides.slice(0, -1), offset }));
  const { shape, strides } = collapse(lead);
  if (shape.length <= 2) {
    yield views;
    return;
  }
  const at = (view: View, n: number, i: number): View => {
    const { shape: all, strides: steps, offset } = view.layout;
    const layout = {
      shape: [...shape.slice(1), all.at(-1)!],
      strides: [...strides[n]!.slice(1), steps.at(-1)!],
      offset: offset + i * strides[n]![0]!,
    };
    return { ...view, layout };
  };
  for (let i = 0; i < shape[0]!; i++) yield* rowParts(views.map((view, n) => at(view, n, i)));
}

/** Where each word of a job's arguments stands, by name: writing words one by one costs a tenth of gathering them in an object. */
export function placesOf<N extends string>(names: readonly N[]): Readonly<Record<N, number>> {
  return Object.fromEntries(names.map((name, i) => [name, i])) as Record<N, number>;
}
