// Types of WGSL as the simulator sees them, their sizes in memory, and arithmetic on scalars as JavaScript text.
import type { Expr, TypeName } from "./syntax.ts";

export type ScalarName = "f32" | "f16" | "u32" | "i32" | "bool" | "whole" | "real";

/** Scalars ("whole" and "real" are literals without a type), vectors, structs of scalars, arrays, atomics and subgroup matrices. */
export type Type =
  | { readonly kind: "scalar"; readonly of: ScalarName }
  | { readonly kind: "vector"; readonly of: ScalarName; readonly count: number }
  | { readonly kind: "array"; readonly of: Type; readonly count?: number }
  | { readonly kind: "struct"; readonly fields: readonly { readonly name: string; readonly of: ScalarName }[] }
  | { readonly kind: "atomic"; readonly of: ScalarName }
  | {
      readonly kind: "matrix";
      readonly side: "left" | "right" | "result";
      readonly of: ScalarName;
      readonly columns: number;
      readonly rows: number;
    }
  | { readonly kind: "void" };

export const scalar = (of: ScalarName): Type => ({ kind: "scalar", of });
export const vector = (of: ScalarName, count: number): Type => ({ kind: "vector", of, count });
export const nothing: Type = { kind: "void" };

const numberOf = (e: TypeName | Expr): number => {
  if ("kind" in e && e.kind === "number") return Number.parseInt(e.text, 10);
  throw new Error(`wgsl: a number expected in a template list: ${JSON.stringify(e)}`);
};

/** The type that a name with its template arguments means. */
export function typeOf(t: TypeName | Expr): Type {
  if ("kind" in t) throw new Error("wgsl: a type expected in a template list");
  const { name, args, fields } = t;
  if (fields) return { kind: "struct", fields: fields.map((f) => ({ name: f.name, of: elementOf(f.name, typeOf(f.type)) })) };
  if (/^(f32|f16|u32|i32|bool)$/.test(name)) return scalar(name as ScalarName);
  const inner = (): Type => typeOf(args[0]!);
  const element = (): ScalarName => elementOf(name, inner());
  if (/^vec[234]$/.test(name)) return vector(element(), Number(name[3]));
  if (name === "array") return { kind: "array", of: inner(), ...(args[1] ? { count: numberOf(args[1]) } : {}) };
  if (name === "atomic") return { kind: "atomic", of: element() };
  const side = /^subgroup_matrix_(left|right|result)$/.exec(name)?.[1] as "left" | undefined;
  if (side) return { kind: "matrix", side, of: element(), columns: numberOf(args[1]!), rows: numberOf(args[2]!) };
  throw new Error(`wgsl: unknown type ${name}`);
}

function elementOf(name: string, t: Type): ScalarName {
  if (t.kind !== "scalar") throw new Error(`wgsl: ${name} of ${t.kind}`);
  return t.of;
}

export const bytesOfScalar = (of: ScalarName): number => (of === "f16" ? 2 : 4);

/** Bytes of a value in memory; arrays without a count have none. */
export function bytesOfType(t: Type): number {
  switch (t.kind) {
    case "scalar":
    case "atomic":
      return bytesOfScalar(t.of);
    case "vector":
      return t.count === 3 ? 4 * bytesOfScalar(t.of) : t.count * bytesOfScalar(t.of);
    case "struct":
      return 4 * t.fields.length;
    case "array":
      return (t.count ?? 0) * bytesOfType(t.of);
    default:
      throw new Error(`wgsl: ${t.kind} has no place in memory`);
  }
}

/** Text that rounds a number to a scalar type. */
export function rounded(of: ScalarName, js: string): string {
  switch (of) {
    case "f32":
      return `F(${js})`;
    case "f16":
      return `H(${js})`;
    case "u32":
      return `((${js})>>>0)`;
    case "i32":
      return `((${js})|0)`;
    default:
      return `(${js})`;
  }
}

const comparisons: Readonly<Record<string, string>> = { "==": "===", "!=": "!==", "<": "<", ">": ">", "<=": "<=", ">=": ">=" };
export const isComparison = (op: string): boolean => op in comparisons;

/** Text of an operation on two scalars of a type. */
export function operation(op: string, of: ScalarName, a: string, b: string): string {
  if (isComparison(op)) return `(${a}${comparisons[op]}${b})`;
  if (of === "bool") return op === "&" || op === "&&" ? `(${a}&&${b})` : op === "^" ? `(${a}!==${b})` : `(${a}||${b})`;
  const integer = of === "u32" || of === "i32";
  if (integer && op === "*") return rounded(of, `Math.imul(${a},${b})`);
  if ((integer || of === "whole") && op === "/") return rounded(of, `Math.trunc(R.divide(${a},${b}))`);
  if (integer && op === "%") return rounded(of, `R.remainder(${a},${b})`);
  if (op === ">>" && of === "u32") return `(${a}>>>${b})`;
  return rounded(of, `${a}${op}${b}`);
}

export const scalarOf = (t: Type): ScalarName => ("of" in t && typeof t.of === "string" ? t.of : "bool");
export const countOf = (t: Type): number => (t.kind === "vector" ? t.count : 1);

/** The type literals take by themselves. */
export function concrete(t: Type): Type {
  const of = scalarOf(t);
  if (t.kind !== "scalar" || (of !== "whole" && of !== "real")) return t;
  return scalar(of === "whole" ? "i32" : "f32");
}

/** Text of a type's zero; fragments have none here: they must be assigned before they are used. */
export function zero(t: Type): string {
  switch (t.kind) {
    case "scalar":
      return t.of === "bool" ? "false" : "0";
    case "vector":
      return `[${new Array<string>(t.count).fill(t.of === "bool" ? "false" : "0").join(", ")}]`;
    case "struct":
      return `[${t.fields.map(() => "0").join(", ")}]`;
    case "array":
      return `Array.from({ length: ${t.count} }, () => ${zero(t.of)})`;
    default:
      return "undefined";
  }
}
