// NumPy-style indexing into views.
import { ShapeError } from "../errors.ts";
import { narrowLayout, squeezeLayout, stepLayout, unsqueezeLayout } from "../layout.ts";
import type { Tensor } from "../tensor.ts";

/** A position, a [start, end, step?] slice (negatives count from the end, undefined is open), ":" all, "..." the rest, null a new dimension. */
export type IndexSpec = number | readonly [start?: number | undefined, end?: number | undefined, step?: number] | ":" | "..." | null;

const specsInWords =
  'an index is a number, [start, end, step?], ":", "..." or null; indexSelect and gather take tensors of positions, where and maskedFill masks';

/** A slice whose bounds are whole numbers or open. */
const isSlice = (spec: unknown): spec is readonly [start?: number, end?: number, step?: number] =>
  Array.isArray(spec) && spec.length <= 3 && spec.slice(0, 2).every((v) => v === undefined || Number.isInteger(v));

/** One spec per dimension, with "..." written out. */
function spelledOut(x: Tensor, specs: readonly IndexSpec[]): IndexSpec[] {
  const used = specs.filter((s) => s !== null && s !== "...").length;
  const dots = specs.filter((s) => s === "...").length;
  if (dots > 1 || used > x.rank) throw new ShapeError("index", `${used} indices for ${x}`);
  const rest = new Array<IndexSpec>(x.rank - used).fill(":");
  return dots === 0 ? [...specs, ...rest] : specs.flatMap((s) => (s === "..." ? rest : [s]));
}

/** The view that `specs` select; nothing is copied. Throws ShapeError for an index that is out of range. */
export function applyIndex(x: Tensor, specs: readonly IndexSpec[]): Tensor {
  let layout = x.layout;
  let dim = 0;
  for (const spec of spelledOut(x, specs)) {
    if (spec === null) layout = unsqueezeLayout(layout, dim++);
    else if (typeof spec === "number") {
      const n = layout.shape[dim]!;
      const i = spec < 0 ? spec + n : spec;
      if (!Number.isInteger(spec) || i < 0 || i >= n) throw new ShapeError("index", `${spec} is out of range for dimension ${dim} of ${x}`);
      layout = squeezeLayout(narrowLayout(layout, dim, i, 1), dim);
    } else if (spec === ":" || spec === "...") dim++;
    else {
      if (!isSlice(spec)) throw new ShapeError("index", `${String(spec)} is no index of ${x}; ${specsInWords}`);
      const [from, to, step = 1] = spec;
      const n = layout.shape[dim]!;
      const clip = (v: number) => Math.min(n, Math.max(0, v < 0 ? v + n : v));
      const start = clip(from ?? 0);
      if (!Number.isInteger(step) || step < 1)
        throw new ShapeError("index", `a step is at least 1, got ${step}; use flip() to reverse: ${x}`);
      layout = narrowLayout(layout, dim, start, Math.max(0, clip(to ?? n) - start));
      if (step !== 1) layout = stepLayout(layout, dim, step);
      dim++;
    }
  }
  return x.viewAs(layout);
}
