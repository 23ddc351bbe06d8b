// What compiled kernels call while they run (R in their text).
import type { Actor, Memory } from "./memory.ts";
import { bytesOfType, type ScalarName, type Type } from "./types.ts";
import { bitsFloat, even, type Fragment, floatBits, half, recast } from "./values.ts";

const F = Math.fround;
type Vector = readonly (number | boolean)[];

function index(i: number, count: number | undefined, memory?: Memory): number {
  if (count !== undefined && !(i >= 0 && i < count))
    throw new Error(`index ${i} of ${memory?.name ?? "an array"}, which has ${count} elements`);
  return i;
}

type Reader = (actor: Actor, at: number) => number;
type Writer = (actor: Actor, at: number, v: number) => void;

function vector(m: Memory, of: ScalarName, count: number, actor: Actor, at: number): number[] {
  const step = of === "f16" ? 2 : 4;
  const out: number[] = [];
  for (let i = 0; i < count; i++) out.push((m[of as "u32"] as Reader).call(m, actor, at + i * step));
  return out;
}

function setVector(m: Memory, of: ScalarName, count: number, actor: Actor, at: number, v: readonly number[]): void {
  const step = of === "f16" ? 2 : 4;
  for (let i = 0; i < count; i++) (m[`set_${of}` as "set_u32"] as Writer).call(m, actor, at + i * step, v[i]!);
}

function setArray(m: Memory, type: Type & { kind: "array" }, actor: Actor, at: number, v: readonly unknown[]): void {
  const { of } = type;
  v.forEach((x, i) => {
    const to = at + i * bytesOfType(of);
    if (of.kind === "vector") setVector(m, of.of, of.count, actor, to, x as number[]);
    else (m[`set_${(of as { of: string }).of}` as "set_u32"] as Writer).call(m, actor, to, x as number);
  });
}

function setStruct(m: Memory, fields: readonly ScalarName[], actor: Actor, at: number, v: readonly number[]): void {
  fields.forEach((of, i) => {
    (m[`set_${of}` as "set_u32"] as Writer).call(m, actor, at + 4 * i, v[i]!);
  });
}

/** Integer division is undefined by zero where drivers' checks are switched off. */
function nonZero(b: number): number {
  if (b === 0) throw new Error("division of an integer by zero");
  return b;
}

const splats = new Map<string, Fragment>();

/** One fragment for all lanes: fragments never change. `key` names the type. */
function fragment(key: string, type: Fragment["type"], v: number): Fragment {
  const id = `${key} ${v}`;
  const known = splats.get(id) ?? { type, data: new Float32Array(type.rows * type.columns).fill(v) };
  splats.set(id, known);
  return known;
}

export const runtime = {
  F,
  H: half,
  index,
  countOf: (m: Memory, stride: number): number => Math.floor(m.bytes / stride),
  vector,
  setVector,
  setArray,
  setStruct,
  fragment,
  even,
  recast,
  floatBits,
  bitsFloat,
  signed: (v: number): number => v | 0,
  unsigned: (v: number): number => v >>> 0,
  divide: (a: number, b: number): number => a / nonZero(b),
  remainder: (a: number, b: number): number => a % nonZero(b),
  toU32: (v: number): number => (v > 0 ? Math.min(Math.trunc(v), 4294967295) : 0),
  toI32: (v: number): number => (Number.isNaN(v) ? 0 : Math.max(-2147483648, Math.min(Math.trunc(v), 2147483647))),
  choose: <T>(no: T, yes: T, test: boolean): T => (test ? yes : no),
  blend: (no: Vector, yes: Vector, test: Vector): Vector => no.map((x, i) => (test[i] ? yes[i]! : x)),
  dot: (a: readonly number[], b: readonly number[]): number => a.reduce((s, x, i) => F(s + F(x * b[i]!)), 0),
  bytes: (w: number): number[] => [w & 255, (w >>> 8) & 255, (w >>> 16) & 255, w >>> 24],
  signedBytes: (w: number): number[] => [(w << 24) >> 24, (w << 16) >> 24, (w << 8) >> 24, w >> 24],
  ones: (w: number): number => w.toString(2).replaceAll("0", "").length,
} as const;
