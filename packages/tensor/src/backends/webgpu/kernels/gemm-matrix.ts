// Matrix multiplication on subgroup matrices (tensor cores): any fragment shape the adapter lists, f16 or f32 fragments, f32 sums always.
// Operands with more digits than f16 go into f16 fragments as two parts, v = high + low, so that products keep f32's accuracy.
// The extension is experimental; everything that spells its syntax is in this file.
import { type DType, isQuantized } from "../../../dtype.ts";
import type { DeviceTraits, MatrixConfig } from "../limits.ts";
import type { ProgramSpec } from "../pipelines.ts";
import type { Finish } from "./finish.ts";
import { type Gemm, type GemmSize, gemmSpec, storeRow, times, withBatch } from "./gemm-parts.ts";
import type { MatrixVariant } from "./gemm-variants.ts";
import type { MatrixSource } from "./matmul.ts";

/** A workgroup's tile: 2 x 2 subgroups of `down` x `across` fragments. */
interface Tile {
  readonly config: MatrixConfig;
  readonly down: number;
  readonly across: number;
  readonly rows: number;
  readonly columns: number;
  readonly depth: number;
  /** Row pitch of staged tiles in quads: 8 values more than the depth, against bank conflicts. */
  readonly pitch: number;
  /** Parts that a value of each operand is staged as. */
  readonly parts: { readonly a: number; readonly b: number };
  /** Operands are brought into f16's range by powers of two found from their largest magnitudes. */
  readonly scaled: boolean;
}

const fitsHalf: readonly DType[] = ["f16", "f8e4m3", "f8e5m2"];

/** f16 and f8 values are f16 values; bf16 has fewer digits but more range; f32 and blocks have more digits. */
function partsOf(traits: DeviceTraits, { input }: MatrixConfig, { dtype }: MatrixSource): number {
  const long = dtype === "f32" || isQuantized(dtype);
  return input === "f16" && long && !traits.roundProducts ? 2 : 1;
}

/** The tile of a variant, with the deepest staging that workgroup memory allows; undefined if none does. */
function tileOf(traits: DeviceTraits, { down, across }: MatrixVariant, a: MatrixSource, b: MatrixSource): Tile | undefined {
  const config = traits.matrix;
  if (!config || traits.subgroupSize === 0 || 4 * traits.subgroupSize > traits.maxInvocations) return undefined;
  const { m, n, k, input } = config;
  const [rows, columns] = [2 * down * m, 2 * across * n];
  const parts = { a: partsOf(traits, config, a), b: partsOf(traits, config, b) };
  const scaled = input === "f16" && !(fitsHalf.includes(a.dtype) && fitsHalf.includes(b.dtype));
  for (const depth of [32, 16]) {
    const pitch = depth / 4 + 2;
    const staged = (rows * parts.a + columns * parts.b) * pitch * (input === "f16" ? 8 : 16);
    if (depth % k === 0 && staged + 16 * m * n <= traits.workgroupBytes)
      return { config, down, across, rows, columns, depth, pitch, parts, scaled };
  }
  return undefined;
}

const isSplit = ({ parts }: Tile): boolean => parts.a + parts.b > 2;

/** Whether a variant can run here: the adapter has matrices, and the tile fits workgroup memory. */
export const canMatrix = (traits: DeviceTraits, variant: MatrixVariant, a: MatrixSource, b: MatrixSource): boolean =>
  traits.tier === "matrix" && tileOf(traits, variant, a, b) !== undefined;

/** The kernel of a variant; the caller has asked `canMatrix`. */
export function matrixTile(
  traits: DeviceTraits,
  variant: MatrixVariant,
  size: GemmSize,
  a: MatrixSource,
  b: MatrixSource,
  finish: Finish,
): Gemm {
  const tile = tileOf(traits, variant, a, b)!;
  const { m, n, k, input } = tile.config;
  return {
    key: `m${m}x${n}x${k}${input}${traits.subgroupSize}|${tile.down}x${tile.across}x${tile.depth}|${tile.parts.a}${tile.parts.b}${tile.scaled ? "s" : ""}`,
    grid: withBatch(Math.ceil(size.m / tile.rows) * Math.ceil(size.n / tile.columns), size.batch),
    scaled: tile.scaled,
    spec: () => matrixSpec(traits, tile, a, b, finish),
  };
}

