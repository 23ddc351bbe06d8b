// Stable argsort of rows: bitonic networks over (key, index) pairs, whose order is total. Short rows sort in workgroup memory,
// longer ones by passes over scratch memory.
import { narrowLayout } from "../../../layout.ts";
import type { Kernel } from "../../../ops/table.ts";
import { sizeOf } from "../../../shape.ts";
import type { View } from "../../../view.ts";
import type { ProgramSpec } from "../pipelines.ts";
import { formatFunctions, loadElement, type StoredDType, wordType } from "../wgsl/formats.ts";
import { mathFunctions } from "../wgsl/math.ts";
import { type OffsetFunction, offsetFunction } from "../wgsl/offsets.ts";
import { type Bound, bindView, type KernelContext, scratchView } from "./context.ts";
import { isEmpty } from "./finish.ts";
import { forEachRowPiece, widthOf } from "./rows.ts";

const localSize = 512;

/** Indices that sort the last dimension; equal values keep their order. */
export function argsortKernel(ctx: KernelContext): Kernel<"argsort"> {
  return (out, { x }, { descending }) => {
    if (isEmpty(out)) return;
    forEachRowPiece(ctx, 1, [out, x], ([o, piece]) => {
      if (widthOf(x.layout) <= localSize) sortLocal(ctx, o!, piece!, descending);
      else sortByBlocks(ctx, o!, piece!, descending);
    });
  };
}

/** `key_of(row, i)`: an unsigned key in ascending order; NaN is the largest; descending order flips all bits. Padding sorts last by its index. */
function keyText(dtype: StoredDType, descending: boolean): string {
  const type = wordType(dtype);
  const load = loadElement(dtype, "x", "o");
  const key =
    type === "f32"
      ? `let v = ${load}; let zero = select(bitcast<u32>(v), 0u, v == 0.0); let u = select(zero, 0x7fffffffu, f_nan(v)); var k = select(u | 0x80000000u, ~u, (u >> 31u) == 1u);`
      : type === "i32"
        ? `var k = bitcast<u32>(${load}) ^ 0x80000000u;`
        : `var k = ${load};`;
  return `fn key_of(row: u32, i: u32) -> u32 {
  if (i >= p.width) { return 0xffffffffu; }
  let o = p.x_o + lead(row) + i;
  ${key}
  return ${descending ? "~k" : "k"};
}
fn after(ka: u32, ia: u32, kb: u32, ib: u32) -> bool {
  let pa = ia >= p.width; let pb = ib >= p.width;
  if (pa != pb) { return pa; }
  return ka > kb || (ka == kb && ia > ib);
}
`;
}

const powerOfTwo = (n: number): number => 2 ** Math.ceil(Math.log2(Math.max(2, n)));

interface Sorting {
  readonly rows: number;
  readonly width: number;
  readonly from: Bound;
  readonly to: Bound;
  readonly lead: OffsetFunction;
  readonly key: string;
}

function plan(ctx: KernelContext, out: View, x: View, descending: boolean): Sorting {
  const width = widthOf(x.layout);
  const lead = offsetFunction("lead", x.layout, 0, x.layout.shape.length - 1);
  const rows = sizeOf(x.layout.shape) / width;
  return {
    rows,
    width,
    lead,
    from: bindView(ctx, "argsort", x),
    to: bindView(ctx, "argsort", out),
    key: `${x.dtype}${descending}${lead.key}`,
  };
}

function sortLocal(ctx: KernelContext, out: View, x: View, descending: boolean): void {
  const s = plan(ctx, out, x, descending);
  const padded = powerOfTwo(s.width);
  const program = ctx.program(`argsort|${padded}|${s.key}`, () => localSpec(padded, x.dtype as StoredDType, descending, s.lead));
  const params = [s.rows, s.width, s.from.offset, s.to.offset, ...s.lead.values];
  ctx.record({ op: "argsort", program, bindings: [s.from.binding, s.to.binding], params, grid: s.rows });
}

function localSpec(padded: number, dtype: StoredDType, descending: boolean, lead: OffsetFunction): ProgramSpec {
  const half = padded / 2;
  const body = `let row = wg;
  if (row >= p.rows) { return; }
  keys[lid] = key_of(row, lid); places[lid] = lid;
  keys[lid + ${half}u] = key_of(row, lid + ${half}u); places[lid + ${half}u] = lid + ${half}u;
  workgroupBarrier();
  for (var k = 2u; k <= ${padded}u; k = k << 1u) {
    for (var j = k >> 1u; j > 0u; j = j >> 1u) {
      let a = 2u * lid - (lid & (j - 1u));
      let b = a + j;
      if (after(keys[a], places[a], keys[b], places[b]) == ((a & k) == 0u)) {
        let t = keys[a]; keys[a] = keys[b]; keys[b] = t;
        let u = places[a]; places[a] = places[b]; places[b] = u;
      }
      workgroupBarrier();
    }
  }
  if (lid < p.width) { out[p.out_o + row * p.width + lid] = places[lid]; }
  if (lid + ${half}u < p.width) { out[p.out_o + row * p.width + lid + ${half}u] = places[lid + ${half}u]; }`;
  const text = `${lead.text}\n${keyText(dtype, descending)}var<workgroup> keys: array<u32, ${padded}>;\nvar<workgroup> places: array<u32, ${padded}>;\n`;
  return sortSpec("argsort", "x", text, body, lead.params, half);
}

