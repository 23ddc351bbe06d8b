// The attention kernels of the plain tier: one thread per query (software drivers), and tiles in workgroup memory (GPUs).

import type { Layout } from "../../../layout.ts";
import type { View } from "../../backend.ts";
import type { Dispatch } from "../encoder.ts";
import type { ProgramSpec } from "../pipelines.ts";
import { formatFunctions, loadElement, loadQuad, packQuad, quadType, type StoredDType, wordType } from "../wgsl/formats.ts";
import { mathFunctions } from "../wgsl/math.ts";
import { alignedRows, type OffsetFunction, offsetFunction } from "../wgsl/offsets.ts";
import { type Bound, bindView, bytesOfView, type KernelContext } from "./context.ts";
import { storeConversion } from "./elementwise.ts";

/** One piece of the problem: whole heads, a range of queries that starts at `firstQuery`. */
export interface AttentionPiece {
  readonly out: View;
  readonly q: View;
  readonly k: View;
  readonly v: View;
  readonly mask: View | undefined;
  readonly lengths: View | undefined;
  readonly firstQuery: number;
  readonly scale: number;
  readonly causal: boolean;
}

/** Strides of the sequence dimension. */
const sequenceStep = ({ strides }: Layout): number => strides[2]!;

/** Columns of v that one thread or workgroup owns. */
const valueChunk = 128;

interface HeadSource {
  readonly bound: Bound;
  readonly text: string;
  readonly type: string;
  readonly key: string;
  readonly params: readonly string[];
  readonly values: readonly number[];
}

/** `NAME4(head, i, q)`: four values of row i of a head. */
function headSource(ctx: KernelContext, name: string, view: View): HeadSource {
  const bound = bindView(ctx, "attention", view);
  const offsets = offsetFunction(`${name}_head`, view.layout, 0, 2);
  const quad = alignedRows(view.layout, bound.offset);
  const d = view.dtype as StoredDType;
  return {
    bound,
    type: quad ? quadType(d) : "array<u32>",
    get text() {
      return `${offsets.text}\n${headText(name, d, quad)}`;
    },
    key: `${d}${quad ? "q" : "s"}${offsets.key}`,
    get params() {
      return [`${name}_o`, `${name}_step`, ...offsets.params];
    },
    values: [bound.offset, sequenceStep(view.layout), ...offsets.values],
  };
}

function headText(name: string, d: StoredDType, quad: boolean): string {
  const at = `p.${name}_o + base + i * p.${name}_step`;
  const load = quad
    ? `return vec4<f32>(${loadQuad(d, name, `((${at}) >> 2u) + c`)});`
    : `let o = ${at} + c * 4u; return vec4<f32>(${[0, 1, 2, 3].map((j) => loadElement(d, name, `(o + ${j}u)`)).join(", ")});`;
  return `fn ${name}4(base: u32, i: u32, c: u32) -> vec4<f32> { ${load} }\n`;
}

interface OutSource extends HeadSource {
  readonly offsets: OffsetFunction;
}

/** `put4(base, i, q, v)`: stores four values of row i of an output head. */
function outSource(ctx: KernelContext, view: View): OutSource {
  const bound = bindView(ctx, "attention", view);
  const offsets = offsetFunction("out_head", view.layout, 0, 2);
  const quad = alignedRows(view.layout, bound.offset);
  const d = view.dtype as StoredDType;
  return {
    bound,
    offsets,
    type: quad ? quadType(d) : "array<u32>",
    get text() {
      return `${offsets.text}\n${outText(d, quad)}`;
    },
    key: `${d}${quad ? "q" : "s"}${offsets.key}`,
    get params() {
      return ["out_o", "out_step", ...offsets.params];
    },
    values: [bound.offset, sequenceStep(view.layout), ...offsets.values],
  };
}

