// Other ways to see the same values: shapes, orders, parts and windows. Nothing is copied unless a reshape forces it.
import { ShapeError } from "../errors.ts";
import { expandLayout, narrowLayout, permuteLayout, reshapeLayout, squeezeLayout, stepLayout, unsqueezeLayout } from "../layout.ts";
import { scope } from "../scope.ts";
import { checkShape, dimIndex, formatShape, rowMajor, type Shape, sizeOf } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { copyOf } from "./elementwise.ts";

/** Sizes as arguments or as one array. */
export type Sizes = readonly number[] | [readonly number[]];
/** The one list that both ways of writing give. */
export const listOf = (sizes: Sizes): readonly number[] => (Array.isArray(sizes[0]) ? sizes[0] : sizes) as readonly number[];

/** Another shape of the same values in row-major order; one -1 is inferred. Throws ShapeError for another number of values. */
export function reshape(x: Tensor, to: Sizes): Tensor {
  const wanted = listOf(to);
  const shape = inferred(wanted, x.size);
  if (wanted.filter((d) => d === -1).length > 1 || sizeOf(shape) !== x.size || !shape.every(Number.isInteger)) {
    throw new ShapeError("reshape", `cannot see ${x} (${x.size} values) as ${formatShape(wanted)}`);
  }
  checkShape("reshape", shape);
  const layout = reshapeLayout(x.layout, shape);
  if (layout) return x.viewAs(layout);
  return scope(() => copyOf(x).viewAs({ shape, strides: rowMajor(shape), offset: 0 }));
}

/** Sizes with a -1 replaced by what is left of `total`. */
function inferred(sizes: readonly number[], total: number): readonly number[] {
  if (!sizes.includes(-1)) return sizes;
  const known = sizes.reduce((a, d) => (d === -1 ? a : a * d), 1);
  return sizes.map((d) => (d === -1 ? (known === 0 ? 0 : total / known) : d));
}

/** Joins dimensions start…end into one. Throws ShapeError for dimensions in the wrong order. */
export function flatten(x: Tensor, start: number, end: number): Tensor {
  if (x.rank === 0) return x.reshape(1);
  const [s, e] = [dimIndex("flatten", start, x.rank, x), dimIndex("flatten", end, x.rank, x)];
  if (s > e) throw new ShapeError("flatten", `dimension ${start} lies after ${end}: ${x}`);
  return x.reshape([...x.shape.slice(0, s), sizeOf(x.shape.slice(s, e + 1)), ...x.shape.slice(e + 1)]);
}

/** Splits one dimension into several; one -1 is inferred. Throws ShapeError for sizes that do not multiply to it. */
export function unflatten(x: Tensor, dim: number, sizes: readonly number[]): Tensor {
  const d = dimIndex("unflatten", dim, x.rank, x);
  const filled = inferred(sizes, x.shape[d]!);
  if (sizeOf(filled) !== x.shape[d]) throw new ShapeError("unflatten", `[${sizes.join(", ")}] does not make dimension ${d} of ${x}`);
  return x.reshape([...x.shape.slice(0, d), ...filled, ...x.shape.slice(d + 1)]);
}

/** A new dimension of size 1 before `dim`. */
export const unsqueeze = (x: Tensor, dim: number): Tensor => x.viewAs(unsqueezeLayout(x.layout, dimIndex("unsqueeze", dim, x.rank + 1, x)));

/** Drops `dim` (which must be 1), or all dimensions of size 1. Throws ShapeError for a dimension that is not 1. */
export function squeeze(x: Tensor, dim: number | undefined): Tensor {
  if (dim === undefined) return x.reshape(x.shape.filter((d) => d !== 1));
  const d = dimIndex("squeeze", dim, x.rank, x);
  if (x.shape[d] !== 1) throw new ShapeError("squeeze", `dimension ${d} is not 1: ${x}`);
  return x.viewAs(squeezeLayout(x.layout, d));
}

/** All dimensions in a new order. Throws ShapeError unless every dimension is named once. */
export function permute(x: Tensor, order: readonly number[]): Tensor {
  const dims = order.map((d) => dimIndex("permute", d, x.rank, x));
  if (dims.length !== x.rank || new Set(dims).size !== x.rank)
    throw new ShapeError("permute", `[${order.join(", ")}] does not order the dimensions of ${x}`);
  return x.viewAs(permuteLayout(x.layout, dims));
}

/** Two dimensions change places. */
export function transpose(x: Tensor, a: number, b: number): Tensor {
  const [i, j] = [dimIndex("transpose", a, x.rank, x), dimIndex("transpose", b, x.rank, x)];
  const order = x.shape.map((_, d) => (d === i ? j : d === j ? i : d));
  return x.viewAs(permuteLayout(x.layout, order));
}

