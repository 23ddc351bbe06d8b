// Matrix kernels without subgroup matrices: register tiles without barriers for software drivers, workgroup-memory tiles for GPUs, and a
// kernel for few rows. f32 accumulation; operands of any format come through their `k4` and `r4` functions.
import type { DeviceTraits } from "../traits.ts";
import type { Finish } from "./finish.ts";
import { type Gemm, type GemmSize, gemmSpec, storeRow, times, withBatch } from "./gemm-parts.ts";
import type { RegistersVariant, WorkgroupVariant } from "./gemm-variants.ts";
import type { MatrixSource } from "./matrix-source.ts";

/** Each thread owns a tile of `rows` x 4·`columns` results and reads its operands from memory: fastest where barriers are slow. */
export function registerTile(variant: RegistersVariant, size: GemmSize, a: MatrixSource, b: MatrixSource, finish: Finish): Gemm {
  const rows = Math.min(variant.rows, size.m);
  const { columns } = variant;
  const rowTiles = Math.ceil(size.m / rows);
  const columnTiles = Math.ceil(size.n / (4 * columns));
  return {
    key: `r${rows}x${columns}`,
    grid: withBatch(Math.ceil((rowTiles * columnTiles) / 64), size.batch),
    spec: () => {
      const body = `let z = wid.z;
  let across = (p.n + ${4 * columns - 1}u) / ${4 * columns}u;
  let t = wg * 64u + lid;
  let r0 = (t / across) * ${rows}u;
  let c0 = (t % across) * ${4 * columns}u;
  if (r0 >= p.m) { return; }
  ${times(rows, (i) => times(columns, (c) => `var s${i}_${c} = vec4<f32>();`).join(" ")).join(" ")}
  for (var k = 0u; k < p.k; k += 4u) {
    ${loadRows(a, rows)}
    ${multiplyStep(b, rows, columns)}
  }
  ${times(rows, (i) => times(columns, (c) => storeRow(finish, `(r0 + ${i}u)`, `(c0 + ${4 * c}u)`, `s${i}_${c}`)).join("\n  ")).join("\n  ")}`;
      return gemmSpec(`matmul registers ${rows}x${4 * columns}`, 64, a, b, finish, "", body);
    },
  };
}

/** Statements defining a0…: four values along k of each of the tile's rows. */
function loadRows(a: MatrixSource, rows: number): string {
  if (a.along === "k") return times(rows, (i) => `let a${i} = a_k4(z, min(r0 + ${i}u, p.m - 1u), k);`).join(" ");
  const groups = Math.ceil(rows / 4);
  const loads = times(groups, (g) => times(4, (j) => `let t${g}_${j} = a_r4(z, ${rowStart(a, rows, g)}, k + ${j}u);`).join(" "));
  const rowsText = times(rows, (i) => `let a${i} = vec4<f32>(${times(4, (j) => `t${i >> 2}_${j}[${i & 3}]`).join(", ")});`);
  return `${loads.join(" ")} ${rowsText.join(" ")}`;
}

const rowStart = (a: MatrixSource, rows: number, group: number): string =>
  rows < 4 || !a.quad ? `r0 + ${4 * group}u` : `min(r0 + ${4 * group}u, p.m - 4u)`;

/** Adds four steps of k to every accumulator. */
function multiplyStep(b: MatrixSource, rows: number, columns: number): string {
  return times(columns, (c) => {
    if (b.along === "k") {
      const loads = times(4, (j) => `let b${j} = b_k4(z, min(c0 + ${4 * c + j}u, p.n - 1u), k);`).join(" ");
      const sums = times(rows, (i) => `s${i}_${c} += vec4<f32>(${times(4, (j) => `dot(a${i}, b${j})`).join(", ")});`);
      return `{ ${loads} ${sums.join(" ")} }`;
    }
    const column = b.quad ? `min(c0 + ${4 * c}u, p.n - 4u)` : `c0 + ${4 * c}u`;
    const loads = times(4, (j) => `let b${j} = b_r4(z, ${column}, k + ${j}u);`).join(" ");
    const sums = times(rows, (i) => `s${i}_${c} += a${i}.x * b0 + a${i}.y * b1 + a${i}.z * b2 + a${i}.w * b3;`);
    return `{ ${loads} ${sums.join(" ")} }`;
  }).join("\n    ");
}

const tileDepth = 16;