function outText(d: StoredDType, quad: boolean): string {
  const lanes = ["x", "y", "z", "w"].map((l) => storeConversion(`v.${l}`, "f32", d));
  const at = "p.out_o + base + i * p.out_step + q * 4u";
  const store = quad
    ? `let r = vec4<${wordType(d)}>(${lanes.join(", ")}); out[(${at}) >> 2u] = ${packQuad(d, "r")};`
    : `let o = ${at}; ${["x", "y", "z", "w"].map((l, j) => `out[o + ${j}u] = bitcast<u32>(v.${l});`).join(" ")}`;
  return `fn put4(base: u32, i: u32, q: u32, v: vec4<f32>) { ${store} }\n`;
}

/** Text of `masked(head, i, j, s)`, the score after masks, and `key_limit(b, i)`; -3.4e38 and below means unseen. */
interface MaskSource {
  readonly text: string;
  readonly key: string;
  readonly specs: readonly { name: string; type: string }[];
  readonly bounds: readonly Bound[];
  readonly params: readonly string[];
  readonly values: readonly number[];
}

function maskSource(ctx: KernelContext, { mask, lengths, causal }: AttentionPiece): MaskSource {
  const specs: { name: string; type: string }[] = [];
  const bounds: Bound[] = [];
  const params: string[] = [];
  const values: number[] = [];
  let text = "return s;";
  let functions = "";
  if (mask) {
    const bound = bindView(ctx, "attention", mask);
    const offsets = offsetFunction("mask_row", mask.layout, 0, 3);
    specs.push({ name: "mask", type: "array<u32>" });
    bounds.push(bound);
    params.push("mask_o", "mask_step", ...offsets.params);
    values.push(bound.offset, mask.layout.strides[3]!, ...offsets.values);
    functions = `${offsets.text}\n`;
    const value = loadElement(mask.dtype as StoredDType, "mask", "(p.mask_o + mask_row(head * p.l + i) + j * p.mask_step)");
    text = mask.dtype === "u8" ? `return select(-3.4e38, s, ${value} != 0u);` : `return s + f32(${value});`;
  }
  let limit = "p.s";
  if (lengths) {
    const bound = bindView(ctx, "attention", lengths);
    specs.push({ name: "lengths", type: "array<u32>" });
    bounds.push(bound);
    params.push("lengths_o", "lengths_step");
    values.push(bound.offset, lengths.layout.strides[0]!);
    limit = "min(p.s, u32(max(bitcast<i32>(lengths[p.lengths_o + b * p.lengths_step]), 0)))";
  }
  if (causal) limit = `min(${limit}, p.first + i + 1u)`;
  const all = `${functions}fn masked(head: u32, i: u32, j: u32, s: f32) -> f32 { ${text} }\nfn key_limit(b: u32, i: u32) -> u32 { return ${limit}; }\n`;
  return {
    text: all,
    key: `${mask ? mask.dtype : ""}${lengths ? "L" : ""}${causal ? "C" : ""}${params.length}`,
    specs,
    bounds,
    params,
    values,
  };
}

/** Records one dispatch for a piece that fits. */
export function recordAttention(ctx: KernelContext, piece: AttentionPiece): void {
  const { out, q, k, v } = piece;
  const [batch, heads, queries, width] = q.layout.shape as [number, number, number, number];
  const [, groups, keys] = k.layout.shape as [number, number, number];
  const valueWidth = v.layout.shape[3]!;
  const chunk = Math.min(valueWidth, valueChunk);
  const sources = [headSource(ctx, "q", q), headSource(ctx, "k", k), headSource(ctx, "v", v)];
  const target = outSource(ctx, out);
  const mask = maskSource(ctx, piece);
  const tiled = !ctx.traits.software;
  const rows = tiled ? tileQueries : 64;
  const key = `attention|${tiled ? width : ""}|${chunk}|${sources.map((s) => s.key).join()}|${target.key}|${mask.key}`;
  const program = ctx.program(key, () => (tiled ? tiledSpec : streamSpec)(width, chunk, sources, target, mask));
  const all = [...sources, target];
  const dispatch: Dispatch = {
    op: "attention",
    program,
    bindings: [...sources.map((s) => s.bound.binding), ...mask.bounds.map((b) => b.binding), target.bound.binding],
    params: [
      batch * heads,
      heads,
      groups,
      queries,
      keys,
      valueWidth,
      width / 4,
      piece.firstQuery,
      piece.scale,
      ...all.flatMap((s) => s.values),
      ...mask.values,
    ],
    grid: batch * heads * Math.ceil(queries / rows) * Math.ceil(valueWidth / chunk),
    flops: 2 * batch * heads * queries * keys * (width + valueWidth),
    bytes: [q, k, v, out].reduce((s, x) => s + bytesOfView(x), 0),
  };
  ctx.record(dispatch);
}

