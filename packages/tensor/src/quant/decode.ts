// Block formats to f32: one function per GGUF block type, bit-for-bit the values of the `gguf` Python package.
// Layouts are ggml's (ggml: src/ggml-common.h). Products d*scale*q are exact in f64, so the store to f32 rounds once, as the reference does.
import { dtypeInfo, type QuantDType } from "../dtype.ts";
import { f16Values } from "../dtype-convert.ts";
import { DTypeError } from "../errors.ts";
import { iq4Values, scaleMinK4 } from "./layout.ts";

/** Decodes one block: bytes `s`… of `b` into `out[o…]`; `h` is the f16 table. */
type DecodeBlock = (b: Uint8Array, s: number, out: Float32Array, o: number, h: Float32Array) => void;

const half = (b: Uint8Array, s: number, h: Float32Array): number => h[b[s]! | (b[s + 1]! << 8)]!;

function q4_0(b: Uint8Array, s: number, out: Float32Array, o: number, h: Float32Array): void {
  const d = half(b, s, h);
  for (let i = 0; i < 16; i++) {
    const q = b[s + 2 + i]!;
    out[o + i] = d * ((q & 15) - 8);
    out[o + 16 + i] = d * ((q >> 4) - 8);
  }
}

function q4_1(b: Uint8Array, s: number, out: Float32Array, o: number, h: Float32Array): void {
  const d = half(b, s, h);
  const m = half(b, s + 2, h);
  for (let i = 0; i < 16; i++) {
    const q = b[s + 4 + i]!;
    out[o + i] = d * (q & 15) + m;
    out[o + 16 + i] = d * (q >> 4) + m;
  }
}

function q5_0(b: Uint8Array, s: number, out: Float32Array, o: number, h: Float32Array): void {
  const d = half(b, s, h);
  for (let i = 0; i < 16; i++) {
    const q = b[s + 6 + i]!;
    const low = (b[s + 2 + (i >> 3)]! >> (i & 7)) & 1;
    const high = (b[s + 4 + (i >> 3)]! >> (i & 7)) & 1;
    out[o + i] = d * (((q & 15) | (low << 4)) - 16);
    out[o + 16 + i] = d * (((q >> 4) | (high << 4)) - 16);
  }
}

function q5_1(b: Uint8Array, s: number, out: Float32Array, o: number, h: Float32Array): void {
  const d = half(b, s, h);
  const m = half(b, s + 2, h);
  for (let i = 0; i < 16; i++) {
    const q = b[s + 8 + i]!;
    const low = (b[s + 4 + (i >> 3)]! >> (i & 7)) & 1;
    const high = (b[s + 6 + (i >> 3)]! >> (i & 7)) & 1;
    out[o + i] = d * ((q & 15) | (low << 4)) + m;
    out[o + 16 + i] = d * ((q >> 4) | (high << 4)) + m;
  }
}

function q8_0(b: Uint8Array, s: number, out: Float32Array, o: number, h: Float32Array): void {
  const d = half(b, s, h);
  for (let i = 0; i < 32; i++) out[o + i] = d * ((b[s + 2 + i]! << 24) >> 24);
}

function q2_K(b: Uint8Array, s: number, out: Float32Array, o: number, h: Float32Array): void {
  const d = half(b, s + 80, h);
  const dmin = half(b, s + 82, h);
  for (let j = 0; j < 16; j++) {
    const scale = b[s + j]!;
    const dl = d * (scale & 15);
    const ml = dmin * (scale >> 4);
    const qs = s + 16 + 32 * (j >> 3) + 16 * (j & 1);
    const shift = j & 6;
    for (let l = 0; l < 16; l++) out[o + 16 * j + l] = dl * ((b[qs + l]! >> shift) & 3) - ml;
  }
}

function q3_K(b: Uint8Array, s: number, out: Float32Array, o: number, h: Float32Array): void {
  const d = half(b, s + 108, h);
  for (let j = 0; j < 16; j++) {
    const low = (b[s + 96 + (j & 7)]! >> (4 * (j >> 3))) & 15;
    const high = (b[s + 104 + (j & 3)]! >> (2 * (j >> 2))) & 3;
    const dl = d * ((low | (high << 4)) - 32);
    const qs = s + 32 + 32 * (j >> 3) + 16 * (j & 1);
    const hmask = s + 16 * (j & 1);
    const bit = j >> 1;
    for (let l = 0; l < 16; l++) {
      const minus = (b[hmask + l]! >> bit) & 1 ? 0 : 4;
      out[o + 16 * j + l] = dl * (((b[qs + l]! >> (j & 6)) & 3) - minus);
    }
  }
}

