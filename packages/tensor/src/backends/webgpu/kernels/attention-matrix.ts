// Flash attention on subgroup matrices: any fragment shape the adapter lists, f16 or f32 fragments, f32 scores, sums and output. Every subgroup
// keeps its rows of q and of the output in fragments for the whole loop over keys. A row's maximum is only advanced when it grows by more than
// `slack` (in powers of two), so the output is rarely rescaled. Heads wider than 128 are shared by two or four subgroups, which add their
// parts of the scores.
import type { DType } from "../../../dtype.ts";
import type { DeviceTraits, MatrixConfig } from "../limits.ts";
import type { ProgramSpec } from "../pipelines.ts";
import { type AttentionSize, type AttentionText, attentionSpec, type Flash, type HeadSource, locate, times } from "./attention-parts.ts";

const subgroups = 4;
/** Weights stay below 2^slack, which f16 holds with all its digits. */
const slack = 8;

interface Plan extends MatrixConfig {
  readonly lanes: number;
  readonly width: number;
  readonly valueWidth: number;
  /** Subgroups that share a row. */
  readonly split: number;
  readonly rows: number;
  readonly keys: number;
  /** k and v have memory of their own. */
  readonly both: boolean;
  readonly scaled: boolean;
  /** Loops instead of unrolled fragments: for compilers that take long. */
  readonly loops: boolean;
}

/** Elements in one item of staging memory: f16 is staged as vectors of 8, f32 singly. */
const itemOf = ({ input }: MatrixConfig): number => (input === "f16" ? 8 : 1);
const bytesPer = ({ input }: MatrixConfig): number => (input === "f16" ? 2 : 4);
/** Row pitch of staged k and v in elements: 16 bytes more than a row, against bank conflicts. */
const pitchOf = (p: Plan): number => Math.max(p.width, p.valueWidth) + 16 / bytesPer(p);
const weightPitch = (p: Plan): number => p.keys + 16 / bytesPer(p);
const scorePitch = (p: Plan): number => p.keys + 4;

const stagedRows = (p: Plan): number => p.keys * (p.both ? 2 : 1);
const workgroupBytes = (p: Plan): number =>
  stagedRows(p) * pitchOf(p) * bytesPer(p) + p.rows * p.split * scorePitch(p) * 4 + p.rows * weightPitch(p) * bytesPer(p) + p.rows * 4 + 64;

/** The kernel for the adapter's fragments, or undefined where they do not serve: f16 fragments take f32 operands only where products may be rounded. */
export function matrixAttention(traits: DeviceTraits, size: AttentionSize): Flash | undefined {
  const plan = planOf(traits, size);
  if (!plan) return undefined;
  const { m, n, k, input, lanes, width, valueWidth, keys, both, scaled, loops } = plan;
  return {
    key: `m${[m, n, k, input, lanes, width, valueWidth, keys, both, scaled, loops].join()}`,
    rows: plan.rows,
    chunk: valueWidth,
    scaled,
    spec: (text) => matrixSpec(plan, traits, text),
  };
}

function planOf(traits: DeviceTraits, { width, valueWidth, queries, keys, dtypes }: AttentionSize): Plan | undefined {
  const { matrix, tier, subgroupSize: lanes, maxInvocations, software } = traits;
  if (tier !== "matrix" || !matrix || lanes === 0 || subgroups * lanes > maxInvocations || queries < matrix.m || keys < 8) return undefined;
  if (matrix.input === "f16" && dtypes.some((d) => d !== "f16" && d !== "bf16" && traits.float32MatmulPrecision === "highest"))
    return undefined;
  const widest = Math.max(width, valueWidth);
  const split = widest <= 128 ? 1 : widest <= 256 ? 2 : 4;
  const unit = Math.max(16, matrix.k, matrix.n) * split;
  const rowsPerSubgroup = matrix.m / split;
  const sharable = rowsPerSubgroup >= 1 && Number.isInteger(rowsPerSubgroup) && lanes % rowsPerSubgroup === 0;
  if (widest > 512 || width % unit !== 0 || valueWidth % unit !== 0 || !sharable) return undefined;
  const scaled = matrix.input === "f16" && dtypes.some((d: DType) => d !== "f16");
  const common = { ...matrix, lanes, width, valueWidth, split, rows: (subgroups / split) * matrix.m, scaled, loops: software };
  for (const [tile, both] of [
    [32, true],
    [32, false],
    [16, true],
    [16, false],
    [8, false],
  ] as const) {
    const plan = { ...common, keys: tile, both };
    const whole = tile % matrix.n === 0 && tile % matrix.k === 0 && stagedRows(plan) % matrix.m === 0;
    if (whole && workgroupBytes(plan) <= traits.workgroupBytes) return plan;
  }
  return undefined;
}