function attentionSpec(
  label: string,
  sources: readonly HeadSource[],
  target: OutSource,
  mask: MaskSource,
  extra: string,
  body: string,
): ProgramSpec {
  const text = `${sources.map((s) => s.text).join("")}${target.text}${mask.text}${extra}`;
  const functions = mathFunctions(text + body);
  return {
    label,
    bindings: [
      ...["q", "k", "v"].map((name, i) => ({ name, type: sources[i]!.type })),
      ...mask.specs,
      { name: "out", type: target.type, write: true },
    ],
    params: [
      "total",
      "heads",
      "groups",
      "l",
      "s",
      "vw",
      "quads",
      "first",
      "scale:f32",
      ...[...sources, target].flatMap((s) => s.params),
      ...mask.params,
    ],
    workgroup: [64],
    declarations: formatFunctions(functions + text + body) + functions + text,
    body,
  };
}

/** Splits the workgroup index into head, block of queries and chunk of value columns. */
const locate = (rows: number, chunk: number): string => `let blocks = (p.l + ${rows - 1}u) / ${rows}u;
  let chunks = (p.vw + ${chunk - 1}u) / ${chunk}u;
  let head = wg / (blocks * chunks);
  let rest = wg % (blocks * chunks);
  let v0 = (rest % chunks) * ${chunk / 4}u;
  let b = head / p.heads;
  let kv = b * p.groups + (head % p.heads) / (p.heads / p.groups);
  let qb = q_head(head); let kb = k_head(kv); let vb = v_head(kv); let ob = out_head(head);`;

/**
 * One thread per query; all threads of a workgroup read the same keys, so their loads are uniform. Loop bounds are parameters, not
 * constants: software drivers take minutes to compile the unrolled loops.
 */
function streamSpec(_width: number, chunk: number, sources: readonly HeadSource[], target: OutSource, mask: MaskSource): ProgramSpec {
  const body = `${locate(64, chunk)}
  let i = (rest / chunks) * 64u + lid;
  if (head >= p.total || i >= p.l) { return; }
  let values = min(${chunk / 4}u, p.vw / 4u - v0);
  var o: array<vec4<f32>, ${chunk / 4}>;
  for (var d = 0u; d < values; d++) { o[d] = vec4<f32>(); }
  var m = -3.4e38; var sum = 0.0;
  let limit = key_limit(b, i);
  for (var j = 0u; j < limit; j += 4u) {
    let j1 = min(j + 1u, p.s - 1u); let j2 = min(j + 2u, p.s - 1u); let j3 = min(j + 3u, p.s - 1u);
    var a0 = vec4<f32>(); var a1 = vec4<f32>(); var a2 = vec4<f32>(); var a3 = vec4<f32>();
    for (var d = 0u; d < p.quads; d++) {
      let x = q4(qb, i, d);
      a0 += x * k4(kb, j, d); a1 += x * k4(kb, j1, d); a2 += x * k4(kb, j2, d); a3 += x * k4(kb, j3, d);
    }
    let dots = vec4<f32>((a0.x + a0.y) + (a0.z + a0.w), (a1.x + a1.y) + (a1.z + a1.w), (a2.x + a2.y) + (a2.z + a2.w), (a3.x + a3.y) + (a3.z + a3.w)) * p.scale;
    var s: vec4<f32>;
    for (var t = 0u; t < min(4u, limit - j); t++) { s[t] = masked(head, i, j + t, dots[t]); }
    s = select(vec4<f32>(-3.4e38), s, vec4<u32>(j, j + 1u, j + 2u, j + 3u) < vec4<u32>(limit));
    let best = max(max(m, max(s.x, s.y)), max(s.z, s.w));
    let c = select(f_exp(m - best), 1.0, best <= m);
    m = best;
    let w = vec4<f32>(weight(s.x, m), weight(s.y, m), weight(s.z, m), weight(s.w, m));
    sum = sum * c + ((w.x + w.y) + (w.z + w.w));
    for (var d = 0u; d < values; d++) {
      let at = v0 + d;
      o[d] = o[d] * c + (w.x * v4(vb, j, at) + w.y * v4(vb, j1, at) + (w.z * v4(vb, j2, at) + w.w * v4(vb, j3, at)));
    }
  }
  let r = select(1.0 / sum, 0.0, sum == 0.0);
  for (var d = 0u; d < values; d++) { put4(ob, i, v0 + d, o[d] * r); }`;
  const extra = "fn weight(s: f32, m: f32) -> f32 { return select(f_exp(s - m), 0.0, s <= -3.0e38); }\n";
  return attentionSpec("attention", sources, target, mask, extra, body);
}

