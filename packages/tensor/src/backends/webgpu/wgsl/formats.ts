// How each dtype lies in 32-bit words: WGSL text that loads one or four elements and stores four. All tiers bind memory as words and
// convert with integer arithmetic where a conversion instruction would be free to round otherwise than to nearest even.
import type { PlainDType } from "../../../dtype.ts";

/** Formats of elements in memory: the plain dtypes and raw 16-bit units. */
export type StoredDType = PlainDType | "u16";

/** WGSL scalar type a dtype is computed in. */
export type WordType = "f32" | "i32" | "u32";

/** The WGSL type that values of `d` are computed in. */
export const wordType = (d: StoredDType): WordType => (d === "i32" || d === "i64" ? "i32" : d[0] === "u" ? "u32" : "f32");

/** Element size in bytes. */
export const elementBytes: Readonly<Record<StoredDType, number>> = {
  ...{ u16: 2, f32: 4, f16: 2, bf16: 2, f8e4m3: 1, f8e5m2: 1, i64: 8, i32: 4, u32: 4, u8: 1 },
};

/** WGSL type of an array whose elements are four values. */
export const quadType = (d: StoredDType): string =>
  ({ 1: "array<u32>", 2: "array<vec2<u32>>", 4: "array<vec4<u32>>", 8: "array<array<vec4<u32>, 2>>" })[elementBytes[d]]!;

/** An expression for the value at element index `i` of a word array. */
export function loadElement(d: StoredDType, array: string, i: string): string {
  switch (d) {
    case "f32":
      return `bitcast<f32>(${array}[${i}])`;
    case "i32":
      return `bitcast<i32>(${array}[${i}])`;
    case "u32":
      return `${array}[${i}]`;
    case "i64":
      return `bitcast<i32>(${array}[2u * (${i})])`;
    case "f16":
      return `f16_value(${array}[(${i}) >> 1u], (${i}) & 1u)`;
    case "bf16":
      return `bf16_value(${array}[(${i}) >> 1u], (${i}) & 1u)`;
    case "u16":
      return `((${array}[(${i}) >> 1u] >> (16u * ((${i}) & 1u))) & 0xffffu)`;
    case "u8":
      return `((${array}[(${i}) >> 2u] >> (8u * ((${i}) & 3u))) & 0xffu)`;
    default:
      return `${d}_value((${array}[(${i}) >> 2u] >> (8u * ((${i}) & 3u))) & 0xffu)`;
  }
}

/** An expression for the four values at quad index `q` of an array of `quadType`. */
export const loadQuad = (d: StoredDType, array: string, q: string): string => quadValue(d, `${array}[${q}]`);

/** An expression for the four values of element `e` of an array of `quadType`. */
export function quadValue(d: StoredDType, e: string): string {
  switch (d) {
    case "f32":
      return `bitcast<vec4<f32>>(${e})`;
    case "i32":
      return `bitcast<vec4<i32>>(${e})`;
    case "u32":
      return e;
    case "i64":
      return `bitcast<vec4<i32>>(vec4<u32>(${e}[0].xz, ${e}[1].xz))`;
    case "f16":
      return `f16_quad(${e})`;
    case "bf16":
      return `bf16_quad(${e})`;
    case "u16":
      return `vec4<u32>(${e}.x & 0xffffu, ${e}.x >> 16u, ${e}.y & 0xffffu, ${e}.y >> 16u)`;
    case "u8":
      return `unpack4xU8(${e})`;
    default:
      return `${d}_quad(${e})`;
  }
}

/** An expression that packs the four values of vector `v` (of the dtype's word type) into one element of `quadType`. */
export function packQuad(d: StoredDType, v: string): string {
  switch (d) {
    case "f32":
    case "i32":
      return `bitcast<vec4<u32>>(${v})`;
    case "u32":
      return v;
    case "i64":
      return `i64_pack(${v})`;
    case "f16":
      return `vec2<u32>(f16_bits(${v}.x) | (f16_bits(${v}.y) << 16u), f16_bits(${v}.z) | (f16_bits(${v}.w) << 16u))`;
    case "bf16":
      return `vec2<u32>(bf16_bits(${v}.x) | (bf16_bits(${v}.y) << 16u), bf16_bits(${v}.z) | (bf16_bits(${v}.w) << 16u))`;
    case "u16":
      return `vec2<u32>((${v}.x & 0xffffu) | (${v}.y << 16u), (${v}.z & 0xffffu) | (${v}.w << 16u))`;
    case "u8":
      return `(${v}.x & 0xffu) | ((${v}.y & 0xffu) << 8u) | ((${v}.z & 0xffu) << 16u) | (${v}.w << 24u)`;
    default:
      return `${d}_bits(${v}.x) | (${d}_bits(${v}.y) << 8u) | (${d}_bits(${v}.z) << 16u) | (${d}_bits(${v}.w) << 24u)`;
  }
}

