// Reading by index (gather, indexSelect) and decoding of packed tables.
import { bytesOf, isQuantized, type QuantDType } from "../../../dtype.ts";
import { narrowLayout } from "../../../layout.ts";
import { inputNode } from "../../../ops/expr.ts";
import type { Kernel } from "../../../ops/table.ts";
import { sizeOf } from "../../../shape.ts";
import type { View } from "../../../view.ts";
import { elementBytes, formatFunctions, type StoredDType } from "../wgsl/formats.ts";
import { offsetFunction } from "../wgsl/offsets.ts";
import { quantFunctions } from "../wgsl/quant.ts";
import { bindView, bytesOfView, fits, type KernelContext, scratchView, withContiguous } from "./context.ts";
import { runMap } from "./elementwise.ts";
import { isEmpty, planFinish } from "./finish.ts";
import { moveElements } from "./pointwise.ts";
import { forEachRowPiece } from "./rows.ts";

const named = (values: { params: readonly string[]; values: readonly number[] }): Record<string, number> =>
  Object.fromEntries(values.params.map((name, i) => [name, values.values[i]!]));

/** Values at indices along one dimension, as torch.gather. */
export function gatherKernel(ctx: KernelContext): Kernel<"gather"> {
  return (out, { x, index }, { dim }) => {
    if (isEmpty(out)) return;
    const { shape } = out.layout;
    const source = {
      ...x,
      layout: { ...x.layout, shape: shape.map((d, i) => (i === dim ? x.layout.shape[i]! : Math.min(d, x.layout.shape[i]!))) },
    };
    if (!fits(ctx.traits, source)) {
      withContiguous(ctx, source, (copy) => gatherPieces(ctx, out, copy, index, dim));
      return;
    }
    gatherPieces(ctx, out, source, index, dim);
  };
}

function gatherPieces(ctx: KernelContext, out: View, x: View, index: View, dim: number): void {
  const keep = dim === 0 ? out.layout.shape.length : 1;
  forEachRowPiece(ctx, keep, [out, index, x], ([o, i, piece]) => gatherPiece(ctx, o!, piece!, i!, dim));
}

function gatherPiece(ctx: KernelContext, out: View, x: View, index: View, dim: number): void {
  const { shape } = out.layout;
  const rank = shape.length;
  const at = offsetFunction("index_walk", index.layout, 0, rank);
  const others = { ...x.layout, shape, strides: x.layout.strides.map((s, i) => (i === dim ? 0 : s)) };
  const rest = offsetFunction("x_walk", others, 0, rank);
  const text = `${at.text}\n${rest.text}
fn value(i: u32) -> u32 {
  let j = u32(index_at(index_walk(i)));
  return select(0u, x_at(x_walk(i) + min(j, p.size - 1u) * p.step), j < p.size);
}`;
  const params = { size: x.layout.shape[dim]!, step: x.layout.strides[dim]!, ...named(at), ...named(rest) };
  moveElements(ctx, out, { op: "gather", key: `${at.key},${rest.key}`, inputs: { x, index }, params, text });
}

/** Whole slices at indices, as torch.index_select; also rows of quantized tables. */
export function indexSelectKernel(ctx: KernelContext): Kernel<"indexSelect"> {
  return (out, { x, index }, { dim }) => {
    if (isEmpty(out)) return;
    if (isQuantized(x.dtype) || x.dtype.startsWith("f8")) selectRows(ctx, out, x, index);
    else selectSlices(ctx, out, x, index, dim);
  };
}

/** Contiguous [a, n, c]: the slices before, of and after `dim`. */
function around(shape: readonly number[], dim: number): [number, number, number] {
  return [sizeOf(shape.slice(0, dim)), shape[dim]!, sizeOf(shape.slice(dim + 1))];
}

function selectSlices(ctx: KernelContext, out: View, x: View, index: View, dim: number): void {
  const [a, size, c] = around(x.layout.shape, dim);
  const n = index.layout.shape[0]!;
  const reshape = (v: View, middle: number): View => ({
    ...v,
    layout: { shape: [a, middle, c], strides: [middle * c, c, 1], offset: v.layout.offset },
  });
  const [target, table] = [reshape(out, n), reshape(x, size)];
  if (a > 1) {
    forEachRowPiece(ctx, 2, [target, table], ([o, piece]) => selectChunks(ctx, o!, piece!, index, n, c));
    return;
  }
  selectChunks(ctx, target, table, index, n, c);
}

