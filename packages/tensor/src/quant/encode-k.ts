// The 256-value formats and the non-linear 4-bit ones: sub-block scales by search, scales quantized, then codes for the scales as stored.
// ggml: src/ggml-quants.c, quantize_row_q2_K_ref … quantize_row_q6_K_ref and quantize_row_iq4_nl_impl.
import { f16FromF32, f16Values } from "../dtype-convert.ts";
import { packScaleMinK4 } from "./layout.ts";
import { clamp, nearestIq4, roundEven, type ScaleMinSearch, scaleIq4, scaleMin, scaleQ3, scaleQ6 } from "./scale-search.ts";

/** Writes a scale as f16 and gives back the value as stored. */
function putHalf(b: Uint8Array, s: number, value: number): number {
  const bits = f16FromF32(value);
  b[s] = bits & 255;
  b[s + 1] = bits >> 8;
  return f16Values()[bits]!;
}

const codes = new Uint8Array(256);
const weights = new Float64Array(32);

/** How each format searches the scales and depths of its sub-blocks. */
export const lineSearches = {
  q2_K: { top: 3, first: -0.5, tries: 15, absolute: true },
  q4_K: { top: 15, first: -1, tries: 20, absolute: false },
  q5_K: { top: 31, first: -0.5, tries: 15, absolute: false },
} as const satisfies Record<string, ScaleMinSearch>;

/** Scales and depths of all sub-blocks, and the whole numbers they become under a shared f16 scale each. */
interface Super {
  readonly scales: Float64Array;
  readonly depths: Float64Array;
}

const sup: Super = { scales: new Float64Array(16), depths: new Float64Array(16) };

/** Replaces `values` by whole numbers 0…top and returns the shared scale before rounding to f16. */
function quantizeShared(values: Float64Array, n: number, top: number): number {
  let max = 0;
  for (let j = 0; j < n; j++) max = Math.max(max, values[j]!);
  const inverse = max > 0 ? top / max : 0;
  for (let j = 0; j < n; j++) values[j] = Math.min(top, roundEven(inverse * values[j]!));
  return max / top;
}

function weighByMagnitude(x: Float32Array, o: number, n: number, base: boolean): void {
  let squares = 0;
  if (base) for (let l = 0; l < n; l++) squares += x[o + l]! * x[o + l]!;
  const level = Math.sqrt(squares / n);
  for (let l = 0; l < n; l++) weights[l] = level + Math.abs(x[o + l]!);
}

/** Searches scale and depth of every sub-block of `n` values; `base` adds the root mean square to the weights. */
function searchAll(x: Float32Array, o: number, n: number, search: ScaleMinSearch, base: boolean): void {
  for (let j = 0; j < 256 / n; j++) {
    weighByMagnitude(x, o + n * j, n, base);
    const { scale, depth } = scaleMin(x, o + n * j, n, weights, search);
    sup.scales[j] = scale;
    sup.depths[j] = depth;
  }
}

/** Codes for d·scale·q - dmin·depth with the scales as stored; a sub-block of scale 0 gets code 0. */
function affineCodes(x: Float32Array, o: number, n: number, top: number, d: number, dmin: number): void {
  for (let j = 0; j < 256 / n; j++) {
    const dl = d * sup.scales[j]!;
    const ml = dmin * sup.depths[j]!;
    for (let l = n * j; l < n * j + n; l++) codes[l] = dl === 0 ? 0 : clamp(roundEven((x[o + l]! + ml) / dl), 0, top);
  }
}

/** Codes for d·scale·(q - middle) with the scales as stored. */
function symmetricCodes(x: Float32Array, o: number, middle: number, d: number): void {
  for (let j = 0; j < 16; j++) {
    const dl = d * sup.scales[j]!;
    for (let l = 16 * j; l < 16 * j + 16; l++)
      codes[l] = dl === 0 ? middle : clamp(roundEven(x[o + l]! / dl), -middle, middle - 1) + middle;
  }
}

/** The sub-block scale of largest magnitude, sign kept. */
function widest(n: number): number {
  let best = 0;
  for (let j = 0; j < n; j++) if (Math.abs(sup.scales[j]!) > Math.abs(best)) best = sup.scales[j]!;
  return best;
}

/** Four 2-bit fields a byte: values l, l+32, l+64, l+96 of each half. */
function packTwoBits(b: Uint8Array, s: number, shift: number): void {
  for (let h = 0; h < 2; h++) {
    for (let l = 0; l < 32; l++) {
      let byte = 0;
      for (let k = 0; k < 4; k++) byte |= ((codes[128 * h + 32 * k + l]! >> shift) & 3) << (2 * k);
      b[s + 32 * h + l] = byte;
    }
  }
}

/** One block of 256 values x[o…] → bytes b[s…], 2-bit codes in 16 sub-blocks with scale and depth. */
export function q2_K(x: Float32Array, o: number, b: Uint8Array, s: number): void {
  searchAll(x, o, 16, lineSearches.q2_K, false);
  const d = putHalf(b, s + 80, quantizeShared(sup.scales, 16, 15));
  const dmin = putHalf(b, s + 82, quantizeShared(sup.depths, 16, 15));
  for (let j = 0; j < 16; j++) b[s + j] = sup.scales[j]! | (sup.depths[j]! << 4);
  affineCodes(x, o, 16, 3, d, dmin);
  packTwoBits(b, s + 16, 0);
}

