// The bf16 and f16 streams of PyTorch 1.13: uniforms of 8 or 11 bits, and Box-Muller rounded to the format at every assignment
// (bf16: after every operation). pytorch v1.13: aten/src/ATen/native/cpu/DistributionTemplates.h, c10/util/{BFloat16-math,Half-inl}.h.
import { bf16FromF32, f16FromF32, f16Values } from "../dtype-convert.ts";
import { cosf, logf, sinf } from "./libm-f32.ts";

const f = Math.fround;
const scratch = new Uint32Array(1);
const scratchFloat = new Float32Array(scratch.buffer);

/** A legacy uniform from one 32-bit word: as a number, or with `asBits` as the format's bit pattern. */
export function legacyUniform(word: number, dtype: "bf16" | "f16", asBits = false): number {
  const value = dtype === "bf16" ? (word & 0xff) / 256 : (word & 0x7ff) / 2048;
  if (!asBits) return value;
  return dtype === "bf16" ? bf16FromF32(value) : f16FromF32(value);
}

/** Rounds to the nearest bf16, by way of f32 as C++ converts a double. */
function roundBf16(value: number): number {
  scratch[0] = bf16FromF32(value) << 16;
  return scratchFloat[0]!;
}

const roundF16 = (value: number): number => f16Values()[f16FromF32(value)]!;

function pairBf16(u1: number, u2: number): readonly [number, number] {
  const r = roundBf16;
  const radius = r(Math.sqrt(r(-2 * r(Math.log(r(1 - u1))))));
  const angle = r(f(2 * Math.PI * u2));
  return [r(radius * r(Math.cos(angle))), r(radius * r(Math.sin(angle)))];
}

function pairF16(u1: number, u2: number): readonly [number, number] {
  const radius = roundF16(f(Math.sqrt(f(-2 * logf(roundF16(1 - u1))))));
  const angle = roundF16(f(2 * Math.PI * u2));
  return [roundF16(f(radius * cosf(angle))), roundF16(f(radius * sinf(angle)))];
}

/** Turns the uniforms x[i…i+15], as bit patterns of `dtype`, into normal values in place. */
export function legacyBoxMuller16(x: Uint16Array, i: number, dtype: "bf16" | "f16"): void {
  const [decode, encode, pair] =
    dtype === "bf16" ? ([decodeBf16, bf16FromF32, pairBf16] as const) : ([decodeF16, f16FromF32, pairF16] as const);
  for (let j = i; j < i + 8; j++) {
    const [first, second] = pair(decode(x[j]!), decode(x[j + 8]!));
    x[j] = encode(first + 0);
    x[j + 8] = encode(second + 0);
  }
}

const decodeF16 = (bits: number): number => f16Values()[bits]!;

function decodeBf16(bits: number): number {
  scratch[0] = bits << 16;
  return scratchFloat[0]!;
}
