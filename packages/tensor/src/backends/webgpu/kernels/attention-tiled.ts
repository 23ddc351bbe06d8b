// Flash attention in workgroup memory, for GPUs without subgroup matrices: 32 queries x 32 keys per step; each thread owns 4 x 4 scores and four
// rows of 128 output columns. The eight threads of a row agree on its maximum by subgroup shuffles, or through workgroup memory in the plain
// tier. Heads wider than 128 are shared by two or four teams of 64 threads, which add their parts of the scores, so no score is computed twice.

import type { ProgramSpec } from "../pipelines.ts";
import type { DeviceTraits } from "../traits.ts";
import { type AttentionSize, type AttentionText, attentionSpec, type Flash, locate, times } from "./attention-parts.ts";

const tile = 32;
const pitch = tile + 1;
/** Columns of the output one team owns. */
const teamWidth = 128;

interface Plan {
  readonly width: number;
  /** Teams of 64 threads. */
  readonly teams: number;
  /** Head columns of a team's part of the scores, output columns it owns. */
  readonly depth: number;
  readonly columns: number;
  /** Head columns staged at once, and keys whose values are. */
  readonly stagedDepth: number;
  readonly stagedKeys: number;
  readonly shuffles: boolean;
}

/** The kernel for GPUs; heads wider than the workgroup allows are cut into chunks of output columns, each with its own scores. */
export function tiledAttention(traits: DeviceTraits, size: AttentionSize): Flash {
  const plan = planOf(traits, size);
  const { width, teams, columns, shuffles } = plan;
  return {
    key: `t${[width, teams, columns, shuffles].join()}`,
    rows: tile,
    chunk: Math.min(size.valueWidth, teams * columns),
    spec: (text) => tiledSpec(plan, traits, text),
  };
}

function planOf({ tier, subgroupSize, maxInvocations, workgroupBytes }: DeviceTraits, { width, valueWidth }: AttentionSize): Plan {
  const widest = Math.max(width, valueWidth);
  const wanted = widest <= teamWidth ? 1 : widest <= 2 * teamWidth ? 2 : 4;
  const room = wanted === 1 || (64 * wanted <= maxInvocations && bytesOf(wanted, tile / 2) <= workgroupBytes);
  const teams = room ? wanted : 1;
  return {
    width,
    teams,
    depth: Math.ceil(width / teams / 4) * 4,
    columns: Math.min(Math.ceil(valueWidth / teams / tile) * tile, teamWidth),
    stagedDepth: teams === 1 ? tile : tile / 2,
    stagedKeys: teams === 1 ? tile : tile / 2,
    // Eight neighbouring lanes share a row.
    shuffles: tier !== "plain" && subgroupSize >= 8 && 64 % subgroupSize === 0,
  };
}

/** Elements a team stages: queries and keys side by side, then the parts of the scores in the same place. */
const stagedElements = (depth: number): number => Math.max(2 * tile * (depth + 1), tile * pitch);
const bytesOf = (teams: number, depth: number): number => 4 * (teams * (stagedElements(depth) + tile * 8) + tile * pitch) + 256;

function tiledSpec(p: Plan, traits: DeviceTraits, text: AttentionText): ProgramSpec {
  const staged = stagedElements(p.stagedDepth);
  const extra = `var<workgroup> staged: array<f32, ${p.teams * staged}>;
var<workgroup> weights: array<f32, ${tile * pitch}>;
${p.shuffles ? "" : `var<workgroup> shared_row: array<f32, ${p.teams * tile * 8}>;`}
${reductions(p)}
fn logit(head: u32, i: u32, j: u32, limit: u32, s: f32) -> f32 {
  if (j >= limit) { return -3.4e38; }
  return masked(head, i, j, s);
}
fn weight(s: f32, m: f32) -> f32 { return select(f_exp(s - m), 0.0, s <= -3.0e38); }
`;
  const lanes = traits.subgroupSize;
  const more = p.shuffles
    ? {
        enable: ["subgroups"],
        builtins: ["@builtin(subgroup_id) sid: u32", "@builtin(subgroup_invocation_id) lane: u32"],
        ...(traits.pinSubgroups ? { subgroupSize: lanes } : {}),
      }
    : {};
  const label = `attention ${p.width} tiled${p.shuffles ? ", subgroups" : ""}`;
  return attentionSpec(label, text, extra, tiledBody(p, lanes), { workgroup: [64 * p.teams], ...more });
}

