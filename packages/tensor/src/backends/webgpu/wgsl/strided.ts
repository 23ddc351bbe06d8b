// Index arithmetic over collapsed dimensions: how a thread's four consecutive output elements find their operands' elements.
import { collapse, type Layout } from "../../../layout.ts";
import { loadElement, loadQuad, quadType, type StoredDType, wordType } from "./formats.ts";

/** Layouts of one shape with their dimensions joined: `shape` and, per layout, strides and offset. */
export interface Walk {
  readonly shape: readonly number[];
  readonly strides: readonly (readonly number[])[];
}

/** Joins dimensions; the result has at least one. */
export function walkOf(layouts: readonly Layout[]): Walk {
  const { shape, strides } = collapse(layouts);
  return shape.length > 0 ? { shape, strides } : { shape: [1], strides: strides.map(() => [1]) };
}

/** How an operand is read: a whole vector, one value for all four, or element by element. */
export type ReadMode = "vec" | "one" | "elem";

/** Whether four consecutive elements (inner dimension a multiple of 4, or the only one) can be read or written at once. */
export function readMode(walk: Walk, i: number, offset: number): ReadMode {
  const strides = walk.strides[i]!;
  const last = strides.length - 1;
  const whole = last === 0 || walk.shape[last]! % 4 === 0;
  if (!whole) return "elem";
  if (strides[last] === 0) return "one";
  const aligned = strides[last] === 1 && offset % 4 === 0 && strides.every((s, k) => k === last || s % 4 === 0);
  return aligned ? "vec" : "elem";
}

/** Parameter names of a walk: sizes of all dimensions but the first, then strides per operand (rank 1 needs only the stride). */
export function walkParams(rank: number, operands: readonly string[], modes: readonly ReadMode[]): string[] {
  const names: string[] = [];
  for (let d = 1; d < rank; d++) names.push(`n${d}`);
  operands.forEach((o, i) => {
    names.push(`${o}_o`);
    for (let d = 0; d < rank; d++) if (usesStride(d, rank, modes[i]!)) names.push(`${o}_s${d}`);
  });
  return names;
}

const usesStride = (d: number, rank: number, mode: ReadMode): boolean => d < rank - 1 || mode === "elem";

/** Values of the parameters that the walk's text names, in their order. */
export function walkValues(walk: Walk, operands: readonly number[], offsets: readonly number[], modes: readonly ReadMode[]): number[] {
  const rank = walk.shape.length;
  const values: number[] = walk.shape.slice(1);
  operands.forEach((k, i) => {
    values.push(offsets[i]!);
    for (let d = 0; d < rank; d++) if (usesStride(d, rank, modes[i]!)) values.push(walk.strides[k]![d]!);
  });
  return values;
}

/** Statements that split linear index `e` into coordinates c0, c1, … (suffix keeps several sets apart). */
export function coordinates(rank: number, e: string, suffix = ""): string {
  if (rank === 1) return `let c0${suffix} = ${e};`;
  const lines = [`var r${suffix} = ${e};`];
  for (let d = rank - 1; d > 0; d--) lines.push(`let c${d}${suffix} = r${suffix} % p.n${d}; r${suffix} = r${suffix} / p.n${d};`);
  lines.push(`let c0${suffix} = r${suffix};`);
  return lines.join(" ");
}

/** The element index of an operand at coordinates c…; in "vec" and "one" modes the inner stride is 1 or 0. */
export function elementIndex(rank: number, operand: string, mode: ReadMode, suffix = "", step = ""): string {
  const terms = [`p.${operand}_o`];
  for (let d = 0; d < rank; d++) {
    const c = d === rank - 1 && step ? `(c${d}${suffix} + ${step})` : `c${d}${suffix}`;
    if (usesStride(d, rank, mode)) terms.push(`${c} * p.${operand}_s${d}`);
    else if (mode === "vec") terms.push(c);
  }
  return terms.join(" + ");
}

/** WGSL array type an operand is bound as in a mode. */
export const operandType = (dtype: StoredDType, mode: ReadMode): string => (mode === "vec" ? quadType(dtype) : "array<u32>");

/** Statements defining `name`: vec4 of the operand's four values, at coordinates of the first (vec, one) or of each (elem, suffixes 0-3). */
export function readFour(
  name: string,
  dtype: StoredDType,
  array: string,
  rank: number,
  operand: string,
  mode: ReadMode,
  perElement: boolean,
): string {
  const t = wordType(dtype);
  if (mode === "vec") return `let ${name} = ${loadQuad(dtype, array, `(${elementIndex(rank, operand, mode)}) >> 2u`)};`;
  if (mode === "one") return `let ${name} = vec4<${t}>(${loadElement(dtype, array, `(${elementIndex(rank, operand, mode)})`)});`;
  const parts = [0, 1, 2, 3].map((j) => {
    const index = perElement ? elementIndex(rank, operand, mode, `_${j}`) : elementIndex(rank, operand, mode, "", j ? `${j}u` : "");
    return loadElement(dtype, array, `(${index})`);
  });
  return `let ${name} = vec4<${t}>(${parts.join(", ")});`;
}

/** ExprType an operand of this dtype is loaded as. */
export const exprTypeOf = (d: StoredDType): "f32" | "i32" | "u32" => wordType(d);