const tileQueries = 32;
const tileKeys = 32;
/** Head columns staged at once. */
const tileDepth = 32;
const pitch = 33;

/** 32 queries x 32 keys per workgroup of 64 threads; each thread owns 4 x 4 scores and 4 rows of the output. */
function tiledSpec(width: number, chunk: number, sources: readonly HeadSource[], target: OutSource, mask: MaskSource): ProgramSpec {
  const chunks = Math.ceil(chunk / tileDepth);
  const extra = `var<workgroup> sq: array<f32, ${tileQueries * pitch}>;
var<workgroup> sk: array<f32, ${tileKeys * pitch}>;
var<workgroup> sp: array<f32, ${tileQueries * pitch}>;
var<workgroup> row_m: array<f32, ${tileQueries}>;
var<workgroup> row_l: array<f32, ${tileQueries}>;
var<workgroup> row_c: array<f32, ${tileQueries}>;
`;
  const body = `${locate(tileQueries, chunk)}
  let i0 = (rest / chunks) * ${tileQueries}u;
  if (head >= p.total || i0 >= p.l) { return; }
  let ty = (lid / 8u) * 4u; let tx = (lid % 8u) * 4u;
  ${times(chunks, (c) => times(4, (r) => `var o${c}_${r} = vec4<f32>();`).join(" ")).join(" ")}
  if (lid < ${tileQueries}u) { row_m[lid] = -3.4e38; row_l[lid] = 0.0; }
  let last = key_limit(b, min(i0 + ${tileQueries - 1}u, p.l - 1u));
  for (var j0 = 0u; j0 < last; j0 += ${tileKeys}u) {
    ${times(4, (r) => `var s${r} = vec4<f32>();`).join(" ")}
    for (var d0 = 0u; d0 < ${width / 4}u; d0 += ${tileDepth / 4}u) {
      workgroupBarrier();
      ${stageTile("sq", (e, d) => `select(vec4<f32>(), q4(qb, min(i0 + ${e}, p.l - 1u), min(d0 + ${d}, ${width / 4 - 1}u)) * p.scale, vec4<bool>(d0 + ${d} < ${width / 4}u))`)}
      ${stageTile("sk", (e, d) => `select(vec4<f32>(), k4(kb, min(j0 + ${e}, p.s - 1u), min(d0 + ${d}, ${width / 4 - 1}u)), vec4<bool>(d0 + ${d} < ${width / 4}u))`)}
      workgroupBarrier();
      for (var d = 0u; d < ${tileDepth}u; d++) {
        let kv4 = vec4<f32>(${times(4, (c) => `sk[(tx + ${c}u) * ${pitch}u + d]`).join(", ")});
        ${times(4, (r) => `s${r} += sq[(ty + ${r}u) * ${pitch}u + d] * kv4;`).join(" ")}
      }
    }
    ${times(4, (r) => times(4, (c) => `sp[(ty + ${r}u) * ${pitch}u + tx + ${c}u] = score(head, b, i0 + ty + ${r}u, j0 + tx + ${c}u, s${r}[${c}]);`).join(" ")).join("\n    ")}
    workgroupBarrier();
    if (lid < ${tileQueries}u) { softmax_row(lid); }
    workgroupBarrier();
    ${times(4, (r) => `let c${r} = row_c[ty + ${r}u];`).join(" ")}
    ${times(chunks, (c) => times(4, (r) => `o${c}_${r} *= c${r};`).join(" ")).join(" ")}
    ${times(chunks, (c) => valueStep(c)).join("\n    ")}
  }
  workgroupBarrier();
  ${times(
    4,
    (r) => `{ let i = i0 + ty + ${r}u; let l = row_l[ty + ${r}u]; let w = select(1.0 / l, 0.0, l == 0.0);
    ${times(chunks, (c) => `if (i < p.l && (v0 + ${(c * tileDepth) / 4}u) * 4u + tx < min(p.vw, v0 * 4u + ${chunk}u)) { put4(ob, i, v0 + ${(c * tileDepth) / 4}u + tx / 4u, o${c}_${r} * w); }`).join(" ")} }`,
  ).join("\n  ")}`;
  return attentionSpec(`attention ${width} tiled`, sources, target, mask, extra + tileFunctions, body);
}