function sortSpec(label: string, x: string, text: string, body: string, params: readonly string[], threads: number): ProgramSpec {
  const functions = mathFunctions(text + body);
  return {
    label,
    bindings: [
      { name: x, type: "array<u32>" },
      { name: "out", type: "array<u32>", write: true },
    ],
    params: ["rows", "width", "x_o", "out_o", ...params],
    workgroup: [threads],
    declarations: formatFunctions(functions + text) + functions + text,
    body,
  };
}

/** Cuts by rows so that the pairs of a block fit a binding. */
function sortByBlocks(ctx: KernelContext, out: View, x: View, descending: boolean): void {
  const bytes = sizeOf(x.layout.shape.slice(0, -1)) * powerOfTwo(widthOf(x.layout)) * 8;
  const dim = x.layout.shape.findIndex((d, i) => d > 1 && i < x.layout.shape.length - 1);
  if (bytes * 1.2 <= ctx.traits.maxBindingBytes || dim < 0) {
    sortGlobal(ctx, out, x, descending);
    return;
  }
  const n = x.layout.shape[dim]!;
  const half = Math.ceil(n / 2);
  for (const [start, count] of [
    [0, half],
    [half, n - half],
  ] as const) {
    const cut = (v: View): View => ({ ...v, layout: narrowLayout(v.layout, dim, start, count) });
    sortByBlocks(ctx, cut(out), cut(x), descending);
  }
}

function sortGlobal(ctx: KernelContext, out: View, x: View, descending: boolean): void {
  const s = plan(ctx, out, x, descending);
  const padded = powerOfTwo(s.width);
  const pairs = scratchView(ctx, "u32", [s.rows * padded * 2], "sort pairs");
  const work = bindView(ctx, "argsort", pairs);
  const common = [s.rows, s.width];
  const total = s.rows * padded;
  const fill = ctx.program(`argsort fill|${s.key}`, () => fillSpec(x.dtype as StoredDType, descending, s.lead));
  ctx.record({
    op: "argsort",
    program: fill,
    bindings: [s.from.binding, work.binding],
    params: [...common, s.from.offset, 0, padded, ...s.lead.values],
    grid: Math.ceil(total / 64),
  });
  const step = ctx.program("argsort step", stepSpec);
  for (let k = 2; k <= padded; k *= 2) {
    for (let j = k / 2; j > 0; j /= 2) {
      ctx.record({
        op: "argsort",
        program: step,
        bindings: [work.binding],
        params: [total / 2, s.width, padded, k, j],
        grid: Math.ceil(total / 128),
      });
    }
  }
  const take = ctx.program("argsort take", takeSpec);
  ctx.record({
    op: "argsort",
    program: take,
    bindings: [work.binding, s.to.binding],
    params: [...common, 0, s.to.offset, padded],
    grid: Math.ceil((s.rows * s.width) / 64),
  });
  ctx.drop(pairs.buffer);
}

function fillSpec(dtype: StoredDType, descending: boolean, lead: OffsetFunction): ProgramSpec {
  const body = `let t = wg * 64u + lid;
  if (t >= p.rows * p.padded) { return; }
  let i = t % p.padded;
  out[2u * t] = key_of(t / p.padded, i);
  out[2u * t + 1u] = i;`;
  return sortSpec("argsort fill", "x", `${lead.text}\n${keyText(dtype, descending)}`, body, ["padded", ...lead.params], 64);
}

const stepSpec = (): ProgramSpec => ({
  label: "argsort step",
  bindings: [{ name: "pairs", type: "array<vec2<u32>>", write: true }],
  params: ["total", "width", "padded", "k", "j"],
  workgroup: [64],
  body: `let t = wg * 64u + lid;
  if (t >= p.total) { return; }
  let a = 2u * t - (t & (p.j - 1u));
  let b = a + p.j;
  let x = pairs[a]; let y = pairs[b];
  let px = x.y >= p.width; let py = y.y >= p.width;
  var later = x.x > y.x || (x.x == y.x && x.y > y.y);
  if (px != py) { later = px; }
  if (later == (((a % p.padded) & p.k) == 0u)) { pairs[a] = y; pairs[b] = x; }`,
});

const takeSpec = (): ProgramSpec =>
  sortSpec(
    "argsort take",
    "x",
    "",
    `let t = wg * 64u + lid;
  if (t >= p.rows * p.width) { return; }
  out[p.out_o + t] = x[2u * ((t / p.width) * p.padded + t % p.width) + 1u];`,
    ["padded"],
    64,
  );