/** `row_max(at, v)` and `row_sum(at, v)` over the eight threads of a row; `at` is the thread's place among all rows of all teams. */
function reductions({ shuffles }: Plan): string {
  const one = (name: string, merge: (a: string, b: string) => string): string =>
    shuffles
      ? `fn ${name}(at: u32, v: vec4<f32>) -> vec4<f32> {
  var r = v;
  ${[1, 2, 4].map((d) => `r = ${merge("r", `subgroupShuffleXor(r, ${d}u)`)};`).join(" ")}
  return r;
}`
      : `fn ${name}(at: u32, v: vec4<f32>) -> vec4<f32> {
  workgroupBarrier();
  ${times(4, (r) => `shared_row[at + ${8 * r}u] = v[${r}];`).join(" ")}
  workgroupBarrier();
  let first = at & ~7u;
  var r = ${name === "row_max" ? "v" : "vec4<f32>()"};
  for (var t = 0u; t < 8u; t++) { r = ${merge("r", `vec4<f32>(${times(4, (r) => `shared_row[first + ${8 * r}u + t]`).join(", ")})`)}; }
  return r;
}`;
  return `${one("row_max", (a, b) => `max(${a}, ${b})`)}\n${one("row_sum", (a, b) => `${a} + ${b}`)}`;
}

function tiledBody(p: Plan, lanes: number): string {
  const blocks = Math.ceil(p.columns / tile);
  const rows = <T>(f: (r: number) => T): T[] => times(4, f);
  return `${locate(tile, p.teams * p.columns)}
  let i0 = (rest / chunks) * ${tile}u;
  if (head >= p.total || i0 >= p.l) { return; }
  let me = ${p.shuffles ? `sid * ${lanes}u + lane` : "lid"};
  let team = me / 64u; let own = me % 64u;
  let base = team * ${stagedElements(p.stagedDepth)}u;
  let ty = (own / 8u) * 4u; let tx = (own % 8u) * 4u;
  let at = team * ${tile * 8}u + ty * 8u + own % 8u;
  let d_end = min((team + 1u) * ${p.depth / 4}u, ${p.width / 4}u);
  let c0 = v0 + team * ${p.columns / 4}u;
  ${times(blocks, (c) => rows((r) => `var o${c}_${r} = vec4<f32>();`).join(" ")).join(" ")}
  var m = vec4<f32>(-3.4e38); var sum = vec4<f32>();
  let limits = vec4<u32>(${rows((r) => `key_limit(b, min(i0 + ty + ${r}u, p.l - 1u))`).join(", ")});
  let last = key_limit(b, min(i0 + ${tile - 1}u, p.l - 1u));
  for (var j0 = 0u; j0 < last; j0 += ${tile}u) {
    ${rows((r) => `var s${r} = vec4<f32>();`).join(" ")}
    ${scoreStep(p)}
    ${p.teams > 1 ? addParts(p) : ""}
    ${rows((r) => `s${r} = vec4<f32>(${times(4, (c) => `logit(head, min(i0 + ty + ${r}u, p.l - 1u), j0 + tx + ${c}u, limits[${r}], s${r}[${c}])`).join(", ")});`).join("\n    ")}
    let best = max(m, row_max(at, vec4<f32>(${rows((r) => `max(max(s${r}.x, s${r}.y), max(s${r}.z, s${r}.w))`).join(", ")})));
    let c = vec4<f32>(${rows((r) => `select(f_exp(m[${r}] - best[${r}]), 1.0, best[${r}] <= m[${r}])`).join(", ")});
    m = best;
    ${rows((r) => `s${r} = vec4<f32>(${times(4, (e) => `weight(s${r}[${e}], best[${r}])`).join(", ")});`).join("\n    ")}
    sum = sum * c + vec4<f32>(${rows((r) => `(s${r}.x + s${r}.y) + (s${r}.z + s${r}.w)`).join(", ")});
    if (team == 0u) { ${rows((r) => times(4, (e) => `weights[(ty + ${r}u) * ${pitch}u + tx + ${e}u] = s${r}[${e}];`).join(" ")).join(" ")} }
    ${times(blocks, (b) => rows((r) => `o${b}_${r} *= c[${r}];`).join(" ")).join(" ")}
    ${times(blocks, (b) => valueStep(p, b)).join("\n    ")}
  }
  sum = row_sum(at, sum);
  ${rows(
    (r) => `{ let i = i0 + ty + ${r}u; let w = select(1.0 / sum[${r}], 0.0, sum[${r}] == 0.0);
    ${times(blocks, (b) => `{ let q = c0 + ${(b * tile) / 4}u + tx / 4u; if (i < p.l && ${b * tile}u + tx < ${p.columns}u && q < p.vw / 4u) { put4(ob, i, q, o${b}_${r} * w); } }`).join(" ")} }`,
  ).join("\n  ")}`;
}

