// How a view walks its storage: shape, strides and offset in elements. Pure functions from layout to layout; nothing is copied.
import { ShapeError } from "./errors.ts";
import { broadcastShapes, formatShape, rowMajor, type Shape, sameShape, sizeOf } from "./shape.ts";

/** How a view's elements lie in their buffer. */
export interface Layout {
  /** Sizes of the dimensions. */
  readonly shape: Shape;
  /** In elements; 0 for a broadcast dimension, negative for a flipped one. */
  readonly strides: readonly number[];
  /** Of the first element, in elements. */
  readonly offset: number;
}

/** Row-major without gaps, from the start of the memory. */
export const contiguousLayout = (shape: Shape): Layout => ({ shape, strides: rowMajor(shape), offset: 0 });

/** True if the elements lie in row-major order without gaps (any offset). */
export function isContiguous({ shape, strides }: Layout): boolean {
  let step = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    if (shape[i] === 0) return true;
    if (shape[i] !== 1 && strides[i] !== step) return false;
    step *= shape[i]!;
  }
  return true;
}

/** `length` entries of `dim` from `start`, which lie inside. */
export function narrowLayout({ shape, strides, offset }: Layout, dim: number, start: number, length: number): Layout {
  return { shape: shape.map((d, i) => (i === dim ? length : d)), strides, offset: offset + start * strides[dim]! };
}

/** Every `step`-th index of `dim`; a negative step walks backwards from the end. */
export function stepLayout({ shape, strides, offset }: Layout, dim: number, step: number): Layout {
  const length = Math.ceil(shape[dim]! / Math.abs(step));
  return {
    shape: shape.map((d, i) => (i === dim ? length : d)),
    strides: strides.map((s, i) => (i === dim ? s * step : s)),
    offset: step < 0 ? offset + (shape[dim]! - 1) * strides[dim]! : offset,
  };
}

/** The dimensions in another order: dimension i is `order[i]` of before. */
export function permuteLayout({ shape, strides, offset }: Layout, order: readonly number[]): Layout {
  return { shape: order.map((i) => shape[i]!), strides: order.map((i) => strides[i]!), offset };
}

/** Adds leading dimensions and repeats dimensions of size 1 with stride 0. Throws ShapeError when the shapes do not broadcast. */
export function expandLayout(op: string, layout: Layout, to: Shape, describe?: () => string): Layout {
  const { shape, strides, offset } = layout;
  if (sameShape(shape, to)) return layout;
  const lead = to.length - shape.length;
  const expanded = new Array<number>(to.length).fill(0);
  let fits = lead >= 0;
  for (let i = 0; i < shape.length && fits; i++) {
    const d = to[i + lead]!;
    fits = shape[i] === d || shape[i] === 1;
    if (shape[i] === d) expanded[i + lead] = strides[i]!;
  }
  if (fits) return { shape: to, strides: expanded, offset };
  broadcastShapes(op, shape, to, describe);
  throw new ShapeError(op, `cannot expand ${describe?.() ?? formatShape(shape)} to ${formatShape(to)}`);
}

/** A new dimension of size 1 before `dim`. */
export function unsqueezeLayout({ shape, strides, offset }: Layout, dim: number): Layout {
  const step = dim < shape.length ? strides[dim]! * shape[dim]! : 1;
  return { shape: shape.toSpliced(dim, 0, 1), strides: strides.toSpliced(dim, 0, step), offset };
}

/** The layout without `dim`, whose size is 1. */
export function squeezeLayout({ shape, strides, offset }: Layout, dim: number): Layout {
  return { shape: shape.toSpliced(dim, 1), strides: strides.toSpliced(dim, 1), offset };
}

/** The same elements under another shape without copying, or undefined when the strides do not allow it. */
export function reshapeLayout(layout: Layout, to: Shape): Layout | undefined {
  const { shape, strides, offset } = layout;
  if (sameShape(shape, to)) return layout;
  if (sizeOf(to) === 0 || isContiguous(layout)) return { shape: to, strides: rowMajor(to), offset };
  const steps = new Array<number>(to.length).fill(0);
  let j = to.length - 1;
  for (let i = nextWalked(shape, shape.length - 1); i >= 0; ) {
    // One group of old dimensions that run into each other evenly must cover whole new dimensions.
    const unit = strides[i]!;
    let [count, end] = [shape[i]!, unit * shape[i]!];
    for (i = nextWalked(shape, i - 1); i >= 0 && strides[i] === end; i = nextWalked(shape, i - 1)) {
      count *= shape[i]!;
      end *= shape[i]!;
    }
    let filled = 1;
    for (; j >= 0 && filled < count; j--) {
      steps[j] = unit * filled;
      filled *= to[j]!;
    }
    if (filled !== count) return undefined;
  }
  return { shape: to, strides: steps, offset };
}

/** The last dimension up to `i` with more than one entry, or -1. */
function nextWalked(shape: Shape, i: number): number {
  let at = i;
  while (at >= 0 && shape[at] === 1) at--;
  return at;
}

/** Drops dimensions of size 1 and joins neighbours that walk evenly in every layout: fewer, longer loops for kernels. */
export function collapse(layouts: readonly Layout[]): { shape: number[]; strides: number[][] } {
  const first = layouts[0]!;
  const shape: number[] = [];
  const strides: number[][] = layouts.map(() => []);
  for (let i = 0; i < first.shape.length; i++) {
    const d = first.shape[i]!;
    if (d === 1) continue;
    const k = shape.length - 1;
    if (k >= 0 && layouts.every((l, n) => strides[n]![k] === l.strides[i]! * d)) {
      shape[k]! *= d;
      layouts.forEach((l, n) => void (strides[n]![k] = l.strides[i]!));
    } else {
      shape.push(d);
      layouts.forEach((l, n) => void strides[n]!.push(l.strides[i]!));
    }
  }
  return { shape, strides };
}