function matrixSpec(traits: DeviceTraits, tile: Tile, a: MatrixSource, b: MatrixSource, finish: Finish): ProgramSpec {
  const { m, n, k, input } = tile.config;
  const lanes = traits.subgroupSize;
  const enable = ["subgroups", "chromium_experimental_subgroup_matrix", "diagnostic(off, chromium.subgroup_matrix_uniformity)"];
  return gemmSpec(
    `matmul matrix ${tile.down}x${tile.across} of ${m}x${n}x${k}`,
    4 * lanes,
    a,
    b,
    finish,
    matrixDeclarations(tile),
    matrixBody(tile, lanes, a, b, finish),
    {
      enable: input === "f16" ? ["f16", ...enable] : enable,
      builtins: ["@builtin(subgroup_id) sid: u32", "@builtin(subgroup_invocation_id) lane: u32"],
      ...(traits.pinSubgroups ? { subgroupSize: lanes } : {}),
      ...(tile.scaled ? { last: { name: "largest", type: "array<u32>" } } : {}),
    },
  );
}

/** Names of the staging arrays: sa0, sa1, sb0, … */
const staging = (tile: Tile): [string, number][] =>
  (["a", "b"] as const).flatMap((o) =>
    times(tile.parts[o], (part): [string, number] => [`s${o}${part}`, o === "a" ? tile.rows : tile.columns]),
  );

function matrixDeclarations(tile: Tile): string {
  const { m, n, input } = tile.config;
  const quad = input === "f16" ? "vec2<u32>" : "vec4<f32>";
  return `${staging(tile)
    .map(([name, rows]) => `var<workgroup> ${name}: array<${quad}, ${rows * tile.pitch}>;`)
    .join("\n")}
var<workgroup> ss: array<vec4<f32>, ${m * n}>;
fn scale_exponent(bits: u32) -> i32 {
  let e = i32(bits >> 23u);
  return select(max(e - 141, -120), 0, e == 0);
}
fn odd(v: vec4<f32>) -> vec4<bool> { return (bitcast<vec4<u32>>(v) & vec4<u32>(0x7f800000u)) == vec4<u32>(0x7f800000u); }
// Rounded to f16's digits by integers: compilers may take a conversion to f16 and back for the value itself.
fn high_part(v: vec4<f32>) -> vec4<f32> {
  return select(bitcast<vec4<f32>>((bitcast<vec4<u32>>(v) + vec4<u32>(0x1000u)) & vec4<u32>(0xffffe000u)), v, odd(v));
}
fn power(e: i32) -> f32 { return bitcast<f32>(u32(127 + e) << 23u); }
`;
}

function matrixBody(tile: Tile, lanes: number, a: MatrixSource, b: MatrixSource, finish: Finish): string {
  const { rows, columns, depth, scaled } = tile;
  const { m, n } = tile.config;
  const fragments = times(tile.down, (i) => times(tile.across, (j) => [i, j] as const)).flat();
  const exponents = scaled ? "let ea = scale_exponent(largest[0]); let eb = scale_exponent(largest[1]);" : "";
  const split = isSplit(tile);
  // Infinity times a low part of 0 would be NaN: where there are infinities or NaN, high parts are multiplied first, and low parts in a second
  // round in which the others are 0.
  const rounds = split ? "let rounds = 1u + largest[2];" : "";
  const [round, end] = split ? ["for (var round = 0u; round < rounds; round++) {", "}"] : ["", ""];
  return `let z = wid.z;
  let tiles = (p.n + ${columns - 1}u) / ${columns}u;
  let r0 = (wg / tiles) * ${rows}u;
  let c0 = (wg % tiles) * ${columns}u;
  if (r0 >= p.m) { return; }
  let down = (sid / 2u) * ${tile.down * m}u;
  let across = (sid % 2u) * ${tile.across * n}u;
  ${exponents} ${rounds}
  ${fragments.map(([i, j]) => `var s${i}_${j} = subgroup_matrix_result<f32, ${n}, ${m}>(0.0);`).join(" ")}
  for (var k0 = 0u; k0 < p.k; k0 += ${depth}u) { ${round}
    workgroupBarrier();
    ${stage(tile, "a", a, 4 * lanes)}
    ${stage(tile, "b", b, 4 * lanes)}
    workgroupBarrier();
    ${multiply(tile, fragments)}
  ${end} }
  ${fragments.map(([i, j]) => storeFragment(tile, lanes, i, j, finish)).join("\n  workgroupBarrier();\n  ")}`;
}

