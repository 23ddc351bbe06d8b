// Writing by index: scatter and indexAdd. Each output element finds its own sources, in index order and without atomics, so results never
// vary. Up to 64 indices are scanned; more are sorted first (stable), and each output looks up its run: every source is read once.
import { isFloat } from "../../../dtype.ts";
import { contiguousLayout, isContiguous, narrowLayout, permuteLayout } from "../../../layout.ts";
import type { Kernel } from "../../../ops/table.ts";
import { sizeOf } from "../../../shape.ts";
import type { View } from "../../../view.ts";
import { elementBytes, type StoredDType } from "../wgsl/formats.ts";
import { type OffsetFunction, offsetFunction } from "../wgsl/offsets.ts";
import { fits, type KernelContext, scratchView, withContiguous } from "./context.ts";
import { isEmpty, withFloatOutput } from "./finish.ts";
import { bitsOf, computePoints, flat, moveElements } from "./pointwise.ts";

const scanLimit = 64;

/** A view's sizes before, of and after `dim`. */
const around = (shape: readonly number[], dim: number): [number, number, number] => [
  sizeOf(shape.slice(0, dim)),
  shape[dim]!,
  sizeOf(shape.slice(dim + 1)),
];

const named = (values: { params: readonly string[]; values: readonly number[] }): Record<string, number> =>
  Object.fromEntries(values.params.map((name, i) => [name, values.values[i]!]));

/** Values to indices along one dimension, as torch.Tensor.scatter and scatter_add; sums in a fixed order. */
export function scatterKernel(ctx: KernelContext): Kernel<"scatter"> {
  return (target, inputs, { dim, add }) => {
    if (isEmpty(target)) return;
    inPositions(ctx, { out: target, ...inputs }, dim, dim, add, (part) => scatterPart(ctx, part, dim, add));
  };
}

function scatterPart(ctx: KernelContext, { out, x, index, src }: Part, dim: number, add: boolean): void {
  const [, size, c] = around(out.layout.shape, dim);
  const count = index.layout.shape[dim]!;
  const walk = lineWalk("index_walk", index.layout.strides, out.layout.shape, dim);
  const order = count > scanLimit ? sortedLines(ctx, index, dim) : undefined;
  const orderWalk = order && lineWalk("order_walk", order.strides, out.layout.shape, dim);
  const limits = out.layout.shape
    .map((d, i) => (i === dim || index.layout.shape[i] === d ? "" : bound(out.layout.shape, i, index.layout.shape[i]!)))
    .join("");
  const text = `${walk.text}${orderWalk ? `\n${orderWalk.text}` : ""}
fn value(piece: u32) -> VALUE {
  var s = x_at(piece);
  let i = p.first + piece;
  ${limits}
  let j = (i / p.c) % p.size;
  let base = index_walk(i);
  ${orderWalk ? "let line = order_walk(i);" : ""}
  ${visitMatches(index, orderWalk !== undefined, "base + k * p.step", `let at = base + k * p.step; s ${add ? "+" : ""}= src_at(at);`)}
  return s;
}`;
  const step = sizeOf(index.layout.shape.slice(dim + 1));
  const params = { size, c, count, step, ...named(walk), ...(orderWalk ? named(orderWalk) : {}) };
  const inputs = { x, index, src, ...(order ? { order: order.view } : {}) };
  scatterInto(ctx, "scatter", out, inputs, { key: `${add}${walk.key}${orderWalk?.key}${limits}`, params, text, add });
  if (order) ctx.drop(order.view.buffer);
}

/** Slices added at indices, as torch.Tensor.index_add; sums in a fixed order. */
export function indexAddKernel(ctx: KernelContext): Kernel<"indexAdd"> {
  return (target, inputs, { dim }) => {
    if (isEmpty(target)) return;
    inPositions(ctx, { out: target, ...inputs }, dim, 0, true, (part) => indexAddPart(ctx, part, dim));
  };
}

function indexAddPart(ctx: KernelContext, { out, x, index, src }: Part, dim: number): void {
  const [, size, c] = around(out.layout.shape, dim);
  const count = index.layout.shape[0]!;
  const order = count > scanLimit ? sortedLines(ctx, index, 0) : undefined;
  const text = `fn value(piece: u32) -> VALUE {
  var s = x_at(piece);
  let i = p.first + piece;
  let inner = i % p.c; let j = (i / p.c) % p.size; let outer = i / (p.c * p.size);
  ${order ? "let line = 0u;" : ""}
  ${visitMatches(index, order !== undefined, "k", "s += src_at((outer * p.count + k) * p.c + inner);")}
  return s;
}`;
  const inputs = { x, index, src, ...(order ? { order: order.view } : {}) };
  scatterInto(ctx, "indexAdd", out, inputs, { key: `${order !== undefined}`, params: { size, c, count }, text, add: true });
  if (order) ctx.drop(order.view.buffer);
}

interface Part {
  readonly out: View;
  readonly x: View;
  readonly index: View;
  readonly src: View;
}

/** Halves the positions of an index or source that exceeds a binding; the later half works on the result of the earlier one, kept in f32. */
function inPositions(ctx: KernelContext, part: Part, dim: number, indexDim: number, add: boolean, run: (part: Part) => void): void {
  const { out, index, src } = part;
  const n = src.layout.shape[dim]!;
  if (n === 1 || (fits(ctx.traits, index) && fits(ctx.traits, src))) {
    run(part);
    return;
  }
  const half = Math.ceil(n / 8) * 4 < n ? Math.ceil(n / 8) * 4 : 1;
  const sums = add && isFloat(out.dtype) ? "f32" : out.dtype;
  const between = scratchView(ctx, sums, out.layout.shape, "scatter, first half");
  for (const [target, x, start, count] of [
    [between, part.x, 0, half],
    [out, between, half, n - half],
  ] as const) {
    const cut = (v: View, d: number, use: (v: View) => void): void => {
      const piece = { ...v, layout: narrowLayout(v.layout, d, start, count) };
      if (isContiguous(piece.layout)) use(piece);
      else withContiguous(ctx, piece, use);
    };
    cut(index, indexDim, (i) => cut(src, dim, (s) => inPositions(ctx, { out: target, x, index: i, src: s }, dim, indexDim, add, run)));
  }
  ctx.drop(between.buffer);
}