const left = (p: Plan): string => `subgroup_matrix_left<${p.input}, ${p.k}, ${p.m}>`;
const right = (p: Plan): string => `subgroup_matrix_right<${p.input}, ${p.n}, ${p.k}>`;
const result = (p: Plan): string => `subgroup_matrix_result<f32, ${p.n}, ${p.m}>`;

/** Repeats statements `n` times with an index: as a loop, or written out; `between` stands between the turns. */
const repeat = (p: Plan, name: string, n: number, body: (i: string) => string, between = ""): string =>
  p.loops
    ? `for (var ${name} = 0u; ${name} < ${n}u; ${name}++) { ${body(name)} ${between} }`
    : times(n, (i) => `{ ${body(`${i}u`)} }`).join(`\n    ${between}`);

function matrixSpec(p: Plan, traits: DeviceTraits, text: AttentionText): ProgramSpec {
  const { input } = p;
  const item = input === "f16" ? "vec4<u32>" : "f32";
  const extra = `var<workgroup> staged: array<${item}, ${(stagedRows(p) * pitchOf(p)) / itemOf(p)}>;
var<workgroup> scores: array<f32, ${p.rows * p.split * scorePitch(p)}>;
var<workgroup> weights: array<${input}, ${p.rows * weightPitch(p)}>;
var<workgroup> factors: array<f32, ${p.rows}>;
var<workgroup> grown: atomic<u32>;
${scaleFunctions(p)}${text.sources.map((s, i) => itemFunction(p, "qkv"[i]!, i, s)).join("")}`;
  const enable = [
    ...(input === "f16" ? ["f16"] : []),
    ...["subgroups", "chromium_experimental_subgroup_matrix", "diagnostic(off, chromium.subgroup_matrix_uniformity)"],
  ];
  return attentionSpec(`attention ${p.width} matrix ${p.m}x${p.n}x${p.k}`, text, extra, matrixBody(p), {
    enable,
    builtins: ["@builtin(subgroup_id) sid: u32", "@builtin(subgroup_invocation_id) lane: u32"],
    workgroup: [subgroups * p.lanes],
    scaled: p.scaled,
    ...(traits.pinSubgroups ? { subgroupSize: p.lanes } : {}),
  });
}

/** `down(i)` brings operand i into f16's range by a power of two, `up(i)` takes that back. */
function scaleFunctions(p: Plan): string {
  const exponent = p.scaled
    ? "let e = i32((largest[i] >> 23u) & 0xffu); return select(clamp(e - 141, -120, 120), 0, e == 0 || e == 255);"
    : "return 0;";
  return `fn exponent(i: u32) -> i32 { ${exponent} }
fn down(i: u32) -> f32 { return bitcast<f32>(u32(127 - exponent(i)) << 23u); }
fn up(i: u32) -> f32 { return bitcast<f32>(u32(127 + exponent(i)) << 23u); }
`;
}

/** `stage_NAME(to, base, row, c)`: puts staging item c (4 or 8 elements) of a row at element `to`. */
function itemFunction(p: Plan, name: string, i: number, source: HeadSource): string {
  if (p.input === "f32") {
    return `fn stage_${name}(to: u32, base: u32, row: u32, c: u32) { let v = ${name}4(base, row, c); ${times(4, (j) => `staged[to + c * 4u + ${j}u] = v[${j}];`).join(" ")} }\n`;
  }
  const at = `((p.${name}_o + base + row * p.${name}_step) >> 2u) + 2u * c`;
  const raw = source.dtype === "f16" && source.quad && !p.scaled;
  const value = raw
    ? `let at = ${at}; let v = vec4<u32>(${name}[at], ${name}[at + 1u]);`
    : `let a = ${name}4(base, row, 2u * c) * down(${i}u); let b = ${name}4(base, row, 2u * c + 1u) * down(${i}u);
  let v = vec4<u32>(bitcast<vec2<u32>>(vec4<f16>(a)), bitcast<vec2<u32>>(vec4<f16>(b)));`;
  return `fn stage_${name}(to: u32, base: u32, row: u32, c: u32) { ${value} staged[to / 8u + c] = v; }\n`;
}

