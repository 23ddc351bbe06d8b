// gather, scatter, indexSelect, indexAdd: moves by index along one dimension.

import { isFloat, isQuantized } from "../../../dtype.ts";
import { decodeFloats, type NarrowFloat } from "../../../dtype-convert.ts";
import type { Layout } from "../../../layout.ts";
import type { Kernel } from "../../../ops/table.ts";
import { dequantizeInto } from "../../../quant/decode.ts";
import type { View } from "../../../view.ts";
import { type Block, bytesOfView, rawOf, readFloats, readInts, readOne, spanBytes, unitBytes, Walker, writeBlock } from "./access.ts";

/** out[…, i, …] = x[…, index[…, i, …], …], see the op table. An index out of range gives 0. */
export const gather: Kernel<"gather"> = (out, { x, index }, { dim }) => {
  const bytes = unitBytes(x.dtype);
  const [to, from] = [rawOf(out, bytes) as Uint32Array, rawOf(x, bytes) as Uint32Array];
  const { shape } = index.layout;
  const size = x.layout.shape[dim]!;
  const step = x.layout.strides[dim]!;
  const base = new Walker({ shape, strides: x.layout.strides.map((s, i) => (i === dim ? 0 : s)), offset: x.layout.offset });
  const indices = new Walker(index.layout);
  const zero = (bytes === 8 ? 0n : 0) as number;
  for (let i = 0; i < base.size; i++) {
    const at = readOne(index, indices.offsetAt(i));
    to[out.layout.offset + i] = at >= 0 && at < size ? from[base.offsetAt(i) + at * step]! : zero;
  }
};

/** A contiguous view's elements as working values, floats in f32. */
function load(view: View): Block {
  const size = view.layout.shape.reduce((n, d) => n * d, 1);
  const block = isFloat(view.dtype) ? new Float32Array(size) : new Int32Array(size);
  if (block instanceof Float32Array) readFloats(view, view.layout.offset, 1, block, 0, size);
  else readInts(view, view.layout.offset, 1, block, 0, size);
  return block;
}

const store = (view: View, values: Block): void => writeBlock(view, view.layout.offset, 1, values, 0, values.length);

/** out = x with src put or added at index along `dim`, see the op table. Indices out of range are dropped. */
export const scatter: Kernel<"scatter"> = (out, { x, index, src }, { dim, add }) => {
  const result = load(x);
  const [values, indices] = [load(src), load(index)];
  const target = new Walker(targetLayout(x.layout, index.layout.shape, dim));
  const source = new Walker({ ...src.layout, shape: index.layout.shape, offset: 0 });
  const [size, step] = [x.layout.shape[dim]!, x.layout.strides[dim]!];
  for (let i = 0; i < indices.length; i++) {
    const at = indices[i]!;
    if (at < 0 || at >= size) continue;
    const to = target.offsetAt(i) + at * step;
    const v = values[source.offsetAt(i)]!;
    result[to] = add ? result[to]! + v : v;
  }
  store(out, result);
};

/** Walks the index's positions inside x's memory, without the moved dimension. */
const targetLayout = (x: Layout, shape: readonly number[], dim: number): Layout => ({
  shape,
  strides: x.strides.map((s, i) => (i === dim ? 0 : s)),
  offset: 0,
});

/** Sizes before, along and after a dimension. */
function sections(shape: readonly number[], dim: number): [number, number, number] {
  const product = (part: readonly number[]) => part.reduce((n, d) => n * d, 1);
  return [product(shape.slice(0, dim)), shape[dim]!, product(shape.slice(dim + 1))];
}

/** out[a, i, c] = x[a, index[i], c], see the op table. */
export const indexSelect: Kernel<"indexSelect"> = (out, { x, index }, { dim }) => {
  const indices = load(index);
  const [outer, size, inner] = sections(x.layout.shape, dim);
  const widen = isQuantized(x.dtype) || x.dtype !== out.dtype;
  const row = new Float32Array(widen ? inner : 0);
  for (let a = 0; a < outer; a++) {
    for (let i = 0; i < indices.length; i++) {
      const at = indices[i]!;
      const to = out.layout.offset + (a * indices.length + i) * inner;
      const inside = at >= 0 && at < size;
      const from = x.layout.offset + (a * size + at) * inner;
      if (!widen) moveSlice(out, to, x, inside ? from : -1, inner);
      else {
        if (inside) expandRow(x, from, row);
        else row.fill(0);
        writeBlock(out, to, 1, row, 0, inner);
      }
    }
  }
};

function moveSlice(out: View, to: number, x: View, from: number, count: number): void {
  const bytes = unitBytes(x.dtype);
  const target = bytesOfView(out);
  if (from < 0) target.fill(0, to * bytes, (to + count) * bytes);
  else target.set(bytesOfView(x).subarray(from * bytes, (from + count) * bytes), to * bytes);
}

/** Values of a row of an f8 or quantized view, from element `from`. */
export function expandRow(x: View, from: number, row: Float32Array): void {
  const { dtype } = x;
  if (isQuantized(dtype)) dequantizeInto(dtype, bytesOfView(x), spanBytes(dtype, from), row, 0, row.length);
  else decodeFloats(dtype as NarrowFloat, bytesOfView(x), from, row, 0, row.length);
}

/** out = x with src[a, i, c] added at [a, index[i], c] in order, see the op table. Indices out of range are dropped. */
export const indexAdd: Kernel<"indexAdd"> = (out, { x, index, src }, { dim }) => {
  const result = load(x);
  const [values, indices] = [load(src), load(index)];
  const [outer, size, inner] = sections(x.layout.shape, dim);
  for (let a = 0; a < outer; a++) {
    for (let i = 0; i < indices.length; i++) {
      const at = indices[i]!;
      if (at < 0 || at >= size) continue;
      const to = (a * size + at) * inner;
      const from = (a * indices.length + i) * inner;
      for (let c = 0; c < inner; c++) result[to + c] = result[to + c]! + values[from + c]!;
    }
  }
  store(out, result);
};
