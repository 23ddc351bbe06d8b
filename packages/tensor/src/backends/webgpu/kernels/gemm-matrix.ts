// Matrix multiplication on subgroup matrices (tensor cores): any fragment shape the adapter lists, f16 or f32 fragments, f32 sums always.
// The extension is experimental; everything that spells its syntax is in this file.
import { isQuantized } from "../../../dtype.ts";
import type { DeviceTraits, MatrixConfig } from "../limits.ts";
import type { Finish } from "./finish.ts";
import { type Gemm, type GemmSize, gemmSpec, storeRow, times, withBatch } from "./gemm-parts.ts";
import type { MatrixSource } from "./matmul.ts";

/** Depth of a staged tile. */
const depth = 32;
/** Row pitch of staged tiles: 8 more than the depth, against bank conflicts. */
const pitch = depth + 8;

interface Tile {
  /** Fragments per subgroup, down and across. */
  readonly down: number;
  readonly across: number;
  readonly rows: number;
  readonly columns: number;
  readonly bytes: number;
}

/** The tile of a workgroup of 2 x 2 subgroups, as large as workgroup memory and registers allow. */
function tileOf({ m, n, input }: MatrixConfig, workgroupBytes: number): Tile | undefined {
  for (const edge of [64, 32, 16]) {
    const down = Math.max(1, Math.floor(Math.min(edge, m * 4) / m));
    const across = Math.max(1, Math.floor(Math.min(edge, n * 4) / n));
    const rows = 2 * down * m;
    const columns = 2 * across * n;
    const bytes = (rows + columns) * pitch * (input === "f16" ? 2 : 4) + 4 * m * n * 4;
    if (bytes <= workgroupBytes) return { down, across, rows, columns, bytes };
  }
  return undefined;
}

/**
 * Whether fragments keep the operands' digits: f32 fragments take everything; f16 ones take f16, bf16 (scaled into range) and block formats.
 * f32 operands would lose half their digits.
 */
export function wantsMatrixTile(traits: DeviceTraits, size: GemmSize, a: MatrixSource, b: MatrixSource): boolean {
  const config = traits.matrix;
  if (traits.tier !== "matrix" || !config || size.m < 16 || size.n < 16 || size.k < 16) return false;
  if (traits.subgroupSize === 0 || depth % config.k !== 0 || 4 * traits.subgroupSize > traits.maxInvocations) return false;
  const narrow = (s: MatrixSource): boolean => s.dtype === "f16" || s.dtype === "bf16" || s.dtype.startsWith("f8") || isQuantized(s.dtype);
  return tileOf(config, traits.workgroupBytes) !== undefined && (config.input === "f32" || (narrow(a) && narrow(b)));
}

/** The kernel for one fragment shape. */
export function matrixTile(
  traits: DeviceTraits,
  config: MatrixConfig,
  size: GemmSize,
  a: MatrixSource,
  b: MatrixSource,
  finish: Finish,
): Gemm {
  const tile = tileOf(config, traits.workgroupBytes)!;
  const scaled = config.input === "f16" && a.dtype !== "f16";
  const lanes = traits.subgroupSize;
  return {
    key: `m${config.m}x${config.n}x${config.k}${config.input}${lanes}`,
    grid: withBatch(Math.ceil(size.m / tile.rows) * Math.ceil(size.n / tile.columns), size.batch),
    scaled,
    spec: () => {
      const type = config.input;
      const extra = `var<workgroup> sa: array<${type}, ${tile.rows * pitch}>;
var<workgroup> sb: array<${type}, ${tile.columns * pitch}>;
var<workgroup> ss: array<f32, ${4 * config.m * config.n}>;
fn scale_exponent() -> i32 {
  ${scaled ? "let e = i32((a_max[0] >> 23u) & 0xffu); return select(max(e - 141, -120), 0, e == 0 || e == 255);" : "return 0;"}
}
`;
      const enable = ["subgroups", "chromium_experimental_subgroup_matrix", "diagnostic(off, chromium.subgroup_matrix_uniformity)"];
      const last = scaled ? { last: { name: "a_max", type: "array<u32>" } } : {};
      return gemmSpec(
        `matmul matrix ${config.m}x${config.n}x${config.k}`,
        4 * lanes,
        a,
        b,
        finish,
        extra,
        matrixBody(config, tile, lanes, a, b, finish),
        {
          enable: type === "f16" ? ["f16", ...enable] : enable,
          builtins: ["@builtin(subgroup_id) sid: u32", "@builtin(subgroup_invocation_id) lane: u32"],
          ...last,
        },
      );
    },
  };
}