/** The bits of one value in the low end of a u32. */
export function packElement(d: StoredDType, v: string): string {
  if (d === "f32" || d === "i32" || d === "i64") return `bitcast<u32>(${v})`;
  if (d === "u32") return v;
  if (d === "u16") return `(${v} & 0xffffu)`;
  return d === "u8" ? `(${v} & 0xffu)` : `${d}_bits(${v})`;
}

/**
 * A statement that stores one value at element index `i` without touching its neighbours. Elements smaller than a word go through
 * atomics (`array` is then an array of atomic<u32>): every thread changes only its own bits, so the result does not depend on order.
 */
export function storeElement(d: StoredDType, array: string, i: string, v: string): string {
  const bytes = elementBytes[d];
  const bits = packElement(d, v);
  if (bytes === 4) return `${array}[${i}] = ${bits};`;
  if (bytes === 8)
    return `{ let w = ${bits}; ${array}[2u * (${i})] = w; ${array}[2u * (${i}) + 1u] = bitcast<u32>(bitcast<i32>(w) >> 31u); }`;
  const per = 4 / bytes;
  const mask = bytes === 2 ? "0xffffu" : "0xffu";
  return `{ let at = (${i}); let sh = ${8 * bytes}u * (at & ${per - 1}u); let w = at >> ${per === 2 ? 1 : 2}u;
    atomicAnd(&${array}[w], ~(${mask} << sh)); atomicOr(&${array}[w], (${bits}) << sh); }`;
}

/** Whether a single value shares its word with others, so that its store is atomic. */
export const atomicStores = (d: StoredDType): boolean => elementBytes[d] < 4;

