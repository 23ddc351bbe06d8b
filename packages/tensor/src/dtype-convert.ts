// Exact conversions between f32 and the narrow float formats, one value or many at a time: round to nearest, ties to even.
// Overflow and NaN follow c10/util/{Half,BFloat16,Float8_e4m3fn,Float8_e5m2}.h of PyTorch. Independent of any backend.

/** Float formats narrower than f32. */
export type NarrowFloat = "f16" | "bf16" | "f8e4m3" | "f8e5m2";
/** Raw bits of narrow floats: 16-bit formats in Uint16Array, 8-bit ones in Uint8Array. */
export type NarrowBits = Uint16Array | Uint8Array;

/** From this magnitude on rounding to the format overflows (or saturates): c10/util/Half.h, Float8_e4m3fn.h, Float8_e5m2.h. */
export const overflowFrom: Readonly<Partial<Record<NarrowFloat, number>>> = { f16: 65520, f8e4m3: 464, f8e5m2: 61440 };

const f32 = new Float32Array(1);
const u32 = new Uint32Array(f32.buffer);

/** Bits of the f16 nearest to an f32 value; overflow gives infinity, every NaN becomes 0x7e00 with its sign. */
export function f16FromF32(value: number): number {
  f32[0] = value;
  const sign = (u32[0]! >>> 16) & 0x8000;
  const a = u32[0]! & 0x7fffffff;
  if (a >= 0x47800000) return sign | (a > 0x7f800000 ? 0x7e00 : 0x7c00);
  if (a >= 0x38800000) return sign | ((a - 0x38000000 + 0xfff + ((a >>> 13) & 1)) >>> 13);
  // Adding 0.5 puts the last subnormal bit of f16 (2^-24) at the last bit of the f32 sum: the addition does the rounding.
  u32[0] = a;
  f32[0] = f32[0]! + 0.5;
  return sign | (u32[0]! - 0x3f000000);
}

/** Bits of the bf16 nearest to an f32 value; every NaN becomes 0x7fc0, as in PyTorch. */
export function bf16FromF32(value: number): number {
  if (Number.isNaN(value)) return 0x7fc0;
  f32[0] = value;
  const u = u32[0]!;
  return (u + 0x7fff + ((u >>> 16) & 1)) >>> 16;
}

/** Bits of the f8e4m3 (finite variant, no infinities) nearest to an f32 value; larger magnitudes and infinities become 448, as in PyTorch 2.13. */
export function f8e4m3FromF32(value: number): number {
  f32[0] = value;
  const sign = (u32[0]! >>> 24) & 0x80;
  const a = u32[0]! & 0x7fffffff;
  if (a > 0x7f800000) return sign | 0x7f;
  if (a >= 0x43e00000) return sign | 0x7e;
  if (a >= 0x3c800000) return sign | ((a - 0x3c000000 + 0x7ffff + ((a >>> 20) & 1)) >>> 20);
  u32[0] = a;
  f32[0] = f32[0]! + 16384;
  return sign | (u32[0]! - 0x46800000);
}

/** Bits of the f8e5m2 nearest to an f32 value; overflow gives infinity. */
export function f8e5m2FromF32(value: number): number {
  f32[0] = value;
  const sign = (u32[0]! >>> 24) & 0x80;
  const a = u32[0]! & 0x7fffffff;
  if (a >= 0x47800000) return sign | (a > 0x7f800000 ? 0x7f : 0x7c);
  if (a >= 0x38800000) return sign | ((a - 0x38000000 + 0xfffff + ((a >>> 21) & 1)) >>> 21);
  u32[0] = a;
  f32[0] = f32[0]! + 128;
  return sign | (u32[0]! - 0x43000000);
}

/** Value of an IEEE-like format from its bits. */
function decodeBits(bits: number, exponentBits: number, mantissaBits: number, infinities: boolean): number {
  const sign = bits >>> (exponentBits + mantissaBits) ? -1 : 1;
  const top = (1 << exponentBits) - 1;
  const e = (bits >>> mantissaBits) & top;
  const m = bits & ((1 << mantissaBits) - 1);
  if (infinities && e === top) return m ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  if (!infinities && e === top && m === (1 << mantissaBits) - 1) return Number.NaN;
  const bias = top >> 1;
  return sign * (e ? 2 ** (e - bias) * (1 + m / 2 ** mantissaBits) : 2 ** (1 - bias - mantissaBits) * m);
}

const table = (bits: number, exponentBits: number, mantissaBits: number, infinities: boolean): Float32Array =>
  Float32Array.from({ length: 2 ** bits }, (_, i) => decodeBits(i, exponentBits, mantissaBits, infinities));

const e4m3Values = table(8, 4, 3, false);
const e5m2Values = table(8, 5, 2, true);
let f16Table: Float32Array | undefined;

/** The f32 value of every f16 bit pattern (256 KiB, made at first use). */
export function f16Values(): Float32Array {
  f16Table ??= table(16, 5, 10, true);
  return f16Table;
}

/** The f32 value of f16 bits. */
export const f32FromF16 = (bits: number): number => f16Values()[bits]!;

/** The f32 value of bf16 bits. */
export function f32FromBf16(bits: number): number {
  u32[0] = bits << 16;
  return f32[0]!;
}

/** The f32 value of f8e4m3 bits. */
export const f32FromF8e4m3 = (bits: number): number => e4m3Values[bits]!;

/** The f32 value of f8e5m2 bits. */
export const f32FromF8e5m2 = (bits: number): number => e5m2Values[bits]!;

const encoders = { f16: f16FromF32, bf16: bf16FromF32, f8e4m3: f8e4m3FromF32, f8e5m2: f8e5m2FromF32 } as const;

/** Rounds one value through a narrow format and back. */
export function roundThrough(dtype: NarrowFloat, value: number): number {
  const bits = encoders[dtype](value);
  if (dtype === "bf16") return f32FromBf16(bits);
  return (dtype === "f16" ? f16Values() : dtype === "f8e4m3" ? e4m3Values : e5m2Values)[bits]!;
}

/** Decodes `count` narrow floats from `bits` at `from` into f32 values at `at`; `step` is the distance of sources, in elements. */
export function decodeFloats(
  dtype: NarrowFloat,
  bits: NarrowBits,
  from: number,
  out: Float32Array,
  at: number,
  count: number,
  step = 1,
): void {
  if (dtype === "bf16") {
    const raw = new Uint32Array(out.buffer, out.byteOffset, out.length);
    for (let i = 0; i < count; i++) raw[at + i] = bits[from + i * step]! << 16;
    return;
  }
  const values = dtype === "f16" ? f16Values() : dtype === "f8e4m3" ? e4m3Values : e5m2Values;
  for (let i = 0; i < count; i++) out[at + i] = values[bits[from + i * step]!]!;
}

/** Encodes `count` f32 values from `values` at `from` into narrow floats at `at`; `step` is the distance of destinations, in elements. */
export function encodeFloats(
  dtype: NarrowFloat,
  values: Float32Array,
  from: number,
  bits: NarrowBits,
  at: number,
  count: number,
  step = 1,
): void {
  if (dtype === "bf16") {
    encodeBf16(values, from, bits, at, count, step);
    return;
  }
  const encode = encoders[dtype];
  for (let i = 0; i < count; i++) bits[at + i * step] = encode(values[from + i]!);
}

function encodeBf16(values: Float32Array, from: number, bits: NarrowBits, at: number, count: number, step: number): void {
  const raw = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < count; i++) {
    const u = raw[from + i]!;
    bits[at + i * step] = (u & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : (u + 0x7fff + ((u >>> 16) & 1)) >>> 16;
  }
}