/** `rows` x 64 results per workgroup of 256 threads, operands staged in workgroup memory as f32. */
export function workgroupTile(
  traits: DeviceTraits,
  { rows }: WorkgroupVariant,
  size: GemmSize,
  a: MatrixSource,
  b: MatrixSource,
  finish: Finish,
): Gemm {
  const tiles = Math.ceil(size.m / rows) * Math.ceil(size.n / 64);
  const own = rows / 16;
  return {
    key: `w${rows}`,
    grid: withBatch(tiles, size.batch),
    spec: () => {
      const extra = `var<workgroup> sa: array<f32, ${rows * tileDepth}>;\nvar<workgroup> sb: array<f32, ${64 * tileDepth}>;\n`;
      const body = `let z = wid.z;
  let across = (p.n + 63u) / 64u;
  let r0 = (wg / across) * ${rows}u;
  let c0 = (wg % across) * 64u;
  if (r0 >= p.m) { return; }
  let ty = (lid / 16u) * ${own}u;
  let tx = (lid % 16u) * 4u;
  ${times(own, (i) => `var s${i} = vec4<f32>();`).join(" ")}
  for (var k0 = 0u; k0 < p.k; k0 += ${tileDepth}u) {
    ${times(rows / 64, (g) => stage("a", a, "p.m", g === 0 ? "r0" : `r0 + ${64 * g}u`, rows, 64 * g)).join("\n    ")}
    ${stage("b", b, "p.n", "c0", 64, 0)}
    workgroupBarrier();
    for (var kk = 0u; kk < ${tileDepth}u; kk++) {
      let w = kk * 64u;
      ${rows === 64 ? "" : `let wa = kk * ${rows}u;\n      `}let bv = vec4<f32>(${times(4, (j) => `sb[w + tx + ${j}u]`).join(", ")});
      ${times(own, (i) => `s${i} += sa[${rows === 64 ? "w" : "wa"} + ty + ${i}u] * bv;`).join(" ")}
    }
    workgroupBarrier();
  }
  ${times(own, (i) => storeRow(finish, `(r0 + ty + ${i}u)`, "(c0 + tx)", `s${i}`)).join("\n  ")}`;
      const more = traits.f16 && traits.tier !== "plain" ? { enable: ["f16"] } : {};
      return gemmSpec(`matmul workgroup ${rows}x64`, 256, a, b, finish, extra, body, more);
    },
  };
}

/** Statements that stage 64 rows x 16 of an operand, from row `at` of a tile of `rows`, as [k][row]: one quad per thread. */
function stage(name: "a" | "b", source: MatrixSource, limit: string, start: string, rows: number, at: number): string {
  const q = `q${name}${at || ""}`;
  const row = (r: string): string => (at ? `${at}u + ${r}` : r);
  const put = (j: number, r: string, k: string): string => `s${name}[(${k}) * ${rows}u + (${row(r)})] = ${q}[${j}];`;
  if (source.along === "k") {
    return `let ${q} = ${guarded(name, `min(${start} + lid / 4u, ${limit} - 1u)`)};
    ${times(4, (j) => put(j, "lid / 4u", `(lid % 4u) * 4u + ${j}u`)).join(" ")}`;
  }
  const first = source.quad ? `min(${start} + (lid % 16u) * 4u, ${limit} - 4u)` : `${start} + (lid % 16u) * 4u`;
  return `let ${q} = ${name}_r4(z, ${first}, k0 + lid / 16u);
    ${times(4, (j) => put(j, `(lid % 16u) * 4u + ${j}u`, "lid / 16u")).join(" ")}`;
}

/** A quad along k that is zero beyond the inner dimension. */
const guarded = (name: string, row: string): string =>
  `select(vec4<f32>(), ${name}_k4(z, ${row}, min(k0 + (lid % 4u) * 4u, (p.k - 1u) & ~3u)), vec4<bool>(k0 + (lid % 4u) * 4u < p.k))`;

/** One to four rows: a workgroup owns four columns, its threads share k. */
export function fewRows(size: GemmSize, a: MatrixSource, b: MatrixSource, finish: Finish): Gemm {
  const { m } = size;
  return {
    key: `v${m}`,
    grid: withBatch(Math.ceil(size.n / 4), size.batch),
    spec: () => {
      const extra = `var<workgroup> sh: array<vec4<f32>, ${64 * m}>;\n`;
      const body = `let z = wid.z;
  let c0 = wg * 4u;
  if (c0 >= p.n) { return; }
  ${times(m, (i) => `var s${i} = vec4<f32>();`).join(" ")}
  for (var k = lid * 4u; k < p.k; k += 256u) {
    ${times(4, (j) => `let b${j} = b_k4(z, min(c0 + ${j}u, p.n - 1u), k);`).join(" ")}
    ${times(m, (i) => `{ let a = a_k4(z, ${i}u, k); s${i} += vec4<f32>(dot(a, b0), dot(a, b1), dot(a, b2), dot(a, b3)); }`).join("\n    ")}
  }
  ${times(m, (i) => `sh[${64 * i}u + lid] = s${i};`).join(" ")}
  workgroupBarrier();
  for (var s = 32u; s > 0u; s = s >> 1u) {
    if (lid < s) { ${times(m, (i) => `sh[${64 * i}u + lid] += sh[${64 * i}u + lid + s];`).join(" ")} }
    workgroupBarrier();
  }
  if (lid < ${m}u) { let r = lid; ${storeRow(finish, "r", "c0", "sh[64u * r]")} }`;
      return gemmSpec(`matmul ${m} rows`, 64, a, b, finish, extra, body);
    },
  };
}
