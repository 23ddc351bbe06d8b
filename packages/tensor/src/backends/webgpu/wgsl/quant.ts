// Decoders of the GGUF block formats, four values at a time, straight from the file's bytes (blocks are 2-byte aligned, words may straddle
// two). Layouts are ggml's (ggml-common.h); `base` is the byte offset of a row, k the element, a multiple of 4.
import { dtypeInfo, type QuantDType } from "../../../dtype.ts";

/** Functions over a word array called NAME: bytes, halves and words at any even byte offset. */
const access = (name: string): string => `fn ${name}_byte(o: u32) -> u32 { return (${name}[o >> 2u] >> (8u * (o & 3u))) & 0xffu; }
fn ${name}_half(o: u32) -> u32 { return (${name}[o >> 2u] >> (8u * (o & 2u))) & 0xffffu; }
fn ${name}_word(o: u32) -> u32 {
  let w = ${name}[o >> 2u];
  return select((w >> 16u) | (${name}[(o + 2u) >> 2u] << 16u), w, (o & 2u) == 0u);
}
fn ${name}_f16(o: u32) -> f32 { return f16_from(${name}_half(o)); }
`;

const u4 = (x: string): string => `vec4<f32>(unpack4xU8(${x}))`;
/** The four low or high nibbles of four consecutive bytes: elements 0-15 are low, 16-31 high. */
const nibbles = (name: string, qs: string): string => `(${name}_word(${qs} + (e & 15u)) >> (4u * (e >> 4u))) & 0x0f0f0f0fu`;
/** Bits e…e+3 of a 32-bit mask, moved to bit 4 of four bytes. */
const fifthBits =
  "(((h >> e) & 1u) << 4u) | (((h >> (e + 1u)) & 1u) << 12u) | (((h >> (e + 2u)) & 1u) << 20u) | (((h >> (e + 3u)) & 1u) << 28u)";
/** 6-bit scale and minimum of sub-block j of q4_K and q5_K. */
const scaleMin = (n: string): string => `let l8 = j & 3u;
  let ls = ${n}_byte(b + 4u + l8); let lm = ${n}_byte(b + 8u + l8); let t8 = ${n}_byte(b + 12u + l8);
  let sc = select((t8 & 15u) | ((ls >> 6u) << 4u), ls & 63u, j < 4u);
  let mn = select((t8 >> 4u) | ((lm >> 6u) << 4u), lm & 63u, j < 4u);`;

const iq4Table = "-127 -104 -83 -65 -49 -35 -22 -10 1 13 25 38 53 69 89 113".split(" ").map((v) => Number(v) & 255);
const iq4Words = [0, 4, 8, 12].map(
  (i) =>
    `0x${iq4Table
      .slice(i, i + 4)
      .reduceRight((w, b) => w * 256 + b, 0)
      .toString(16)}u`,
);
const iq4Text = `fn iq4_value(q: u32) -> f32 {
  let w = select(select(${iq4Words[0]}, ${iq4Words[1]}, q >= 4u), select(${iq4Words[2]}, ${iq4Words[3]}, q >= 12u), q >= 8u);
  return f32(bitcast<i32>((w >> (8u * (q & 3u))) << 24u) >> 24u);
}
fn iq4_quad(x: u32) -> vec4<f32> { let q = unpack4xU8(x); return vec4<f32>(iq4_value(q.x), iq4_value(q.y), iq4_value(q.z), iq4_value(q.w)); }
`;

