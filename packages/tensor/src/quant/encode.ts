// f32 to block formats: the plain loops, which the generated code of ./wasm repeats operation by operation. The 32-value formats give the bytes
// of the `gguf` Python package; the K and IQ4 formats search their scales like ggml's reference quantizer (ggml: src/ggml-quants.c), with sums
// in f64.
import { dtypeInfo, type QuantDType } from "../dtype.ts";
import { f16FromF32 } from "../dtype-convert.ts";
import { DTypeError } from "../errors.ts";
import { checkBlocks } from "./decode.ts";
import { iq4_nl, iq4_xs, q2_K, q3_K, q4_K, q5_K, q6_K } from "./encode-k.ts";
import { runConversion } from "./wasm/run.ts";

/** Encodes one block: values `o`… of `x` (`bits` as integers) into bytes `s`… of `b`. */
type EncodeBlock = (x: Float32Array, o: number, b: Uint8Array, s: number, bits: Int32Array) => void;

const f = Math.fround;

/** Writes a scale as f16; the caller has found it finite in f32. */
function putHalf(b: Uint8Array, s: number, value: number): void {
  const bits = f16FromF32(value);
  b[s] = bits & 255;
  b[s + 1] = bits >> 8;
}

/** 1/d in f32; 0 where d is 0 or so small that its inverse overflows (such a d is 0 as f16 too). */
function inverse(d: number): number {
  const id = d === 0 ? 0 : f(1 / d);
  return Math.abs(id) === Infinity ? 0 : id;
}

/** The value of largest magnitude of a block of 32, the first one among equals. */
function extreme32(x: Float32Array, o: number): number {
  let best = x[o]!;
  for (let i = 1; i < 32; i++) if (Math.abs(x[o + i]!) > Math.abs(best)) best = x[o + i]!;
  return best;
}

function range32(x: Float32Array, o: number): readonly [number, number] {
  let min = x[o]!;
  let max = min;
  for (let i = 1; i < 32; i++) {
    const v = x[o + i]!;
    if (v < min) min = v;
    if (v > max) max = v;
  }
  return [min, max];
}

/** Packs 32 codes of 4 or 5 bits: nibbles at `qs`, fifth bits (if any) at `qh`. */
function packCodes(codes: Uint8Array, b: Uint8Array, qs: number, qh?: number): void {
  for (let i = 0; i < 16; i++) b[qs + i] = (codes[i]! & 15) | ((codes[i + 16]! & 15) << 4);
  if (qh === undefined) return;
  for (let k = 0; k < 4; k++) {
    let bits = 0;
    for (let i = 0; i < 8; i++) bits |= (codes[8 * k + i]! >> 4) << i;
    b[qh + k] = bits;
  }
}

const codes32 = new Uint8Array(32);

/** Symmetric codes of `levels` steps around the middle; the extreme value maps to code 0. */
function symmetric(x: Float32Array, o: number, levels: number): number {
  const middle = levels / 2;
  const d = f(extreme32(x, o) / -middle);
  const id = inverse(d);
  for (let i = 0; i < 32; i++) codes32[i] = Math.min(levels - 1, Math.trunc(f(f(x[o + i]! * id) + middle + 0.5)));
  return d;
}

/** Codes 0…levels-1 from the minimum up. */
function affine(x: Float32Array, o: number, levels: number): readonly [number, number] {
  const [min, max] = range32(x, o);
  const d = f(f(max - min) / (levels - 1));
  const id = inverse(d);
  for (let i = 0; i < 32; i++) codes32[i] = Math.min(levels - 1, Math.trunc(f(f(f(x[o + i]! - min) * id) + 0.5)));
  return [d, min];
}

function q4_0(x: Float32Array, o: number, b: Uint8Array, s: number): void {
  putHalf(b, s, symmetric(x, o, 16));
  packCodes(codes32, b, s + 2);
}

function q5_0(x: Float32Array, o: number, b: Uint8Array, s: number): void {
  putHalf(b, s, symmetric(x, o, 32));
  packCodes(codes32, b, s + 6, s + 2);
}

function q4_1(x: Float32Array, o: number, b: Uint8Array, s: number): void {
  const [d, min] = affine(x, o, 16);
  putHalf(b, s, d);
  putHalf(b, s + 2, min);
  packCodes(codes32, b, s + 4);
}

