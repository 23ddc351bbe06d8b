// Tensors that do not lie in row-major order in their file: views with strides, as PyTorch and Fortran-ordered NumPy files hold them.
import type { Shape } from "../shape.ts";

/** Elements a view reaches: highest element index + 1, or 0 for an empty view. Strides must not be negative. */
export function spanOf(shape: Shape, strides: readonly number[]): number {
  let last = 0;
  for (const [i, d] of shape.entries()) {
    if (d === 0) return 0;
    last += (d - 1) * strides[i]!;
  }
  return last + 1;
}

/** Gathers a view's elements, `unitBytes` each, in row-major order from `span` into pieces of at most `chunkBytes`. */
export function* gatherStrided(
  span: Uint8Array,
  unitBytes: number,
  shape: Shape,
  strides: readonly number[],
  chunkBytes: number,
): Generator<Uint8Array, void, undefined> {
  const total = shape.reduce((a, b) => a * b, 1) * unitBytes;
  const index = new Array<number>(shape.length).fill(0);
  let from = 0;
  for (let done = 0; done < total; ) {
    const piece = new Uint8Array(Math.min(Math.max(unitBytes, chunkBytes - (chunkBytes % unitBytes)), total - done));
    for (let to = 0; to < piece.length; to += unitBytes) {
      const at = from * unitBytes;
      for (let b = 0; b < unitBytes; b++) piece[to + b] = span[at + b]!;
      from = step(index, shape, strides, from);
    }
    done += piece.length;
    yield piece;
  }
}

/** Advances a row-major index by one and returns the element it now points at. */
function step(index: number[], shape: Shape, strides: readonly number[], from: number): number {
  for (let i = shape.length - 1; i >= 0; i--) {
    from += strides[i]!;
    if (++index[i]! < shape[i]!) return from;
    from -= strides[i]! * shape[i]!;
    index[i] = 0;
  }
  return from;
}
