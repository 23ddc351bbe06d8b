// Reductions over the trailing dimensions, in one or two stages, deterministic: the order of merging depends on shapes only.
import { type Layout, narrowLayout } from "../../../layout.ts";
import { inputNode } from "../../../ops/expr.ts";
import type { Kernel } from "../../../ops/table.ts";
import { sizeOf } from "../../../shape.ts";
import type { View } from "../../../view.ts";
import type { Binding } from "../encoder.ts";
import type { ProgramSpec } from "../pipelines.ts";
import { formatFunctions, loadElement, type StoredDType, wordType } from "../wgsl/formats.ts";
import { mathFunctions } from "../wgsl/math.ts";
import { type OffsetFunction, offsetFunction } from "../wgsl/offsets.ts";
import { type StateText, stateOf } from "../wgsl/states.ts";
import { bindView, bytesOfView, fits, type KernelContext, scratchView } from "./context.ts";
import { runMap } from "./elementwise.ts";
import { isEmpty } from "./finish.ts";

/** Sums, extremes, variances and the other folds over trailing dimensions. */
export function reduceKernel(ctx: KernelContext): Kernel<"reduce"> {
  return (out, { x }, { kind, reduceRank, correction, p }) => {
    if (isEmpty(out)) return;
    const state = stateOf(kind, wordType(x.dtype as StoredDType), p);
    const stored = state.resultType === "f32" ? "f32" : state.resultType;
    const direct = stored === out.dtype;
    const target = direct ? out : scratchView(ctx, stored, out.layout.shape, "reduce result");
    const text = { key: `${kind}${kind === "norm" ? normKey(p) : ""}`, state, results: [state.result], extra: { correction, power: p } };
    reduceRows(ctx, kind, target, x, reduceRank, text);
    if (direct) return;
    runMap(ctx, kind, out, [target], inputNode(0, stored));
    ctx.drop(target.buffer as never);
  };
}

const normKey = (p: number): string => ([0, 1, 2, Infinity, -Infinity].includes(p) ? `${p}` : "p");

/** What is computed: a state and the words each row ends with. */
export interface Reduction {
  readonly key: string;
  readonly state: StateText;
  /** Expressions over state `s`, each one word of the output. */
  readonly results: readonly string[];
  /** Extra f32 parameters. */
  readonly extra: Readonly<Record<string, number>>;
}

const chunkLength = 8192;

/** Reduces the last `reduceRank` dimensions of x into words of `out` (contiguous, `results.length` per row). */
export function reduceRows(ctx: KernelContext, op: string, out: View, x: View, reduceRank: number, reduction: Reduction): void {
  const rank = x.layout.shape.length;
  const lead = rank - reduceRank;
  const rows = sizeOf(x.layout.shape.slice(0, lead));
  const length = sizeOf(x.layout.shape.slice(lead));
  const cut = x.layout.shape.findIndex((d, i) => i < lead && d > 1);
  if (!fits(ctx.traits, x) && cut >= 0) {
    cutRows(ctx, op, out, x, reduceRank, reduction, cut, rows);
    return;
  }
  const wanted = rows >= 256 ? 1 : Math.min(256, Math.ceil(length / chunkLength));
  if (wanted === 1 && fits(ctx.traits, x)) {
    const target = bindView(ctx, op, out);
    stage(ctx, op, reduction, {
      x,
      lead,
      rows,
      length,
      chunks: 1,
      slot: 0,
      slots: 1,
      first: 0,
      total: length,
      out: target.binding,
      offset: target.offset,
      final: true,
    });
    return;
  }
  twoStages(ctx, op, out, x, lead, rows, length, reduction);
}

function cutRows(
  ctx: KernelContext,
  op: string,
  out: View,
  x: View,
  reduceRank: number,
  reduction: Reduction,
  dim: number,
  rows: number,
): void {
  const n = x.layout.shape[dim]!;
  const half = Math.ceil(n / 2);
  const words = reduction.results.length;
  const perIndex = (rows / n) * words;
  for (const [start, count] of [
    [0, half],
    [half, n - half],
  ] as const) {
    const piece = { ...x, layout: narrowLayout(x.layout, dim, start, count) };
    const layout = { shape: [count * perIndex], strides: [1], offset: out.layout.offset + start * perIndex };
    reduceRows(ctx, op, { ...out, layout }, piece, reduceRank, reduction);
  }
}