function q4_K(b: Uint8Array, s: number, out: Float32Array, o: number, h: Float32Array): void {
  const d = half(b, s, h);
  const dmin = half(b, s + 2, h);
  for (let j = 0; j < 8; j++) {
    const packed = scaleMinK4(b, s + 4, j);
    const dl = d * (packed & 63);
    const ml = dmin * (packed >> 6);
    const qs = s + 16 + 32 * (j >> 1);
    const shift = 4 * (j & 1);
    for (let l = 0; l < 32; l++) out[o + 32 * j + l] = dl * ((b[qs + l]! >> shift) & 15) - ml;
  }
}

function q5_K(b: Uint8Array, s: number, out: Float32Array, o: number, h: Float32Array): void {
  const d = half(b, s, h);
  const dmin = half(b, s + 2, h);
  for (let j = 0; j < 8; j++) {
    const packed = scaleMinK4(b, s + 4, j);
    const dl = d * (packed & 63);
    const ml = dmin * (packed >> 6);
    const qs = s + 48 + 32 * (j >> 1);
    const shift = 4 * (j & 1);
    for (let l = 0; l < 32; l++) {
      const q = ((b[qs + l]! >> shift) & 15) | (((b[s + 16 + l]! >> j) & 1) << 4);
      out[o + 32 * j + l] = dl * q - ml;
    }
  }
}

function q6_K(b: Uint8Array, s: number, out: Float32Array, o: number, h: Float32Array): void {
  const d = half(b, s + 208, h);
  for (let j = 0; j < 16; j++) {
    const dl = d * ((b[s + 192 + j]! << 24) >> 24);
    const part = (j >> 1) & 3;
    const low = s + 64 * (j >> 3) + 32 * (part & 1) + 16 * (j & 1);
    const high = s + 128 + 32 * (j >> 3) + 16 * (j & 1);
    const shift = 4 * (part >> 1);
    for (let l = 0; l < 16; l++) {
      const q = ((b[low + l]! >> shift) & 15) | (((b[high + l]! >> (2 * part)) & 3) << 4);
      out[o + 16 * j + l] = dl * (q - 32);
    }
  }
}

function iq4_nl(b: Uint8Array, s: number, out: Float32Array, o: number, h: Float32Array): void {
  const d = half(b, s, h);
  for (let i = 0; i < 16; i++) {
    const q = b[s + 2 + i]!;
    out[o + i] = d * iq4Values[q & 15]!;
    out[o + 16 + i] = d * iq4Values[q >> 4]!;
  }
}

function iq4_xs(b: Uint8Array, s: number, out: Float32Array, o: number, h: Float32Array): void {
  const d = half(b, s, h);
  const high = b[s + 2]! | (b[s + 3]! << 8);
  for (let j = 0; j < 8; j++) {
    const scale = ((b[s + 4 + (j >> 1)]! >> (4 * (j & 1))) & 15) | (((high >> (2 * j)) & 3) << 4);
    const dl = d * (scale - 32);
    for (let l = 0; l < 16; l++) {
      const q = b[s + 8 + 16 * j + l]!;
      out[o + 32 * j + l] = dl * iq4Values[q & 15]!;
      out[o + 32 * j + 16 + l] = dl * iq4Values[q >> 4]!;
    }
  }
}

const decoders: Readonly<Record<QuantDType, DecodeBlock>> = {
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q8_0,
  q2_K,
  q3_K,
  q4_K,
  q5_K,
  q6_K,
  iq4_nl,
  iq4_xs,
};

/**
 * Decodes `count` values of a block format from `bytes[byteOffset…]` into `out[outOffset…]`.
 * `count` must be whole blocks and both ranges must fit; throws DTypeError otherwise. NaN and infinite scales give NaN and infinite values.
 */
export function dequantizeInto(
  dtype: QuantDType,
  bytes: Uint8Array,
  byteOffset: number,
  out: Float32Array,
  outOffset: number,
  count: number,
): void {
  const { blockSize, blockBytes } = dtypeInfo[dtype];
  const blocks = checkBlocks("dequantize", dtype, bytes.length - byteOffset, out.length - outOffset, count);
  const decode = decoders[dtype];
  const h = f16Values();
  for (let k = 0; k < blocks; k++) decode(bytes, byteOffset + k * blockBytes, out, outOffset + k * blockSize, h);
}

/** Number of blocks in `count` values, after checking that bytes and values have room for them. Throws DTypeError when they have not. */
export function checkBlocks(op: string, dtype: QuantDType, byteRoom: number, valueRoom: number, count: number): number {
  const { blockSize, blockBytes } = dtypeInfo[dtype];
  const blocks = count / blockSize;
  if (!Number.isInteger(blocks) || count < 0) throw new DTypeError(op, `${count} values are not whole ${dtype} blocks of ${blockSize}`);
  if (blocks * blockBytes > byteRoom || count > valueRoom) {
    const need = `${count} values in ${blocks * blockBytes} bytes`;
    throw new DTypeError(op, `${dtype} ranges are too short: need ${need}, have ${valueRoom} values and ${byteRoom} bytes`);
  }
  return blocks;
}