/** Body of the decoder: `b` is the block's byte offset, `e` the element in it. */
const bodies: Readonly<Record<QuantDType, (n: string) => string>> = {
  q4_0: (n) => `return ${n}_f16(b) * (${u4(nibbles(n, "b + 2u"))} - 8.0);`,
  q4_1: (n) => `return ${n}_f16(b) * ${u4(nibbles(n, "b + 4u"))} + ${n}_f16(b + 2u);`,
  q5_0: (n) => `let h = ${n}_word(b + 2u); return ${n}_f16(b) * (${u4(`(${nibbles(n, "b + 6u")}) | (${fifthBits})`)} - 16.0);`,
  q5_1: (n) => `let h = ${n}_word(b + 4u); return ${n}_f16(b) * ${u4(`(${nibbles(n, "b + 8u")}) | (${fifthBits})`)} + ${n}_f16(b + 2u);`,
  q8_0: (n) => `return ${n}_f16(b) * vec4<f32>(unpack4xI8(${n}_word(b + 2u + e)));`,
  q2_K: (n) => `let l = e & 31u; let s = ${n}_byte(b + (e >> 4u));
  let q = (${n}_word(b + 16u + 32u * (e >> 7u) + l) >> (2u * ((e >> 5u) & 3u))) & 0x03030303u;
  return (${n}_f16(b + 80u) * f32(s & 15u)) * ${u4("q")} - ${n}_f16(b + 82u) * f32(s >> 4u);`,
  q3_K: (n) => `let l = e & 31u; let k2 = (e >> 5u) & 3u; let j = e >> 4u;
  let q = (${n}_word(b + 32u + 32u * (e >> 7u) + l) >> (2u * k2)) & 0x03030303u;
  let h = (${n}_word(b + l) >> (4u * (e >> 7u) + k2)) & 0x01010101u;
  let low = (${n}_byte(b + 96u + (j & 7u)) >> (4u * (j >> 3u))) & 15u;
  let high = (${n}_byte(b + 104u + (j & 3u)) >> (2u * (j >> 2u))) & 3u;
  let s = f32(low | (high << 4u)) - 32.0;
  return (${n}_f16(b + 108u) * s) * (${u4("q | (h << 2u)")} - 4.0);`,
  q4_K: (n) => `let j = e >> 5u; ${scaleMin(n)}
  let q = (${n}_word(b + 16u + 32u * (j >> 1u) + (e & 31u)) >> (4u * (j & 1u))) & 0x0f0f0f0fu;
  return (${n}_f16(b) * f32(sc)) * ${u4("q")} - ${n}_f16(b + 2u) * f32(mn);`,
  q5_K: (n) => `let j = e >> 5u; ${scaleMin(n)}
  let q = (${n}_word(b + 48u + 32u * (j >> 1u) + (e & 31u)) >> (4u * (j & 1u))) & 0x0f0f0f0fu;
  let h = (${n}_word(b + 16u + (e & 31u)) >> j) & 0x01010101u;
  return (${n}_f16(b) * f32(sc)) * ${u4("q | (h << 4u)")} - ${n}_f16(b + 2u) * f32(mn);`,
  q6_K: (n) => `let l = e & 31u; let k2 = (e >> 5u) & 3u;
  let low = (${n}_word(b + 64u * (e >> 7u) + 32u * (k2 & 1u) + l) >> (4u * (k2 >> 1u))) & 0x0f0f0f0fu;
  let high = (${n}_word(b + 128u + 32u * (e >> 7u) + l) >> (2u * k2)) & 0x03030303u;
  let s = bitcast<i32>(${n}_byte(b + 192u + (e >> 4u)) << 24u) >> 24u;
  return (${n}_f16(b + 208u) * f32(s)) * (${u4("low | (high << 4u)")} - 32.0);`,
  iq4_nl: (n) => `return ${n}_f16(b) * iq4_quad(${nibbles(n, "b + 2u")});`,
  iq4_xs: (n) => `let j = e >> 5u;
  let s = ((${n}_byte(b + 4u + (j >> 1u)) >> (4u * (j & 1u))) & 15u) | (((${n}_half(b + 2u) >> (2u * j)) & 3u) << 4u);
  let q = (${n}_word(b + 8u + 16u * j + (e & 15u)) >> (4u * ((e >> 4u) & 1u))) & 0x0f0f0f0fu;
  return (${n}_f16(b) * (f32(s) - 32.0)) * iq4_quad(q);`,
};

/** `fn NAME_quant4(base, k) -> vec4<f32>` over the array<u32> called NAME. */
export function quantFunctions(dtype: QuantDType, name: string): string {
  const { blockSize, blockBytes } = dtypeInfo[dtype];
  const shift = Math.log2(blockSize);
  return `${dtype.startsWith("iq4") ? iq4Text : ""}${access(name)}fn ${name}_quant4(base: u32, k: u32) -> vec4<f32> {
  let b = base + (k >> ${shift}u) * ${blockBytes}u; let e = k & ${blockSize - 1}u;
  ${bodies[dtype](name)}
}
`;
}