/** Ranges of the outermost reduced dimension that fit a binding, with the flattened index of their first element. */
function ranges(ctx: KernelContext, x: View, lead: number): { view: View; first: number }[] {
  if (fits(ctx.traits, x)) return [{ view: x, first: 0 }];
  const dim = x.layout.shape.findIndex((d, i) => i >= lead && d > 1);
  const n = x.layout.shape[dim]!;
  const inner = sizeOf(x.layout.shape.slice(dim + 1));
  const half = Math.ceil(n / 2);
  const part = (start: number, count: number): { view: View; first: number }[] =>
    ranges(ctx, { ...x, layout: narrowLayout(x.layout, dim, start, count) }, lead).map((r) => ({
      view: r.view,
      first: r.first + start * inner,
    }));
  return [...part(0, half), ...part(half, n - half)];
}

function twoStages(
  ctx: KernelContext,
  op: string,
  out: View,
  x: View,
  lead: number,
  rows: number,
  total: number,
  reduction: Reduction,
): void {
  const pieces = ranges(ctx, x, lead).map((r) => {
    const length = sizeOf(r.view.layout.shape.slice(lead));
    return { ...r, length, chunks: Math.min(256, Math.max(1, Math.ceil(length / chunkLength))) };
  });
  const slots = pieces.reduce((s, r) => s + r.chunks, 0);
  const words = reduction.state.fields.length;
  const partial = scratchView(ctx, "u32", [rows * slots * words], `${op} partial results`);
  const target = bindView(ctx, op, partial);
  let slot = 0;
  for (const { view, first, length, chunks } of pieces) {
    stage(ctx, op, reduction, {
      x: view,
      lead,
      rows,
      length,
      chunks,
      slot,
      slots,
      first,
      total,
      out: target.binding,
      offset: 0,
      final: false,
    });
    slot += chunks;
  }
  mergeSlots(ctx, op, reduction, partial, out, rows, slots, total);
  ctx.drop(partial.buffer);
}

interface Stage {
  readonly x: View;
  readonly lead: number;
  readonly rows: number;
  readonly length: number;
  readonly chunks: number;
  readonly slot: number;
  readonly slots: number;
  readonly first: number;
  readonly total: number;
  readonly out: Binding;
  readonly offset: number;
  readonly final: boolean;
}

function stage(ctx: KernelContext, op: string, reduction: Reduction, s: Stage): void {
  const { x, lead, rows, length, chunks } = s;
  const bound = bindView(ctx, op, x);
  const rank = x.layout.shape.length;
  const walks = [offsetFunction("lead", x.layout, 0, lead), offsetFunction("inner", x.layout, lead, rank)];
  const many = rows * chunks;
  const threads =
    length / chunks <= 64 || (ctx.traits.software && many >= 8) || innerFirst(x.layout, lead, many)
      ? 1
      : Math.min(256, ctx.traits.maxInvocations);
  const key = `reduce|${reduction.key}|${s.final}|${threads}|${x.dtype}|${walks.map((w) => w.key).join()}|${Object.keys(reduction.extra)}`;
  const program = ctx.program(key, () => stageSpec(reduction, s.final, threads, x.dtype as StoredDType, walks));
  ctx.record({
    op,
    program,
    bindings: [bound.binding, s.out],
    params: [
      rows,
      length,
      chunks,
      s.slot,
      s.slots,
      s.first,
      s.total,
      bound.offset,
      s.offset,
      ...Object.values(reduction.extra),
      ...walks.flatMap((w) => w.values),
    ],
    grid: threads === 1 ? Math.ceil(many / 64) : many,
    flops: rows * length,
    bytes: bytesOfView(x),
  });
}

/** Whether neighbouring rows, not neighbouring values of a row, lie together: then one thread per row reads best. */
const innerFirst = ({ strides, shape }: Layout, lead: number, rows: number): boolean =>
  rows >= 1024 && lead > 0 && strides[lead - 1] === 1 && shape[lead - 1]! > 16;

/** struct S, `merged` and the helpers a state's text uses. */
function stateFunctions(state: StateText): string {
  return `struct S { ${state.fields.map(([n, t]) => `${n}: ${t}`).join(", ")} }
fn merged(x: S, b: S) -> S { var a = x; ${state.merge} return a; }
fn f_variance(m2: f32, n: f32) -> f32 { return select(f_pick(m2 / n, 0x7fc00000u, m2 == 0.0), m2 / n, n > 0.0); }
`;
}

const bits = (type: string, value: string): string => (type === "u32" ? value : `bitcast<u32>(${value})`);