/** Statements that stage `rows` rows of an operand from row `first`, at staged row `at`; rows beyond `limit` repeat the last. */
function stageRows(p: Plan, name: string, base: string, rows: number, first: string, limit: string, at: number): string {
  const items = (name === "v" ? p.valueWidth : p.width) / (p.input === "f16" ? 8 : 4);
  return `for (var t = lid; t < ${rows * items}u; t += ${subgroups * p.lanes}u) {
      let r = t / ${items}u; stage_${name}((${at}u + r) * ${pitchOf(p)}u, ${base}, min(${first} + r, ${limit} - 1u), t % ${items}u);
    }`;
}

/** A fragment of staged memory at an element offset. */
const fragment = (p: Plan, type: string, order: string, at: string): string =>
  `subgroupMatrixLoad<${type}, ${order}>(&staged, (${at}) / ${itemOf(p)}u, ${pitchOf(p) / itemOf(p)}u)`;

function matrixBody(p: Plan): string {
  const depths = p.width / p.split / p.k;
  const columns = p.valueWidth / p.split / p.n;
  const own = p.m / p.split;
  return `${locate(p.rows, p.valueWidth)}
  let i0 = (rest / chunks) * ${p.rows}u;
  if (head >= p.total || i0 >= p.l) { return; }
  let group = (sid / ${p.split}u) * ${p.m}u;
  let part = sid % ${p.split}u;
  let row = group + part * ${own}u + lane / ${p.lanes / own}u;
  let turn = lane % ${p.lanes / own}u;
  let i = min(i0 + row, p.l - 1u);
  let limit = key_limit(b, i);
  let scale = p.scale * up(0u) * up(1u);
  ${loadQueries(p, depths)}
  var o: array<${result(p)}, ${columns}>;
  ${repeat(p, "n", columns, (n) => `o[${n}] = ${result(p)}(0.0);`)}
  var m = -1e30; var sum = 0.0;
  let last = key_limit(b, min(i0 + ${p.rows - 1}u, p.l - 1u));
  for (var j0 = 0u; j0 < last; j0 += ${p.keys}u) {
    workgroupBarrier();
    ${stageRows(p, "k", "kb", p.keys, "j0", "p.s", 0)}
    ${p.both ? stageRows(p, "v", "vb", p.keys, "j0", "p.s", p.keys) : ""}
    if (lid == 0u) { atomicStore(&grown, 0u); }
    workgroupBarrier();
    ${scoreStep(p, depths)}
    workgroupBarrier();
    ${softmaxStep(p)}
    workgroupBarrier();
    if (need != 0u) { ${rescale(p, columns)} }
    ${repeat(p, "t", p.keys / p.k, (t) => valueStep(p, t, columns))}
  }
  ${times(Math.log2(p.lanes / own), (s) => `sum += subgroupShuffleXor(sum, ${2 ** s}u);`).join(" ")}
  workgroupBarrier();
  if (turn == 0u) { factors[row] = select(up(2u) / sum, 0.0, sum == 0.0); }
  ${repeat(p, "n", columns, (n) => storeColumns(p, n), "workgroupBarrier();")}`;
}

/** q goes through staging memory, as many rows at a time as it holds. */
function loadQueries(p: Plan, depths: number): string {
  const rows = Math.min(p.rows, stagedRows(p));
  const passes = Math.ceil(p.rows / rows);
  const load = (pass: number): string =>
    repeat(
      p,
      "t",
      depths,
      (t) =>
        `q_part[${t}] = ${fragment(p, left(p), "row_major", `(group - ${pass * rows}u) * ${pitchOf(p)}u + part * ${p.width / p.split}u + ${t} * ${p.k}u`)};`,
    );
  return `var q_part: array<${left(p)}, ${depths}>;
  ${times(
    passes,
    (pass) => `${pass > 0 ? "workgroupBarrier();" : ""}
  ${stageRows(p, "q", "qb", rows, `i0 + ${pass * rows}u`, "p.l", 0)}
  workgroupBarrier();
  ${passes > 1 ? `if (group / ${rows}u == ${pass}u) { ${load(pass)} }` : load(pass)}`,
  ).join("\n  ")}`;
}

function scoreStep(p: Plan, depths: number): string {
  return repeat(
    p,
    "j",
    p.keys / p.n,
    (j) => `var s = ${result(p)}(0.0);
      ${repeat(p, "t", depths, (t) => `s = subgroupMatrixMultiplyAccumulate(q_part[${t}], ${fragment(p, right(p), "col_major", `(${j} * ${p.n}u) * ${pitchOf(p)}u + part * ${p.width / p.split}u + ${t} * ${p.k}u`)}, s);`)}
      subgroupMatrixStore<row_major>(&scores, (part * ${p.rows}u + group) * ${scorePitch(p)}u + ${j} * ${p.n}u, s, ${scorePitch(p)}u);`,
  );
}