/** Moves one dimension to another place. */
export function movedim(x: Tensor, from: number, to: number): Tensor {
  const [f, t] = [dimIndex("movedim", from, x.rank, x), dimIndex("movedim", to, x.rank, x)];
  const rest = x.shape.map((_, d) => d).filter((d) => d !== f);
  return x.permute(...rest.toSpliced(t, 0, f));
}

/** Repeats dimensions of size 1 (and adds leading ones) without copying; -1 keeps a size. */
export function expand(x: Tensor, to: Sizes): Tensor {
  const wanted = listOf(to);
  const lead = wanted.length - x.rank;
  const shape = wanted.map((d, i) => (d === -1 && i >= lead ? x.shape[i - lead]! : d));
  return x.viewAs(expandLayout("expand", x.layout, shape, () => String(x)));
}

/** `length` entries of `dim` from `start`. Throws ShapeError for a range outside. */
export function narrow(x: Tensor, dim: number, start: number, length: number): Tensor {
  const d = dimIndex("narrow", dim, x.rank, x);
  if (!Number.isInteger(start) || !Number.isInteger(length) || start < 0 || length < 0 || start + length > x.shape[d]!) {
    throw new ShapeError("narrow", `${length} entries from ${start} do not lie in dimension ${d} of ${x}`);
  }
  return x.viewAs(narrowLayout(x.layout, d, start, length));
}

/** n equal parts along `dim`. Throws ShapeError unless it divides. */
export function chunk(x: Tensor, n: number, dim: number): Tensor[] {
  const d = x.dim(dim);
  if (!Number.isInteger(n) || n < 1 || d % n !== 0)
    throw new ShapeError("chunk", `cannot cut dimension ${dim} of ${x} into ${n} equal parts`);
  return split(x, new Array<number>(n).fill(d / n), dim);
}

/** Parts of the given sizes along `dim`, which must add up. Throws ShapeError for sizes that do not add up. */
export function split(x: Tensor, sizes: readonly number[], dim: number): Tensor[] {
  const total = sizes.reduce((a, b) => a + b, 0);
  if (total !== x.dim(dim))
    throw new ShapeError("split", `sizes [${sizes.join(", ")}] add up to ${total}, but dimension ${dim} of ${x} is ${x.dim(dim)}`);
  let start = 0;
  return sizes.map((length) => {
    const part = x.narrow(dim, start, length);
    start += length;
    return part;
  });
}

/** The n slices along `dim`, without it. Throws ShapeError for another count. */
export function unbind(x: Tensor, n: number, dim: number): Tensor[] {
  if (x.dim(dim) !== n) throw new ShapeError("unbind", `dimension ${dim} of ${x} is not ${n}`);
  return Array.from({ length: n }, (_, i) => x.narrow(dim, i, 1).squeeze(dim));
}

/** Windows of `size` every `step` along `dim`, appended as a last dimension. Throws ShapeError for a window larger than the dimension. */
export function unfold(x: Tensor, dim: number, size: number, step: number): Tensor {
  const d = dimIndex("unfold", dim, x.rank, x);
  const { shape, strides, offset } = x.layout;
  if (size > shape[d]! || size < 0 || step < 1)
    throw new ShapeError("unfold", `windows of ${size} every ${step} do not fit dimension ${d} of ${x}`);
  const count = Math.floor((shape[d]! - size) / step) + 1;
  return x.viewAs({ shape: [...shape.with(d, count), size], strides: [...strides.with(d, strides[d]! * step), strides[d]!], offset });
}

/** Reversed along the given dimensions. */
export function flip(x: Tensor, dims: readonly number[]): Tensor {
  const layout = dims.reduce((l, d) => {
    const i = dimIndex("flip", d, x.rank, x);
    return l.shape[i] === 0 ? l : stepLayout(l, i, -1);
  }, x.layout);
  return x.viewAs(layout);
}

/** The whole tensor tiled, one count per dimension. Throws ShapeError for fewer counts than dimensions. */
export function repeat(x: Tensor, counts: readonly number[]): Tensor {
  if (counts.length < x.rank) throw new ShapeError("repeat", `needs at least ${x.rank} counts, got [${counts.join(", ")}]: ${x}`);
  const inner: Shape = [...new Array<number>(counts.length - x.rank).fill(1), ...x.shape];
  return x
    .reshape(inner.flatMap((d) => [1, d]))
    .expand(counts.flatMap((n, i) => [n, inner[i]!]))
    .reshape(counts.map((n, i) => n * inner[i]!));
}

/** Each entry of `dim` n times in a row. */
export function repeatInterleave(x: Tensor, n: number, dim: number): Tensor {
  const d = dimIndex("repeatInterleave", dim, x.rank, x);
  const grown = x.unsqueeze(d + 1);
  return grown.expand(grown.shape.with(d + 1, n)).reshape(x.shape.with(d, x.shape[d]! * n));
}