/** Statements that stage an operand's rows x depth as [row][k], zero beyond the operand. */
function stage(tile: Tile, name: "a" | "b", source: MatrixSource, threads: number): string {
  const { depth, pitch } = tile;
  const [rows, limit, start] = name === "a" ? [tile.rows, "p.m", "r0"] : [tile.columns, "p.n", "c0"];
  const factor = tile.scaled ? ` * power(-e${name})` : "";
  const quads = depth / 4;
  const put = (row: string, c: string, v: string): string => putParts(tile, name, `(${row}) * ${pitch}u + ${c}`, v);
  if (source.along === "k") {
    return `for (var t = lid; t < ${rows * quads}u; t += ${threads}u) {
      let row = t / ${quads}u; let c = t % ${quads}u;
      var v = vec4<f32>();
      if (k0 + c * 4u < p.k) { v = ${name}_k4(z, min(${start} + row, ${limit} - 1u), k0 + c * 4u)${factor}; }
      ${put("row", "c", "v")}
    }`;
  }
  const row = source.quad ? `min(${start} + row, ${limit} - 4u)` : `${start} + row`;
  return `for (var t = lid; t < ${(rows / 4) * quads}u; t += ${threads}u) {
      let row = (t % ${rows / 4}u) * 4u; let c = t / ${rows / 4}u;
      ${times(4, (j) => `let q${j} = ${name}_r4(z, ${row}, k0 + c * 4u + ${j}u)${factor};`).join(" ")}
      ${times(4, (i) => `{ let v = vec4<f32>(q0[${i}], q1[${i}], q2[${i}], q3[${i}]); ${put(`row + ${i}u`, "c", "v")} }`).join("\n      ")}
    }`;
}

/** Statements that store four values along k as one or two parts. */
function putParts(tile: Tile, name: "a" | "b", at: string, v: string): string {
  if (tile.config.input === "f32") return `s${name}0[${at}] = ${v};`;
  const bits = (h: string): string => `bitcast<vec2<u32>>(${h})`;
  const finite = isSplit(tile) ? `select(${v}, vec4<f32>(), odd(${v}) & vec4<bool>(round == 1u))` : v;
  if (tile.parts[name] === 1) return `s${name}0[${at}] = ${bits(`vec4<f16>(${finite})`)};`;
  const low = `s${name}1[${at}] = ${bits("vec4<f16>(u - high)")};`;
  return `let u = ${finite}; let high = high_part(u); s${name}0[${at}] = ${bits("vec4<f16>(high)")}; ${low}`;
}

/** The loop over a staged tile. */
function multiply(tile: Tile, fragments: readonly (readonly [number, number])[]): string {
  const { down, across, pitch, parts } = tile;
  const { m, n, k, input } = tile.config;
  const load = (side: "left" | "right", name: string, row: string): string => {
    const [shape, order] = side === "left" ? [`${k}, ${m}`, "row_major"] : [`${n}, ${k}`, "col_major"];
    return `subgroupMatrixLoad<subgroup_matrix_${side}<${input}, ${shape}>, ${order}>(&${name}, (${row}) * ${pitch}u + kk, ${pitch}u)`;
  };
  const loadA = (part: number): string =>
    times(down, (i) => `let a${part}_${i} = ${load("left", `sa${part}`, `down + ${i * m}u`)};`).join("\n      ");
  const loadB = (part: number): string =>
    times(across, (j) => `let b${part}_${j} = ${load("right", `sb${part}`, `across + ${j * n}u`)};`).join("\n      ");
  const add = (pa: number, pb: number): string =>
    fragments.map(([i, j]) => `s${i}_${j} = subgroupMatrixMultiplyAccumulate(a${pa}_${i}, b${pb}_${j}, s${i}_${j});`).join("\n      ");
  const low = [parts.a === 2 ? `${loadA(1)}\n      ${add(1, 0)}` : "", parts.b === 2 ? `${loadB(1)}\n      ${add(0, 1)}` : ""];
  return `for (var kk = 0u; kk < ${tile.depth / 4}u; kk += ${k / 4}u) {
      ${loadA(0)}
      ${loadB(0)}
      ${low.map((text) => (text ? `if (round + 1u == rounds) {\n      ${text} }` : "")).join("\n      ")}
      ${isSplit(tile) ? `if (round == 0u) { ${add(0, 0)} }` : add(0, 0)}
    }`;
}

/** A fragment goes through workgroup memory, where its elements can be reached. */
function storeFragment(tile: Tile, lanes: number, i: number, j: number, finish: Finish): string {
  const { m, n } = tile.config;
  const quads = (m * n) / 4;
  const unscale = tile.scaled ? " * power(ea) * power(eb)" : "";
  return `subgroupMatrixStore<row_major>(&ss, sid * ${quads}u, s${i}_${j}, ${n / 4}u);
  workgroupBarrier();
  for (var t = lane; t < ${quads}u; t += ${lanes}u) {
    let row = r0 + down + ${i * m}u + t / ${n / 4}u; let column = c0 + across + ${j * n}u + (t % ${n / 4}u) * 4u;
    let value = ss[sid * ${quads}u + t]${unscale};
    ${storeRow(finish, "row", "column", "value")}
  }`;
}