/** Logits in powers of two; the row's maximum over its lanes; weights. Leaves `need`: some row's maximum grew and the output must be rescaled. */
function softmaxStep(p: Plan): string {
  const own = p.m / p.split;
  const lanes = p.lanes / own;
  const count = Math.ceil(p.keys / lanes);
  const total = times(p.split, (s) => `scores[(${s * p.rows}u + row) * ${scorePitch(p)}u + c]`).join(" + ");
  const inside = (body: string, c: number): string =>
    `{ let c = turn + ${c * lanes}u; ${p.keys % lanes === 0 ? body : `if (c < ${p.keys}u) { ${body} }`} }`;
  return `var x: array<f32, ${count}>;
    var best = -3.4e38;
    ${times(count, (c) =>
      inside(
        `let v = masked(head, i, j0 + c, (${total}) * scale); x[${c}] = select(v * 1.44269504, -3.4e38, j0 + c >= limit || v <= -2.0e38); best = max(best, x[${c}]);`,
        c,
      ),
    ).join("\n    ")}
    ${times(Math.log2(lanes), (s) => `best = max(best, subgroupShuffleXor(best, ${2 ** s}u));`).join(" ")}
    if (best > m + ${slack}.0) { atomicStore(&grown, 1u); }
    ${p.both ? "" : `workgroupBarrier();\n    ${stageRows(p, "v", "vb", p.keys, "j0", "p.s", 0)}`}
    let need = workgroupUniformLoad(&grown);
    if (need != 0u) {
      let next = max(m, best); let shrink = exp2(m - next); m = next; sum *= shrink;
      if (turn == 0u) { factors[row] = shrink; }
    }
    ${times(count, (c) =>
      inside(
        `let w = ${p.input}(select(exp2(x[${c}] - m), 0.0, x[${c}] <= -3.0e38)); sum += f32(w); weights[row * ${weightPitch(p)}u + c] = w;`,
        c,
      ),
    ).join("\n    ")}`;
}

/** Output fragments pass through the score memory, which is free by now. */
function rescale(p: Plan, columns: number): string {
  const size = p.m * p.n;
  return repeat(
    p,
    "n",
    columns,
    (n) => `subgroupMatrixStore<row_major>(&scores, sid * ${size}u, o[${n}], ${p.n}u);
      workgroupBarrier();
      for (var e = lane; e < ${size}u; e += ${p.lanes}u) { scores[sid * ${size}u + e] *= factors[group + e / ${p.n}u]; }
      workgroupBarrier();
      o[${n}] = subgroupMatrixLoad<${result(p)}, row_major>(&scores, sid * ${size}u, ${p.n}u);`,
    "workgroupBarrier();",
  );
}

function valueStep(p: Plan, t: string, columns: number): string {
  const at = (n: string): string =>
    `(${p.both ? p.keys : 0}u + ${t} * ${p.k}u) * ${pitchOf(p)}u + part * ${p.valueWidth / p.split}u + ${n} * ${p.n}u`;
  return `let w = subgroupMatrixLoad<${left(p)}, row_major>(&weights, group * ${weightPitch(p)}u + ${t} * ${p.k}u, ${weightPitch(p)}u);
      ${repeat(p, "n", columns, (n) => `o[${n}] = subgroupMatrixMultiplyAccumulate(w, ${fragment(p, right(p), "row_major", at(n))}, o[${n}]);`)}`;
}

function storeColumns(p: Plan, n: string): string {
  const size = p.m * p.n;
  const quads = p.n / 4;
  return `subgroupMatrixStore<row_major>(&scores, sid * ${size}u, o[${n}], ${p.n}u);
    workgroupBarrier();
    for (var e = lane; e < ${size / 4}u; e += ${p.lanes}u) {
      let r = group + e / ${quads}u; let at = sid * ${size}u + e * 4u;
      let v = vec4<f32>(scores[at], scores[at + 1u], scores[at + 2u], scores[at + 3u]) * factors[r];
      if (i0 + r < p.l) { put4(ob, i0 + r, part * ${p.valueWidth / p.split / 4}u + ${n} * ${quads}u + e % ${quads}u, v); }
    }`;
}
