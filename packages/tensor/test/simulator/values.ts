// Values of WGSL while it runs: numbers, booleans, arrays of them for vectors, and fragments of subgroup matrices.
import type { ScalarName, Type } from "./types.ts";

/** A subgroup matrix, held once for all lanes of its subgroup. */
export interface Fragment {
  readonly type: Type & { readonly kind: "matrix" };
  /** Row by row. */
  readonly data: Float32Array;
}

const floats = new Float32Array(4);
const words = new Uint32Array(floats.buffer);
const halves = new Uint16Array(floats.buffer);
const single = new Float32Array(1);
const singleWord = new Uint32Array(single.buffer);

/** The value of f16 bits. */
export function halfValue(h: number): number {
  const e = (h >> 10) & 31;
  const m = h & 1023;
  const v = e === 31 ? (m ? Number.NaN : Number.POSITIVE_INFINITY) : e === 0 ? m * 2 ** -24 : (1 + m / 1024) * 2 ** (e - 15);
  return h & 0x8000 ? -v : v;
}

/** Values of all f16 bits. */
export const tableOfHalves = Float32Array.from({ length: 65536 }, (_, h) => halfValue(h));

/** The nearest f16's bits, ties to even, from any number. */
export function halfBits(v: number): number {
  if (Number.isNaN(v)) return 0x7e00;
  const sign = v < 0 || Object.is(v, -0) ? 0x8000 : 0;
  const a = Math.abs(v);
  if (a >= 65520) return sign | 0x7c00;
  const e = a < 2 ** -14 ? -14 : exponentOf(a);
  const units = even(a / 2 ** (e - 10));
  // A mantissa that rounds up to 2048 carries into the exponent by itself.
  return sign | (a < 2 ** -14 ? units : ((e + 14) << 10) + units);
}

function exponentOf(a: number): number {
  single[0] = a;
  const e = (singleWord[0]! >>> 23) - 127;
  return 2 ** e > a ? e - 1 : e;
}

/** To the nearest integer, ties to even. */
export function even(v: number): number {
  const r = Math.round(v);
  return Math.abs(v % 1) === 0.5 && r % 2 !== 0 ? r - 1 : r;
}

export const half = (v: number): number => tableOfHalves[halfBits(v)]!;

/** The same bits as another type, for scalars and vectors of up to 16 bytes. */
export function recast(v: number | readonly number[], from: ScalarName, to: ScalarName, count: number): number | number[] {
  if (typeof v === "number") put(0, v, from);
  else for (let i = 0; i < v.length; i++) put(i, v[i]!, from);
  if (count === 1) return get(0, to);
  const out: number[] = [];
  for (let i = 0; i < count; i++) out.push(get(i, to));
  return out;
}

function put(i: number, v: number, of: ScalarName): void {
  if (of === "f16") halves[i] = halfBits(v);
  else if (of === "f32") floats[i] = v;
  else words[i] = v;
}

function get(i: number, of: ScalarName): number {
  if (of === "f16") return tableOfHalves[halves[i]!]!;
  if (of === "f32") return floats[i]!;
  return of === "i32" ? words[i]! | 0 : words[i]!;
}

export function floatBits(v: number): number {
  floats[0] = v;
  return words[0]!;
}

export function bitsFloat(v: number): number {
  words[0] = v;
  return floats[0]!;
}