/** One block of 256 values x[o…] → bytes b[s…], 3-bit codes in 16 sub-blocks with a scale. */
export function q3_K(x: Float32Array, o: number, b: Uint8Array, s: number): void {
  for (let j = 0; j < 16; j++) sup.scales[j] = scaleQ3(x, o + 16 * j);
  const inverse = -32 / widest(16);
  const shared = Number.isFinite(inverse) ? inverse : 0;
  const d = putHalf(b, s + 108, shared === 0 ? 0 : 1 / shared);
  b.fill(0, s, s + 32);
  b.fill(0, s + 96, s + 108);
  for (let j = 0; j < 16; j++) {
    const scale = clamp(roundEven(shared * sup.scales[j]!), -32, 31);
    sup.scales[j] = scale;
    b[s + 96 + (j & 7)]! |= ((scale + 32) & 15) << (4 * (j >> 3));
    b[s + 104 + (j & 3)]! |= ((scale + 32) >> 4) << (2 * (j >> 2));
  }
  symmetricCodes(x, o, 4, d);
  for (let l = 0; l < 256; l++) b[s + (l & 31)]! |= (codes[l]! >> 2) << (l >> 5);
  packTwoBits(b, s + 32, 0);
}

/** Scales, minima and 4-bit codes shared by q4_K and q5_K. */
function k45(x: Float32Array, o: number, b: Uint8Array, s: number, qs: number, search: ScaleMinSearch): void {
  searchAll(x, o, 32, search, true);
  const d = putHalf(b, s, quantizeShared(sup.scales, 8, 63));
  const dmin = putHalf(b, s + 2, quantizeShared(sup.depths, 8, 63));
  packScaleMinK4(sup.scales, sup.depths, b, s + 4);
  affineCodes(x, o, 32, search.top, d, dmin);
  for (let j = 0; j < 4; j++) {
    for (let l = 0; l < 32; l++) b[qs + 32 * j + l] = (codes[64 * j + l]! & 15) | ((codes[64 * j + 32 + l]! & 15) << 4);
  }
}

/** One block of 256 values x[o…] → bytes b[s…], 4-bit codes in 8 sub-blocks with scale and depth. */
export function q4_K(x: Float32Array, o: number, b: Uint8Array, s: number): void {
  k45(x, o, b, s, s + 16, lineSearches.q4_K);
}

/** One block of 256 values x[o…] → bytes b[s…], 5-bit codes in 8 sub-blocks with scale and depth. */
export function q5_K(x: Float32Array, o: number, b: Uint8Array, s: number): void {
  k45(x, o, b, s, s + 48, lineSearches.q5_K);
  b.fill(0, s + 16, s + 48);
  for (let l = 0; l < 256; l++) b[s + 16 + (l & 31)]! |= (codes[l]! >> 4) << (l >> 5);
}

/** One block of 256 values x[o…] → bytes b[s…], 6-bit codes in 16 sub-blocks with a scale. */
export function q6_K(x: Float32Array, o: number, b: Uint8Array, s: number): void {
  for (let j = 0; j < 16; j++) sup.scales[j] = scaleQ6(x, o + 16 * j);
  const max = widest(16);
  const inverse = max === 0 ? 0 : -128 / max;
  const d = putHalf(b, s + 208, inverse === 0 ? 0 : 1 / inverse);
  for (let j = 0; j < 16; j++) {
    sup.scales[j] = Math.min(127, roundEven(inverse * sup.scales[j]!));
    b[s + 192 + j] = sup.scales[j]!;
  }
  symmetricCodes(x, o, 32, d);
  for (let h = 0; h < 2; h++) {
    for (let l = 0; l < 64; l++) b[s + 64 * h + l] = (codes[128 * h + l]! & 15) | ((codes[128 * h + 64 + l]! & 15) << 4);
  }
  packTwoBits(b, s + 128, 4);
}

/** Nibbles of 32 values at `qs`, low half first, for the inverse scale given. */
function packIq4(x: Float32Array, o: number, inverse: number, b: Uint8Array, qs: number): void {
  for (let i = 0; i < 16; i++) b[qs + i] = nearestIq4(inverse * x[o + i]!) | (nearestIq4(inverse * x[o + 16 + i]!) << 4);
}

const inverseOf = (d: number): number => (d === 0 || !Number.isFinite(1 / d) ? 0 : 1 / d);

/** One block of 32 values x[o…] → bytes b[s…], codes of the 16 values in `iq4Values`. */
export function iq4_nl(x: Float32Array, o: number, b: Uint8Array, s: number): void {
  const d = putHalf(b, s, scaleIq4(x, o));
  packIq4(x, o, inverseOf(d), b, s + 2);
}

/** One block of 256 values x[o…] → bytes b[s…], codes of `iq4Values` in 8 sub-blocks with a scale. */
export function iq4_xs(x: Float32Array, o: number, b: Uint8Array, s: number): void {
  for (let j = 0; j < 8; j++) sup.scales[j] = scaleIq4(x, o + 32 * j);
  const d = putHalf(b, s, -widest(8) / 32);
  let high = 0;
  b.fill(0, s + 4, s + 8);
  for (let j = 0; j < 8; j++) {
    const scale = clamp(roundEven(inverseOf(d) * sup.scales[j]!), -32, 31);
    b[s + 4 + (j >> 1)]! |= ((scale + 32) & 15) << (4 * (j & 1));
    high |= ((scale + 32) >> 4) << (2 * j);
    packIq4(x, o + 32 * j, inverseOf(d * scale), b, s + 8 + 16 * j);
  }
  b[s + 2] = high & 255;
  b[s + 3] = high >> 8;
}