/** Reads the table in ranges of rows that fit a binding; each pass fills the outputs whose rows it holds. */
function selectChunks(ctx: KernelContext, out: View, table: View, index: View, n: number, c: number): void {
  const size = table.layout.shape[1]!;
  const rowBytes = c * elementBytes[table.dtype as StoredDType];
  const rows = fits(ctx.traits, table) ? size : Math.max(1, Math.floor((ctx.traits.maxBindingBytes * 0.9 - 512) / rowBytes));
  const text = `fn value(i: u32, old: u32) -> u32 {
  let c = i % p.c; let j = (i / p.c) % p.count; let b = i / (p.c * p.count);
  let row = u32(index_at(j));
  if (row >= p.size) { return 0u; }
  if (row < p.first || row >= p.first + p.rows) { return old; }
  return x_at((b * p.rows + row - p.first) * p.c + c);
}`;
  for (let first = 0; first < Math.max(1, size); first += rows) {
    const held = Math.min(rows, size - first);
    const x = { ...table, layout: narrowLayout(table.layout, 1, first, held) };
    moveInto(ctx, out, { x, index }, { c, count: n, size, first, rows: held }, text);
  }
}

/** An output larger than a binding is filled in ranges of selected rows. */
function moveInto(ctx: KernelContext, out: View, inputs: { x: View; index: View }, params: Record<string, number>, text: string): void {
  const kernel = { op: "indexSelect", key: "keep", text };
  const [a, n] = out.layout.shape as [number, number];
  if (fits(ctx.traits, out) || a > 1) {
    moveElements(ctx, out, { ...kernel, inputs, params });
    return;
  }
  const bytes = bytesOfView(out) / n;
  const step = Math.max(4, Math.floor((ctx.traits.maxBindingBytes * 0.9 - 512) / bytes / 4) * 4);
  for (let start = 0; start < n; start += step) {
    const count = Math.min(step, n - start);
    const piece = { ...out, layout: narrowLayout(out.layout, 1, start, count) };
    const index = { ...inputs.index, layout: narrowLayout(inputs.index.layout, 0, start, count) };
    moveElements(ctx, piece, { ...kernel, inputs: { x: inputs.x, index }, params: { ...params, count } });
  }
}

/** Rows of a quantized or f8 table: the raw rows are picked as units of bytes, then decoded. */
function selectRows(ctx: KernelContext, out: View, x: View, index: View): void {
  const [rows, width] = x.layout.shape as [number, number];
  const n = index.layout.shape[0]!;
  const unit = isQuantized(x.dtype) ? 2 : 1;
  const units = bytesOf(x.dtype, width) / unit;
  const raw = scratchView(ctx, x.dtype, [n, width], "selected rows");
  const dtype = unit === 2 ? "bf16" : "u8";
  const table: View = {
    buffer: x.buffer,
    dtype,
    layout: { shape: [rows, units], strides: [units, 1], offset: bytesOf(x.dtype, x.layout.offset) / unit },
  };
  const picked: View = { buffer: raw.buffer, dtype, layout: { shape: [n, units], strides: [units, 1], offset: 0 } };
  selectSlices(ctx, picked, table, index, 0);
  ctx.kernels.dequantize(out, { x: raw }, {});
  ctx.drop(raw.buffer);
}

/** Block formats to plain floats. */
export function dequantizeKernel(ctx: KernelContext): Kernel<"dequantize"> {
  return (out, { x }) => {
    if (isEmpty(out)) return;
    if (!isQuantized(x.dtype)) {
      runMap(ctx, "dequantize", out, [x], inputNode(0, "f32"));
      return;
    }
    forEachRowPiece(ctx, 1, [out, x], ([o, piece]) => dequantizePiece(ctx, o!, piece!, x.dtype as QuantDType));
  };
}

/** Decodes contiguous blocks: element 4q of the piece is element 4q of its bytes. */
function dequantizePiece(ctx: KernelContext, out: View, x: View, dtype: QuantDType): void {
  const finish = planFinish(ctx, "dequantize", out, 4);
  const bound = bindView(ctx, "dequantize", x);
  const n = sizeOf(out.layout.shape);
  const program = ctx.program(`dequantize|${dtype}|${finish.key}`, () => {
    const text = `${quantFunctions(dtype, "x")}${finish.text}`;
    return {
      label: `dequantize ${dtype}`,
      bindings: [{ name: "x", type: "array<u32>" }, ...finish.specs],
      params: ["n", "x_o", ...finish.params],
      workgroup: [64],
      declarations: formatFunctions(text) + text,
      body: "let i = (wg * 64u + lid) * 4u; if (i >= p.n) { return; } put4(i, x_quant4(p.x_o, i));",
    };
  });
  ctx.record({
    op: "dequantize",
    program,
    bindings: [bound.binding, ...finish.bindings],
    params: [n, bound.offset, ...finish.values],
    grid: Math.ceil(n / 256),
    bytes: bytesOfView(x) + bytesOfView(out),
  });
}