/** Offset of the line (all coordinates but `dim`) that an output element belongs to, in a tensor of the index's shape. */
function lineWalk(name: string, strides: readonly number[], out: readonly number[], dim: number): OffsetFunction {
  return offsetFunction(name, { shape: out, strides: strides.map((s, i) => (i === dim ? 0 : s)), offset: 0 }, 0, out.length);
}

/** The stable order of every line of the index along `dim`, and its strides as a tensor of the index's shape. */
function sortedLines(ctx: KernelContext, index: View, dim: number): { view: ReturnType<typeof scratchView>; strides: number[] } {
  const rank = index.layout.shape.length;
  const axes = [...Array.from({ length: rank }, (_, i) => i).filter((i) => i !== dim), dim];
  const lines = { ...index, layout: permuteLayout(index.layout, axes) };
  const shape = lines.layout.shape;
  const rows = dim === rank - 1 ? lines : scratchView(ctx, index.dtype, shape, "index lines");
  if (rows !== lines) ctx.kernels.copy(rows, { x: lines }, {});
  const view = scratchView(ctx, "i32", shape, "index order");
  ctx.kernels.argsort(view, { x: rows }, { descending: false });
  if (rows !== lines) ctx.drop((rows as ReturnType<typeof scratchView>).buffer);
  const strides: number[] = [];
  axes.forEach((axis, i) => {
    strides[axis] = contiguousLayout(shape).strides[i]!;
  });
  return { view, strides };
}

/** Statements that run `step` for every k, ascending, whose index (at element `at`) is j. */
function visitMatches(index: View, sorted: boolean, at: string, step: string): string {
  const type = index.dtype === "i32" ? "i32" : "u32";
  if (!sorted) return `for (var k = 0u; k < p.count; k++) { if (u32(index_at(${at})) == j) { ${step} } }`;
  const place = (n: string): string => `let k = u32(order_at(line + ${n})); let found = index_at(${at});`;
  return `var low = 0u; var high = p.count;
  while (low < high) { let mid = (low + high) / 2u; ${place("mid")} if (found < ${type}(j)) { low = mid + 1u; } else { high = mid; } }
  for (; low < p.count; low++) { ${place("low")} if (found != ${type}(j)) { break; } ${step} }`;
}

/** A statement that returns x unchanged where coordinate d is beyond the index's extent. */
function bound(shape: readonly number[], d: number, limit: number): string {
  return `if ((i / ${sizeOf(shape.slice(d + 1))}u) % ${shape[d]}u >= ${limit}u) { return s; }\n  `;
}

interface ScatterText {
  readonly key: string;
  readonly params: Record<string, number>;
  readonly text: string;
  readonly add: boolean;
}

/** Floats that add are summed in f32; integers and replacements travel as bits. */
function scatterInto(
  ctx: KernelContext,
  op: string,
  out: View,
  inputs: Record<"x" | "index" | "src", View> & { order?: View },
  { key, params, text, add }: ScatterText,
): void {
  const float = ["f32", "f16", "bf16"].includes(out.dtype);
  if (add && float) {
    withFloatOutput(ctx, op, out, (target) => {
      inRanges(ctx, target, inputs.x, (o, x, first) => {
        const kernel = { op, key, inputs: { ...inputs, x }, params: { ...params, first }, text: text.replace("VALUE", "f32") };
        computePoints(ctx, o, kernel, {});
      });
    });
    return;
  }
  const bits = (v: View): View => ({
    ...v,
    dtype: ({ u8: "u8", u16: "bf16", u32: "u32" } as const)[bitsOf(v.dtype as StoredDType) as "u8" | "u16" | "u32"],
  });
  const half = elementBytes[out.dtype as StoredDType] === 2;
  const loads = half
    ? "fn src_bits(i: u32) -> u32 { return (bitcast<u32>(src_at(i)) >> 16u) & 0xffffu; }"
    : "fn src_bits(i: u32) -> u32 { return src_at(i); }";
  const raw = `${loads}\n${text.replace("VALUE", "u32").replace("= src_at(", "= src_bits(")}`;
  inRanges(ctx, out, bits(inputs.x), (o, x, first) => {
    moveElements(ctx, o, {
      op,
      key: `${key}bits`,
      inputs: { ...inputs, x, src: bits(inputs.src) },
      params: { ...params, first },
      text: raw,
    });
  });
}

/** Calls `run` for flat ranges of out and x, cut in halves until each fits a binding, with the index of their first element. */
function inRanges(ctx: KernelContext, out: View, x: View, run: (out: View, x: View, first: number) => void): void {
  const n = sizeOf(out.layout.shape);
  const cut = (first: number, count: number): void => {
    const [o, source] = [out, x].map((v) => ({ ...v, layout: narrowLayout(flat(v).layout, 0, first, count) })) as [View, View];
    if (count <= 8 || (fits(ctx.traits, o) && fits(ctx.traits, source))) {
      run(o, source, first);
      return;
    }
    const half = Math.ceil(count / 8) * 4;
    cut(first, half);
    cut(first + half, count - half);
  };
  cut(0, n);
}
