// Operands of products as the matrix kernels fetch them: a few values at once, kept in registers as they lie in memory until they are staged. Where
// a row begins is computed once and not for every slice; nothing branches, so that compilers may move loads ahead of everything else.
import type { QuantDType } from "../../../dtype.ts";
import { loadElement, quadType, quadValue, type StoredDType } from "../wgsl/formats.ts";
import type { OffsetFunction } from "../wgsl/offsets.ts";
import { quantFunctions } from "../wgsl/quant.ts";

/**
 * Text over an operand called NAME: `NAME_row(z, r) -> u32` for what does not depend on k, and `NAME_raw(z, row, k)` for one register: `unit` values
 * along k of row r, or (along "r") the values of rows r…r+3 at k. Both read within p.k only; k may be beyond it where `guards` says so.
 */
export interface Runs {
  /** WGSL type of the binding. */
  readonly type: string;
  /** WGSL type of a register. */
  readonly raw: string;
  readonly unit: 1 | 4 | 8;
  readonly along: "k" | "r";
  /** Gives zeros beyond p.k by itself. */
  readonly guards: boolean;
  /** Values of neighbouring rows are neighbours in memory, those along k are not. */
  readonly scattered?: boolean;
  readonly text: string;
  /** Four values of a register as f32: the first four, or the last of eight. */
  value(register: string, half: 0 | 1): string;
}

interface Plain {
  readonly name: string;
  readonly dtype: StoredDType;
  readonly along: "k" | "r";
  /** Rows are whole groups of four values, and of eight. */
  readonly quad: boolean;
  readonly eights: boolean;
  readonly batch: OffsetFunction;
}

/** Runs of an operand that is stored value by value. */
export function plainRuns(plain: Plain): Runs {
  if (!plain.quad) return plain.along === "k" ? lonelyRuns(plain) : lonelyRows(plain);
  const { name, dtype, along, eights, batch } = plain;
  const [unit, raw] = eights ? ([8, "vec4<u32>"] as const) : ([4, elementOf(quadType(dtype))] as const);
  const [row, index] = along === "k" ? [`r * p.${name}_step`, "row + k"] : ["r", `row + k * p.${name}_step`];
  return {
    ...{ type: `array<${raw}>`, raw, unit: along === "k" ? unit : 1, along, guards: false },
    get text() {
      return `${batch.text}
fn ${name}_row(z: u32, r: u32) -> u32 { return p.${name}_o + ${name}_batch(z) + ${row}; }
fn ${name}_raw(z: u32, row: u32, k: u32) -> ${raw} { return ${name}[(${index}) >> ${Math.log2(unit)}u]; }\n`;
    },
    value: (register, half) => quadValue(dtype, eights ? `${register}.${half === 0 ? "xy" : "zw"}` : register),
  };
}

const elementOf = (arrayType: string): string => arrayType.slice("array<".length, -1);

/** Four values along k one by one: rows begin anywhere. */
function lonelyRuns({ name, dtype, batch }: Plain): Runs {
  const one = (j: number): string => `select(0.0, f32(${loadElement(dtype, name, `(row + min(k + ${j}u, p.k - 1u))`)}), k + ${j}u < p.k)`;
  return {
    ...{ type: "array<u32>", raw: "vec4<f32>", unit: 4, along: "k", guards: true },
    get text() {
      return `${batch.text}
fn ${name}_row(z: u32, r: u32) -> u32 { return p.${name}_o + ${name}_batch(z) + r * p.${name}_step; }
fn ${name}_raw(z: u32, row: u32, k: u32) -> vec4<f32> { return vec4<f32>(${[0, 1, 2, 3].map(one).join(", ")}); }\n`;
    },
    value: (register) => register,
  };
}

/** Four rows at one k, value by value. */
function lonelyRows({ name, dtype, batch }: Plain): Runs {
  const limit = name === "a" ? "p.m" : "p.n";
  const one = (j: number): string => `f32(${loadElement(dtype, name, `(start + min(row + ${j}u, ${limit} - 1u))`)})`;
  return {
    ...{ type: "array<u32>", raw: "vec4<f32>", unit: 1, along: "r", guards: false },
    get text() {
      return `${batch.text}
fn ${name}_row(z: u32, r: u32) -> u32 { return r; }
fn ${name}_raw(z: u32, row: u32, k: u32) -> vec4<f32> {
  let start = p.${name}_o + ${name}_batch(z) + k * p.${name}_step;
  return vec4<f32>(${[0, 1, 2, 3].map(one).join(", ")});
}\n`;
    },
    value: (register) => register,
  };
}