/** A team's part of the scores: queries and keys are staged a slice of the head's columns at a time. */
function scoreStep(p: Plan): string {
  const { stagedDepth: depth } = p;
  const step = depth + 1;
  const keysAt = tile * step;
  return `for (var slice = 0u; slice < ${p.depth / 4}u; slice += ${depth / 4}u) {
      let d0 = team * ${p.depth / 4}u + slice;
      workgroupBarrier();
      ${stage(tile, depth, 0, step, (e, d) => guarded(`q4(qb, min(i0 + ${e}, p.l - 1u), min(d0 + ${d}, d_end - 1u)) * p.scale`, d))}
      ${stage(tile, depth, keysAt, step, (e, d) => guarded(`k4(kb, min(j0 + ${e}, p.s - 1u), min(d0 + ${d}, d_end - 1u))`, d))}
      workgroupBarrier();
      for (var d = 0u; d < ${depth}u; d++) {
        let keys = vec4<f32>(${times(4, (c) => `staged[base + ${keysAt}u + (tx + ${c}u) * ${step}u + d]`).join(", ")});
        ${times(4, (r) => `s${r} += staged[base + (ty + ${r}u) * ${step}u + d] * keys;`).join(" ")}
      }
    }`;
}

const guarded = (value: string, d: string): string => `select(vec4<f32>(), ${value}, vec4<bool>(d0 + ${d} < d_end))`;

/** Statements by which a team stages rows x columns at an offset, a quad per thread and turn. */
function stage(rows: number, columns: number, offset: number, step: number, quad: (row: string, d: string) => string): string {
  const quads = columns / 4;
  return `for (var t = own; t < ${rows * quads}u; t += 64u) {
        let x = ${quad(`t / ${quads}u`, `t % ${quads}u`)};
        let to = base + ${offset}u + (t / ${quads}u) * ${step}u + (t % ${quads}u) * 4u;
        ${times(4, (c) => `staged[to + ${c}u] = x[${c}];`).join(" ")}
      }`;
}

/** Adds the teams' parts of the scores. */
function addParts(p: Plan): string {
  const place = (t: string, r: number, c: number): string =>
    `staged[${t} * ${stagedElements(p.stagedDepth)}u + (ty + ${r}u) * ${pitch}u + tx + ${c}u]`;
  return `workgroupBarrier();
    ${times(4, (r) => times(4, (c) => `${place("team", r, c)} = s${r}[${c}];`).join(" ")).join(" ")}
    workgroupBarrier();
    ${times(4, (r) => `s${r} = vec4<f32>(${times(4, (c) => times(p.teams, (t) => place(`${t}u`, r, c)).join(" + ")).join(", ")});`).join("\n    ")}`;
}

/** Adds the weighted values of 32 columns. */
function valueStep(p: Plan, block: number): string {
  const { stagedKeys: keys } = p;
  const quad = `min(c0 + ${(block * tile) / 4}u + t % 8u, p.vw / 4u - 1u)`;
  return times(
    tile / keys,
    (half) => `workgroupBarrier();
    ${stage(keys, tile, 0, pitch, (row) => `v4(vb, min(j0 + ${half * keys}u + ${row}, p.s - 1u), ${quad})`)}
    workgroupBarrier();
    for (var j = 0u; j < ${keys}u; j++) {
      let x = vec4<f32>(${times(4, (n) => `staged[base + j * ${pitch}u + tx + ${n}u]`).join(", ")});
      ${times(4, (r) => `{ let w = weights[(ty + ${r}u) * ${pitch}u + ${half * keys}u + j]; o${block}_${r} += w * x; }`).join(" ")}
    }`,
  ).join("\n    ");
}