const times = <T>(n: number, f: (i: number) => T): T[] => Array.from({ length: n }, (_, i) => f(i));

/** Stages 32 rows x 32 columns, four quads per thread. */
function stageTile(to: string, quad: (row: string, d: string) => string): string {
  return `for (var t = lid; t < ${(tileQueries * tileDepth) / 4}u; t += 64u) {
        let x = ${quad("t / 8u", "t % 8u")};
        let at = (t / 8u) * ${pitch}u + (t % 8u) * 4u;
        ${times(4, (c) => `${to}[at + ${c}u] = x[${c}];`).join(" ")}
      }`;
}

/** Adds the weighted values of 32 columns. */
function valueStep(c: number): string {
  const quad = `min(v0 + ${(c * tileDepth) / 4}u + t % 8u, p.vw / 4u - 1u)`;
  return `workgroupBarrier();
    ${stageTile("sk", (row) => `v4(vb, min(j0 + ${row}, p.s - 1u), ${quad})`)}
    workgroupBarrier();
    for (var j = 0u; j < ${tileKeys}u; j++) {
      let x = vec4<f32>(${times(4, (n) => `sk[j * ${pitch}u + tx + ${n}u]`).join(", ")});
      ${times(4, (r) => `{ let w = sp[(ty + ${r}u) * ${pitch}u + j]; o${c}_${r} += w * x; }`).join(" ")}
    }`;
}

const tileFunctions = `fn score(head: u32, b: u32, i: u32, j: u32, s: f32) -> f32 {
  if (i >= p.l || j >= key_limit(b, i)) { return -3.4e38; }
  return masked(head, i, j, s);
}
fn softmax_row(r: u32) {
  let m = row_m[r];
  var best = m;
  for (var j = 0u; j < ${tileKeys}u; j++) { best = max(best, sp[r * ${pitch}u + j]); }
  let c = select(f_exp(m - best), 1.0, best <= m);
  var sum = 0.0;
  for (var j = 0u; j < ${tileKeys}u; j++) {
    let s = sp[r * ${pitch}u + j];
    let w = select(f_exp(s - best), 0.0, s <= -3.0e38);
    sp[r * ${pitch}u + j] = w;
    sum += w;
  }
  row_m[r] = best;
  row_l[r] = row_l[r] * c + sum;
  row_c[r] = c;
}
`;