// f16: subnormals and infinities included; the reverse rounds to nearest even and keeps NaN.
const f16Text = `fn f16_from(h: u32) -> f32 {
  let m = h & 0x7fffu;
  let normal = bitcast<f32>((m << 13u) + select(0x38000000u, 0x70000000u, m >= 0x7c00u));
  let small = bitcast<f32>((m << 13u) + 0x38800000u) - 6.103515625e-5;
  let s = select(normal, small, m < 0x400u);
  return bitcast<f32>(bitcast<u32>(s) | ((h & 0x8000u) << 16u));
}
fn f16_value(w: u32, half: u32) -> f32 { return f16_from((w >> (16u * half)) & 0xffffu); }
fn f16_quad(w: vec2<u32>) -> vec4<f32> { return vec4<f32>(f16_from(w.x & 0xffffu), f16_from(w.x >> 16u), f16_from(w.y & 0xffffu), f16_from(w.y >> 16u)); }
`;
// Below 2^-14, adding a half rounds to multiples of 2^-24. Without branches: compilers keep those of several values apart.
const f16BitsText = `fn f16_bits(v: f32) -> u32 {
  let u = bitcast<u32>(v);
  let a = u & 0x7fffffffu;
  let normal = min((a - 0x38000000u + 0xfffu + ((a >> 13u) & 1u)) >> 13u, 0x7c00u);
  let small = bitcast<u32>(bitcast<f32>(a) + 0.5) - 0x3f000000u;
  let m = select(select(normal, small, a < 0x38800000u), 0x7e00u, a > 0x7f800000u);
  return m | ((u >> 16u) & 0x8000u);
}
`;
const bf16Text = `fn bf16_value(w: u32, half: u32) -> f32 { return bitcast<f32>(select(w << 16u, w & 0xffff0000u, half == 1u)); }
fn bf16_quad(w: vec2<u32>) -> vec4<f32> { return bitcast<vec4<f32>>(vec4<u32>(w.x << 16u, w.x & 0xffff0000u, w.y << 16u, w.y & 0xffff0000u)); }
`;
const bf16BitsText = `fn bf16_bits(v: f32) -> u32 {
  let u = bitcast<u32>(v);
  return select((u + 0x7fffu + ((u >> 16u) & 1u)) >> 16u, 0x7fc0u, (u & 0x7fffffffu) > 0x7f800000u);
}
`;
const f8e4m3Text = `fn f8e4m3_value(b: u32) -> f32 {
  let m = b & 0x7fu;
  let normal = bitcast<f32>((m << 20u) + 0x3c000000u);
  var s = bitcast<u32>(select(normal, f32(m) * 0.001953125, m < 8u));
  if (m == 0x7fu) { s = 0x7fc00000u; }
  return bitcast<f32>(s | ((b & 0x80u) << 24u));
}
fn f8e4m3_quad(w: u32) -> vec4<f32> { let b = unpack4xU8(w); return vec4<f32>(f8e4m3_value(b.x), f8e4m3_value(b.y), f8e4m3_value(b.z), f8e4m3_value(b.w)); }
fn f8e4m3_bits(v: f32) -> u32 {
  let u = bitcast<u32>(v);
  let sign = (u >> 24u) & 0x80u;
  let a = u & 0x7fffffffu;
  if (a > 0x7f800000u) { return sign | 0x7fu; }
  if (a >= 0x43e00000u) { return sign | 0x7eu; }
  if (a >= 0x3c800000u) { return sign | ((a - 0x3c000000u + 0x7ffffu + ((a >> 20u) & 1u)) >> 20u); }
  return sign | u32(round(bitcast<f32>(a) * 512.0));
}
`;
const f8e5m2Text = `fn f8e5m2_value(b: u32) -> f32 { return f16_from(b << 8u); }
fn f8e5m2_quad(w: u32) -> vec4<f32> { let b = unpack4xU8(w); return vec4<f32>(f8e5m2_value(b.x), f8e5m2_value(b.y), f8e5m2_value(b.z), f8e5m2_value(b.w)); }
fn f8e5m2_bits(v: f32) -> u32 {
  let u = bitcast<u32>(v);
  let sign = (u >> 24u) & 0x80u;
  let a = u & 0x7fffffffu;
  if (a > 0x7f800000u) { return sign | 0x7fu; }
  if (a >= 0x47700000u) { return sign | 0x7cu; }
  if (a >= 0x38800000u) { return sign | ((a - 0x38000000u + 0xfffffu + ((a >> 21u) & 1u)) >> 21u); }
  return sign | u32(round(bitcast<f32>(a) * 65536.0));
}
`;
const i64Text = `fn i64_pack(v: vec4<i32>) -> array<vec4<u32>, 2> {
  let s = bitcast<vec4<u32>>(v >> vec4<u32>(31u));
  let w = bitcast<vec4<u32>>(v);
  return array<vec4<u32>, 2>(vec4<u32>(w.x, s.x, w.y, s.y), vec4<u32>(w.z, s.z, w.w, s.w));
}
`;

const texts: readonly (readonly [RegExp, string])[] = [
  [/f16_(from|value|quad)\b|f8e5m2/, f16Text],
  [/\bf16_bits\(/, f16BitsText],
  [/\bbf16_(value|quad)\(/, bf16Text],
  [/\bbf16_bits\(/, bf16BitsText],
  [/f8e4m3_/, f8e4m3Text],
  [/f8e5m2_/, f8e5m2Text],
  [/i64_pack/, i64Text],
];

/** Decoding by the conversion instruction, in kernels that enable f16. */
const f16ByInstruction: readonly (readonly [RegExp, string])[] = [
  [
    /fn f16_value.*\n/,
    "fn f16_value(w: u32, half: u32) -> f32 { let v = bitcast<vec2<f16>>(w); return f32(select(v.x, v.y, half == 1u)); }\n",
  ],
  [/fn f16_quad.*\n/, "fn f16_quad(w: vec2<u32>) -> vec4<f32> { return vec4<f32>(bitcast<vec4<f16>>(w)); }\n"],
];

/** The conversion functions that `text` calls; `f16` says that the kernel enables the type. */
export const formatFunctions = (text: string, f16 = false): string =>
  texts
    .filter(([used]) => used.test(text))
    .map(([, t]) => (f16 ? f16ByInstruction.reduce((all, [plain, instruction]) => all.replace(plain, instruction), t) : t))
    .join("");