/**
 * Runs of an operand in blocks, whose rows begin at multiples of 16 bytes where `aligned`. q8_0 and q4_K are kept as their bytes and scales; others are
 * decoded as they come.
 */
export function blockRuns(dtype: QuantDType, name: string, values: 4 | 8, aligned: boolean): Runs {
  if (dtype === "q4_K" && values === 8 && aligned) return superblockRuns(name);
  const row = `fn ${name}_row(z: u32, r: u32) -> u32 { return p.${name}_o + r * p.${name}_step; }\n`;
  if (dtype === "q8_0" && values === 8) {
    return {
      ...{ type: "array<u32>", raw: "vec3<u32>", unit: 8, along: "k", guards: false },
      get text() {
        return `${quantFunctions(dtype, name)}${row}fn ${name}_raw(z: u32, row: u32, k: u32) -> vec3<u32> {
  let block = row + (k >> 5u) * 34u;
  let o = block + 2u + (k & 31u);
  let w = vec3<u32>(${name}[o >> 2u], ${name}[(o >> 2u) + 1u], ${name}[(o + 6u) >> 2u]);
  let odd_words = (w.xy >> vec2<u32>(16u)) | (w.yz << vec2<u32>(16u));
  return vec3<u32>(select(odd_words, w.xy, (o & 2u) == 0u), ${name}_half(block));
}\n`;
      },
      value: (register, half) => `(f16_from(${register}.z) * vec4<f32>(unpack4xI8(${register}.${"xy"[half]})))`,
    };
  }
  return {
    ...{ type: "array<u32>", raw: "vec4<f32>", unit: 4, along: "k", guards: false },
    get text() {
      return `${quantFunctions(dtype, name)}${row}fn ${name}_raw(z: u32, row: u32, k: u32) -> vec4<f32> { return ${name}_quant4(row, k); }\n`;
    },
    value: (register) => register,
  };
}

/**
 * Runs of q4_K, whose blocks of 144 bytes are nine vectors: scales and minima in the first, each other 16 bytes of two sub-blocks' halves. A register is
 * eight values as bytes, their scale and their minimum.
 */
function superblockRuns(name: string): Runs {
  return {
    ...{ type: "array<vec4<u32>>", raw: "vec4<u32>", unit: 8, along: "k", guards: false },
    get text() {
      return `fn ${name}_row(z: u32, r: u32) -> u32 { return (p.${name}_o + r * p.${name}_step) >> 4u; }
fn ${name}_raw(z: u32, row: u32, k: u32) -> vec4<u32> {
  let block = row + (k >> 8u) * 9u;
  let head = ${name}[block];
  let w = ${name}[block + 1u + ((k >> 5u) & 6u) + ((k >> 4u) & 1u)];
  let q = (select(w.xy, w.zw, (k & 8u) != 0u) >> vec2<u32>((k >> 3u) & 4u)) & vec2<u32>(0x0f0f0f0fu);
  // 6-bit scale and minimum of sub-block j: those of the last four have their high bits above the low ones of the first four.
  let j = (k >> 5u) & 7u;
  let s = head.yzw >> vec3<u32>((j & 3u) * 8u);
  let low = s.xy & vec2<u32>(63u);
  let high = ((s.zz >> vec2<u32>(0u, 4u)) & vec2<u32>(15u)) | ((s.xy >> vec2<u32>(2u)) & vec2<u32>(48u));
  let m = vec2<f32>(f16_from(head.x & 0xffffu), f16_from(head.x >> 16u)) * vec2<f32>(select(high, low, j < 4u));
  return vec4<u32>(q, bitcast<vec2<u32>>(m));
}\n`;
    },
    value: (register, half) =>
      `(bitcast<f32>(${register}.z) * vec4<f32>(unpack4xU8(${register}.${"xy"[half]})) - vec4<f32>(bitcast<f32>(${register}.w)))`,
  };
}
