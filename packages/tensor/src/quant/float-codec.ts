// f16, bf16, f8e4m3 and f8e5m2 as bit patterns: tables to decode, round-to-nearest-even to encode. NaN stays NaN.
// f8e4m3 is the "fn" variant of PyTorch (bias 7, no infinities, 0x7f and 0xff are NaN, largest 448).

const scratch = new Float32Array(1);
const scratchBits = new Uint32Array(scratch.buffer);

/** Value of a small float format from its bit pattern; `mantissaBits` and `bias` as in IEEE 754, subnormals included. */
function decodeSmall(bits: number, exponentBits: number, mantissaBits: number, bias: number): number {
  const sign = (bits >> (exponentBits + mantissaBits)) & 1 ? -1 : 1;
  const exponent = (bits >> mantissaBits) & ((1 << exponentBits) - 1);
  const mantissa = bits & ((1 << mantissaBits) - 1);
  const scale = 2 ** -mantissaBits;
  if (exponent === 0) return sign * mantissa * scale * 2 ** (1 - bias);
  return sign * (1 + mantissa * scale) * 2 ** (exponent - bias);
}

function decodeF16(bits: number): number {
  if ((bits & 0x7c00) !== 0x7c00) return decodeSmall(bits, 5, 10, 15);
  return bits & 0x3ff ? Number.NaN : bits & 0x8000 ? -Infinity : Infinity;
}

function decodeF8e5m2(bits: number): number {
  return decodeF16(bits << 8);
}

function decodeF8e4m3(bits: number): number {
  return (bits & 0x7f) === 0x7f ? Number.NaN : decodeSmall(bits, 4, 3, 7);
}

const lazyTable = (size: number, decode: (bits: number) => number) => {
  let table: Float32Array | undefined;
  return (): Float32Array => (table ??= Float32Array.from({ length: size }, (_, bits) => decode(bits)));
};

/** The 65,536 values of f16 by bit pattern. */
export const f16Values = lazyTable(65536, decodeF16);
/** The 256 values of f8e4m3 by bit pattern. */
export const f8e4m3Values = lazyTable(256, decodeF8e4m3);
/** The 256 values of f8e5m2 by bit pattern. */
export const f8e5m2Values = lazyTable(256, decodeF8e5m2);

/** The bit pattern of `value` (first rounded to f32) as an unsigned 32-bit number. */
export function f32Bits(value: number): number {
  scratch[0] = value;
  return scratchBits[0]!;
}

/** bf16 bit pattern of an f32 bit pattern, to nearest even; NaN becomes a quiet NaN. */
export function bf16FromF32Bits(bits: number): number {
  if ((bits & 0x7fffffff) > 0x7f800000) return ((bits >>> 16) | 0x40) & 0xffff;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

/** f16 bit pattern of an f32 bit pattern, to nearest even; beyond 65,520 it is an infinity. */
export function f16FromF32Bits(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude >= 0x47800000) return magnitude > 0x7f800000 ? sign | 0x7e00 : sign | 0x7c00;
  if (magnitude >= 0x38800000) {
    const rounded = magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1);
    return sign | (rounded >>> 13);
  }
  if (magnitude < 0x33000000) return sign;
  const exponent = magnitude >>> 23;
  const mantissa = (magnitude & 0x7fffff) | 0x800000;
  const shift = 126 - exponent;
  const half = 1 << (shift - 1);
  return sign | ((mantissa + half - 1 + ((mantissa >>> shift) & 1)) >>> shift);
}

/** Nearest entry of a sorted table of non-negative values whose index is the bit pattern; ties go to the even pattern. */
function nearestPattern(values: Float32Array, last: number, magnitude: number): number {
  let low = 0;
  let high = last;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (values[middle]! <= magnitude) low = middle;
    else high = middle;
  }
  const below = magnitude - values[low]!;
  const above = values[high]! - magnitude;
  if (below === above) return low & 1 ? high : low;
  return below < above ? low : high;
}

/** f8e4m3 bit pattern of a value, to nearest even; what would round past 448 becomes NaN, as in PyTorch. */
export function f8e4m3FromNumber(value: number): number {
  const sign = f32Bits(value) >>> 31 ? 0x80 : 0;
  const magnitude = Math.abs(value);
  if (!(magnitude <= 464)) return sign | 0x7f;
  return sign | nearestPattern(f8e4m3Values(), 0x7e, magnitude);
}

/** f8e5m2 bit pattern of a value, to nearest even; what would round past 57,344 becomes an infinity. */
export function f8e5m2FromNumber(value: number): number {
  const sign = f32Bits(value) >>> 31 ? 0x80 : 0;
  const magnitude = Math.abs(value);
  if (Number.isNaN(magnitude)) return sign | 0x7f;
  if (magnitude >= 61440) return sign | 0x7c;
  return sign | nearestPattern(f8e5m2Values(), 0x7b, magnitude);
}

/** f16 bit pattern of a number, rounded once from f32. */
export const f16FromNumber = (value: number): number => f16FromF32Bits(f32Bits(value));
/** bf16 bit pattern of a number, rounded once from f32. */
export const bf16FromNumber = (value: number): number => bf16FromF32Bits(f32Bits(value));