function q5_1(x: Float32Array, o: number, b: Uint8Array, s: number): void {
  const [d, min] = affine(x, o, 32);
  putHalf(b, s, d);
  putHalf(b, s + 2, min);
  packCodes(codes32, b, s + 8, s + 4);
}

function q8_0(x: Float32Array, o: number, b: Uint8Array, s: number, bits: Int32Array): void {
  const d = f(Math.abs(extreme32(x, o)) / 127);
  const id = inverse(d);
  putHalf(b, s, d);
  for (let i = 0; i < 32; i++) {
    // Halves away from zero. Signs are as good as random: a branch on them would be mispredicted half of the time.
    const size = (Math.abs(f(x[o + i]! * id)) + 0.5) | 0;
    const sign = bits[o + i]! >> 31;
    b[s + 2 + i] = (size ^ sign) - sign;
  }
}

const encoders: Readonly<Record<QuantDType, EncodeBlock>> = { q4_0, q4_1, q5_0, q5_1, q8_0, q2_K, q3_K, q4_K, q5_K, q6_K, iq4_nl, iq4_xs };

/** Byte offsets of the f16 fields of a block. */
const halfOffsets: Readonly<Record<QuantDType, readonly number[]>> = {
  q4_0: [0],
  q4_1: [0, 2],
  q5_0: [0],
  q5_1: [0, 2],
  q8_0: [0],
  q2_K: [80, 82],
  q3_K: [108],
  q4_K: [0, 2],
  q5_K: [0, 2],
  q6_K: [208],
  iq4_nl: [0],
  iq4_xs: [0],
};

/**
 * Encodes `count` values from `values[valueOffset…]` as a block format into `out[byteOffset…]`.
 * `count` must be whole blocks and both ranges must fit. Throws DTypeError for that, for NaN or infinite values, and for values so large
 * that a block's scale is beyond f16.
 */
export function quantizeInto(
  dtype: QuantDType,
  values: Float32Array,
  valueOffset: number,
  out: Uint8Array,
  byteOffset: number,
  count: number,
): void {
  checkBlocks("quantize", dtype, out.length - byteOffset, values.length - valueOffset, count);
  const input = new Uint8Array(values.buffer, values.byteOffset + 4 * valueOffset, 4 * count);
  if (!runConversion("f32", dtype, input, count, out.subarray(byteOffset)))
    quantizePlain(dtype, values, valueOffset, out, byteOffset, count);
}

/** What `quantizeInto` does, one value at a time: where there is no WebAssembly, to say what does not fit, and to test against. */
export function quantizePlain(
  dtype: QuantDType,
  values: Float32Array,
  valueOffset: number,
  out: Uint8Array,
  byteOffset: number,
  count: number,
): void {
  const { blockSize, blockBytes } = dtypeInfo[dtype];
  const blocks = checkBlocks("quantize", dtype, out.length - byteOffset, values.length - valueOffset, count);
  const encode = encoders[dtype];
  const bits = new Int32Array(values.buffer, values.byteOffset, values.length);
  for (let k = 0; k < blocks; k++) {
    const o = valueOffset + k * blockSize;
    const s = byteOffset + k * blockBytes;
    checkFinite(dtype, values, bits, o, blockSize);
    encode(values, o, out, s, bits);
    for (const at of halfOffsets[dtype]) if ((out[s + at + 1]! & 0x7c) === 0x7c) throw tooLarge(dtype, values, o, blockSize);
  }
}

function checkFinite(dtype: QuantDType, values: Float32Array, bits: Int32Array, o: number, blockSize: number): void {
  // One more in the exponent reaches the sign bit for infinities and NaN only.
  let carries = 0;
  for (let i = o; i < o + blockSize; i++) carries |= (bits[i]! & 0x7fffffff) + 0x00800000;
  if (carries >= 0) return;
  const at = values.subarray(o, o + blockSize).findIndex((v) => !Number.isFinite(v)) + o;
  throw new DTypeError("quantize", `${dtype} cannot hold ${values[at]}: value ${at}; keep this tensor in bf16 or mend the weights`);
}

function tooLarge(dtype: QuantDType, values: Float32Array, o: number, blockSize: number): DTypeError {
  const largest = values.subarray(o, o + blockSize).reduce((a, v) => Math.max(a, Math.abs(v)), 0);
  return new DTypeError(
    "quantize",
    `values up to ${largest} need a ${dtype} scale beyond f16: block at value ${o}; keep this tensor in bf16`,
  );
}