function matrixBody(config: MatrixConfig, tile: Tile, lanes: number, a: MatrixSource, b: MatrixSource, finish: Finish): string {
  const { m, n, k, input } = config;
  const { down, across, rows, columns } = tile;
  const result = `subgroup_matrix_result<f32, ${n}, ${m}>`;
  const fragments = times(down, (i) => times(across, (j) => [i, j] as const)).flat();
  const threads = 4 * lanes;
  return `let z = wid.z;
  let tiles = (p.n + ${columns - 1}u) / ${columns}u;
  let r0 = (wg / tiles) * ${rows}u;
  let c0 = (wg % tiles) * ${columns}u;
  if (r0 >= p.m) { return; }
  let down = (sid / 2u) * ${down * m}u;
  let across = (sid % 2u) * ${across * n}u;
  let e = scale_exponent();
  let scale = bitcast<f32>(u32(127 - e) << 23u);
  ${fragments.map(([i, j]) => `var s${i}_${j} = ${result}(0.0);`).join(" ")}
  for (var k0 = 0u; k0 < p.k; k0 += ${depth}u) {
    workgroupBarrier();
    ${stage("a", a, rows, threads, "p.m", "r0", input)}
    ${stage("b", b, columns, threads, "p.n", "c0", input)}
    workgroupBarrier();
    for (var kk = 0u; kk < ${depth}u; kk += ${k}u) {
      ${times(down, (i) => `let a${i} = subgroupMatrixLoad<subgroup_matrix_left<${input}, ${k}, ${m}>, row_major>(&sa, (down + ${i * m}u) * ${pitch}u + kk, ${pitch}u);`).join("\n      ")}
      ${times(across, (j) => `let b${j} = subgroupMatrixLoad<subgroup_matrix_right<${input}, ${n}, ${k}>, col_major>(&sb, (across + ${j * n}u) * ${pitch}u + kk, ${pitch}u);`).join("\n      ")}
      ${fragments.map(([i, j]) => `s${i}_${j} = subgroupMatrixMultiplyAccumulate(a${i}, b${j}, s${i}_${j});`).join("\n      ")}
    }
  }
  let unscale = bitcast<f32>(u32(127 + e) << 23u);
  ${fragments.map(([i, j]) => storeFragment(config, lanes, i, j, finish)).join("\n  ")}`;
}

/** Statements that stage rows x depth of an operand as [row][k]; beyond the operand there are zeros. */
function stage(name: "a" | "b", source: MatrixSource, rows: number, threads: number, limit: string, start: string, type: string): string {
  const factor = name === "a" ? " * scale" : "";
  const quads = depth / 4;
  if (source.along === "k") {
    return `for (var t = lid; t < ${rows * quads}u; t += ${threads}u) {
      let row = t / ${quads}u; let c = (t % ${quads}u) * 4u;
      var v = vec4<f32>();
      if (k0 + c < p.k) { v = ${name}_k4(z, min(${start} + row, ${limit} - 1u), k0 + c)${factor}; }
      ${times(4, (j) => `s${name}[row * ${pitch}u + c + ${j}u] = ${type}(v[${j}]);`).join(" ")}
    }`;
  }
  const row = source.quad ? `min(${start} + row, ${limit} - 4u)` : `${start} + row`;
  return `for (var t = lid; t < ${(rows / 4) * depth}u; t += ${threads}u) {
      let row = (t % ${rows / 4}u) * 4u; let c = t / ${rows / 4}u;
      let v = ${name}_r4(z, ${row}, k0 + c)${factor};
      ${times(4, (j) => `s${name}[(row + ${j}u) * ${pitch}u + c] = ${type}(v[${j}]);`).join(" ")}
    }`;
}

/** A fragment goes through workgroup memory, where its elements can be reached. */
function storeFragment({ m, n }: MatrixConfig, lanes: number, i: number, j: number, finish: Finish): string {
  const at = "sid * " + m * n + "u";
  const quad = times(4, (c) => `ss[o + ${c}u]`).join(", ");
  return `subgroupMatrixStore<row_major>(&ss, ${at}, s${i}_${j}, ${n}u);
  workgroupBarrier();
  for (var t = lane; t < ${(m * n) / 4}u; t += ${lanes}u) {
    let row = t / ${n / 4}u; let c = (t % ${n / 4}u) * 4u; let o = ${at} + row * ${n}u + c;
    let value = vec4<f32>(${quad}) * unscale;
    ${storeRow(finish, `(r0 + down + ${i * m}u + row)`, `(c0 + across + ${j * n}u + c)`, "value")
      .replace("let o =", "let at =")
      .replaceAll("put(o +", "put(at +")}
  }
  workgroupBarrier();`;
}
