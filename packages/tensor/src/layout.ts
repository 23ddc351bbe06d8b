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

export function permuteLayout({ shape, strides, offset }: Layout, order: readonly number[]): Layout {
  return { shape: order.map((i) => shape[i]!), strides: order.map((i) => strides[i]!), offset };
}

/** Adds leading dimensions and repeats dimensions of size 1 with stride 0. */
export function expandLayout(op: string, layout: Layout, to: Shape, describe?: () => string): Layout {
  const { shape, strides, offset } = layout;
  if (sameShape(shape, to)) return layout;
  const out = broadcastShapes(op, shape, to, describe);
  if (out.length !== to.length || out.some((d, i) => d !== to[i])) {
    throw new ShapeError(op, `cannot expand ${describe?.() ?? formatShape(shape)} to ${formatShape(to)}`);
  }
  const lead = to.length - shape.length;
  return { shape: to, strides: to.map((d, i) => (i < lead || (shape[i - lead] === 1 && d !== 1) ? 0 : strides[i - lead]!)), offset };
}

export function unsqueezeLayout({ shape, strides, offset }: Layout, dim: number): Layout {
  const step = dim < shape.length ? strides[dim]! * shape[dim]! : 1;
  return { shape: shape.toSpliced(dim, 0, 1), strides: strides.toSpliced(dim, 0, step), offset };
}

export function squeezeLayout({ shape, strides, offset }: Layout, dim: number): Layout {
  return { shape: shape.toSpliced(dim, 1), strides: strides.toSpliced(dim, 1), offset };
}

/** The same elements under another shape without copying, or undefined when the strides do not allow it. */
export function reshapeLayout(layout: Layout, to: Shape): Layout | undefined {
  const { offset } = layout;
  if (sizeOf(to) === 0 || isContiguous(layout)) return { shape: to, strides: rowMajor(to), offset };
  const dims = layout.shape.map((d, i) => [d, layout.strides[i]!] as const).filter(([d]) => d !== 1);
  const strides = new Array<number>(to.length).fill(0);
  let j = to.length - 1;
  for (let i = dims.length - 1; i >= 0; ) {
    // One group of old dimensions that run into each other evenly must cover whole new dimensions.
    let [count, step] = dims[i]!;
    const unit = step;
    for (i--; i >= 0 && dims[i]![1] === dims[i + 1]![0] * dims[i + 1]![1]; i--) {
      count *= dims[i]![0];
      step = dims[i]![1];
    }
    let filled = 1;
    while (j >= 0 && filled < count) {
      strides[j] = unit * filled;
      filled *= to[j]!;
      j--;
    }
    if (filled !== count) return undefined;
  }
  return { shape: to, strides, offset };
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
