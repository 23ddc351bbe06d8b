// Shapes and their arithmetic: sizes, strides, dimension numbers, broadcasting.
import { ShapeError } from "./errors.ts";

/** Sizes of the dimensions, outermost first. */
export type Shape = readonly number[];

/** A tuple of exactly N elements when N is a literal, an array otherwise. */
export type Tuple<T, N extends number> = number extends N ? T[] : TupleOf<T, N, []>;
type TupleOf<T, N extends number, Acc extends T[]> = Acc["length"] extends N ? Acc : TupleOf<T, N, [T, ...Acc]>;

/** Number of values in a shape; 1 for a scalar. */
export const sizeOf = (shape: Shape): number => {
  let n = 1;
  for (const d of shape) n *= d;
  return n;
};

/** Row-major strides, in elements. */
export function rowMajor(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  let step = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = step;
    step *= shape[i]!;
  }
  return strides;
}

/** Whether two shapes have the same sizes. */
export function sameShape(a: Shape, b: Shape): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** As messages write it: [2, 3]. */
export const formatShape = (shape: Shape): string => `[${shape.join(", ")}]`;

/** A dimension number in 0…rank-1; negative numbers count from the end. `what` is put into words only for the error. */
export function dimIndex(op: string, dim: number, rank: number, what?: { toString(): string }): number {
  const d = dim < 0 ? dim + rank : dim;
  if (Number.isInteger(dim) && d >= 0 && d < rank) return d;
  throw new ShapeError(op, `dimension ${dim} is out of range for ${what ?? `a tensor of ${rank} dimensions`}`);
}

/** The shape two operands broadcast to, as in NumPy; `describe` names the operands for the error. */
export function broadcastShapes(op: string, a: Shape, b: Shape, describe = () => `${formatShape(a)} and ${formatShape(b)}`): number[] {
  const rank = Math.max(a.length, b.length);
  const out = new Array<number>(rank);
  for (let i = 0; i < rank; i++) {
    const da = a[i - rank + a.length] ?? 1;
    const db = b[i - rank + b.length] ?? 1;
    if (da !== db && da !== 1 && db !== 1) {
      throw new ShapeError(op, `shapes do not broadcast (dimension ${i}: ${da} and ${db}): ${describe()}`);
    }
    out[i] = da === 1 ? db : da;
  }
  return out;
}

/** Throws unless every entry is a whole number ≥ 0 and the product stays a safe integer. */
export function checkShape(op: string, shape: Shape): void {
  if (!Array.isArray(shape)) throw new ShapeError(op, `a shape is a list of sizes, such as [2, 3]: got ${String(shape)}`);
  for (const d of shape) {
    if (!Number.isInteger(d) || d < 0) throw new ShapeError(op, `a dimension must be a whole number of at least 0: ${formatShape(shape)}`);
  }
  if (!Number.isSafeInteger(sizeOf(shape))) throw new ShapeError(op, `too many values: ${formatShape(shape)}`);
}