/** Statements that write a state's results, or its fields for a later stage. */
function writeState(reduction: Reduction, final: boolean, at: string): string {
  const { state, results } = reduction;
  if (final) return results.map((r, k) => `out[p.out_o + row * ${results.length}u + ${k}u] = ${bits(state.resultType, r)};`).join(" ");
  return state.fields.map(([n, t], k) => `out[p.out_o + (${at}) * ${state.fields.length}u + ${k}u] = ${bits(t, `s.${n}`)};`).join(" ");
}

const tree = (threads: number): string => `
  states[lid] = s;
  workgroupBarrier();
  for (var w = ${threads / 2}u; w > 0u; w = w >> 1u) {
    if (lid < w) { states[lid] = merged(states[lid], states[lid + w]); }
    workgroupBarrier();
  }
  if (lid != 0u) { return; }
  s = states[0];`;

function stageSpec(
  reduction: Reduction,
  final: boolean,
  threads: number,
  dtype: StoredDType,
  walks: readonly OffsetFunction[],
): ProgramSpec {
  const { state } = reduction;
  const index = threads === 1 ? "wg * 64u + lid" : "wg";
  const body = `let task = ${index};
  if (task >= p.rows * p.chunks) { return; }
  let row = task / p.chunks; let chunk = task % p.chunks;
  let size = (p.count + p.chunks - 1u) / p.chunks;
  let end = min(p.count, (chunk + 1u) * size);
  let base = p.x_o + lead(row);
  var s = ${state.init};
  for (var k = chunk * size + ${threads === 1 ? "0u" : "lid"}; k < end; k += ${threads}u) {
    let o = base + inner(k);
    let v = ${loadElement(dtype, "x", "o")};
    let i = p.first + k;
    ${state.step}
  }
  ${threads === 1 ? "" : tree(threads)}
  ${writeState(reduction, final, "row * p.slots + p.slot + chunk")}`;
  const text = `${stateFunctions(state)}${walks.map((w) => w.text).join("\n")}\n${threads === 1 ? "" : `var<workgroup> states: array<S, ${threads}>;\n`}`;
  const functions = mathFunctions(text + body);
  return {
    label: `reduce ${reduction.key}`,
    bindings: [
      { name: "x", type: "array<u32>" },
      { name: "out", type: "array<u32>", write: true },
    ],
    params: [
      "rows",
      "count",
      "chunks",
      "slot",
      "slots",
      "first",
      "length",
      "x_o",
      "out_o",
      ...Object.keys(reduction.extra).map((n) => `${n}:f32`),
      ...walks.flatMap((w) => w.params),
    ],
    workgroup: [threads === 1 ? 64 : threads],
    declarations: formatFunctions(functions + text + body) + functions + text,
    body,
  };
}

/** The second stage: one thread per row merges its slots in order. */
function mergeSlots(
  ctx: KernelContext,
  op: string,
  reduction: Reduction,
  partial: View,
  out: View,
  rows: number,
  slots: number,
  total: number,
): void {
  const [from, to] = [bindView(ctx, op, partial), bindView(ctx, op, out)];
  const program = ctx.program(`reduce merge|${reduction.key}|${reduction.state.resultType}`, () => mergeSpec(reduction));
  ctx.record({
    op,
    program,
    bindings: [from.binding, to.binding],
    params: [rows, slots, total, from.offset, to.offset, ...Object.values(reduction.extra)],
    grid: Math.ceil(rows / 64),
    bytes: bytesOfView(partial),
  });
}

function mergeSpec(reduction: Reduction): ProgramSpec {
  const { state } = reduction;
  const n = state.fields.length;
  const load = state.fields.map(([, t], k) => (t === "u32" ? `x[at + ${k}u]` : `bitcast<${t}>(x[at + ${k}u])`)).join(", ");
  const body = `let row = wg * 64u + lid;
  if (row >= p.rows) { return; }
  var s = ${state.init};
  for (var k = 0u; k < p.slots; k++) { let at = p.x_o + (row * p.slots + k) * ${n}u; s = merged(s, S(${load})); }
  ${writeState(reduction, true, "")}`;
  const text = stateFunctions(state);
  const functions = mathFunctions(text + body);
  return {
    label: `reduce ${reduction.key} merge`,
    bindings: [
      { name: "x", type: "array<u32>" },
      { name: "out", type: "array<u32>", write: true },
    ],
    params: ["rows", "slots", "length", "x_o", "out_o", ...Object.keys(reduction.extra).map((k) => `${k}:f32`)],
    workgroup: [64],
    declarations: functions + text,
    body,
  };
}
