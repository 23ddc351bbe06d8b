// Joining, padding and rewriting parts: everything that is a few copies into one new tensor.
import { promote } from "../dtype.ts";
import { ShapeError } from "../errors.ts";
import { contiguousLayout, narrowLayout } from "../layout.ts";
import { dimIndex, sameShape } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { checkDevices } from "./elementwise.ts";

/** Copies x into the part of `out` that starts at `starts`. */
function place(out: Tensor, x: Tensor, starts: readonly number[]): void {
  if (x.size === 0) return;
  const layout = starts.reduce((l, start, dim) => narrowLayout(l, dim, start, x.shape[dim]!), contiguousLayout(out.shape));
  out.device.backend.kernels.copy({ buffer: out.view.buffer, dtype: out.dtype, layout }, { x: x.view }, {});
}

/**
 * Joins along an existing dimension; all other dimensions are equal. Mixed dtypes are promoted.
 * Throws ShapeError for shapes that do not fit.
 */
export function cat(tensors: readonly Tensor[], dim = 0): Tensor {
  const first = tensors[0];
  if (!first) throw new ShapeError("cat", "needs at least one tensor");
  checkDevices("cat", tensors);
  const d = dimIndex("cat", dim, first.rank, first);
  const dtype = tensors.reduce((p, t) => promote(p, t.dtype), first.dtype);
  for (const t of tensors) {
    const fits = t.rank === first.rank && t.shape.every((n, i) => i === d || n === first.shape[i]);
    if (!fits) throw new ShapeError("cat", `shapes differ outside dimension ${d}: ${tensors.join(", ")}`);
  }
  const out = first.device.empty(
    first.shape.map((n, i) => (i === d ? tensors.reduce((s, t) => s + t.shape[d]!, 0) : n)),
    dtype,
    "cat",
  );
  let at = 0;
  for (const t of tensors) {
    place(
      out,
      t.dtype === dtype ? t : t.to(dtype),
      out.shape.map((_, i) => (i === d ? at : 0)),
    );
    at += t.shape[d]!;
  }
  return out;
}

/** Joins equal shapes along a new dimension. Throws ShapeError for unequal shapes. */
export function stack(tensors: readonly Tensor[], dim = 0): Tensor {
  const first = tensors[0];
  if (!first) throw new ShapeError("stack", "needs at least one tensor");
  if (tensors.some((t) => !sameShape(t.shape, first.shape))) throw new ShapeError("stack", `shapes differ: ${tensors.join(", ")}`);
  const d = dimIndex("stack", dim, first.rank + 1, first);
  return cat(
    tensors.map((t) => t.unsqueeze(d)),
    d,
  );
}

/**
 * Coordinates of a grid from one vector per axis: as many tensors as vectors, each of the grid's shape. "ij": dimension i follows vector i;
 * "xy" swaps the first two dimensions, as torch.meshgrid. Throws ShapeError for other than vectors.
 */
export function meshgrid(vectors: readonly Tensor[], indexing: "ij" | "xy" = "ij"): Tensor[] {
  const first = vectors[0];
  if (!first) throw new ShapeError("meshgrid", "needs at least one vector");
  checkDevices("meshgrid", vectors);
  const wrong = vectors.find((v) => v.rank > 1 || v.dtype !== first.dtype);
  if (wrong) throw new ShapeError("meshgrid", `takes vectors of one dtype: ${vectors.join(", ")}`);
  const shape = vectors.map((v) => v.size);
  const swap = indexing === "xy" && vectors.length > 1;
  return vectors.map((v, i) => {
    const grid = v.reshape(shape.map((n, d) => (d === i ? n : 1))).expand(shape);
    return swap ? grid.transpose(0, 1) : grid;
  });
}

export type PadMode = "constant" | "reflect" | "replicate";
/** What padding is filled with. */
export interface PadOptions {
  /** What is put there; "constant" by default. */
  readonly mode?: PadMode;
  /** For "constant"; 0 by default. */
  readonly value?: number;
}

/**
 * Pads as torch.nn.functional.pad: `amounts` are [before, after] pairs from the last dimension backwards.
 * reflect and replicate take their values from the edge of x; constant writes `value`. Throws ShapeError for amounts that do not fit.
 */
export function pad(x: Tensor, amounts: readonly number[], { mode = "constant", value = 0 }: PadOptions = {}): Tensor {
  if (amounts.length % 2 !== 0 || amounts.length / 2 > x.rank || amounts.some((a) => !Number.isInteger(a))) {
    throw new ShapeError(
      "pad",
      `amounts are whole [before, after] pairs for at most ${x.rank} dimensions, got [${amounts.join(", ")}]: ${x}`,
    );
  }
  const pairs = Array.from({ length: amounts.length / 2 }, (_, i) => ({
    dim: x.rank - 1 - i,
    before: amounts[2 * i]!,
    after: amounts[2 * i + 1]!,
  }));
  const cropped = pairs.reduce((t, { dim, before, after }) => crop(t, dim, before, after), x);
  const grow = pairs.map((p) => ({ ...p, before: Math.max(0, p.before), after: Math.max(0, p.after) }));
  if (mode !== "constant") return grow.reduce((t, { dim, before, after }) => padFromEdge(t, dim, before, after, mode), cropped);
  const shape = cropped.shape.map((n, dim) => grow.filter((g) => g.dim === dim).reduce((s, g) => s + g.before + g.after, n));
  const out = x.device.full(shape, value, x.dtype as "f32");
  place(
    out,
    cropped,
    shape.map((_, dim) => grow.find((g) => g.dim === dim)?.before ?? 0),
  );
  return out;
}

/** Negative amounts cut. */
function crop(x: Tensor, dim: number, before: number, after: number): Tensor {
  const start = Math.max(0, -before);
  const length = x.dim(dim) - start - Math.max(0, -after);
  if (length < 0) throw new ShapeError("pad", `cuts more than dimension ${dim} has: ${x}`);
  return length === x.dim(dim) ? x : x.narrow(dim, start, length);
}

function padFromEdge(x: Tensor, dim: number, before: number, after: number, mode: "reflect" | "replicate"): Tensor {
  const n = x.dim(dim);
  if (n === 0 || (mode === "reflect" && Math.max(before, after) >= n))
    throw new ShapeError("pad", `${mode} of [${before}, ${after}] needs a larger dimension ${dim}: ${x}`);
  const from = (i: number) => (mode === "replicate" ? Math.min(n - 1, Math.max(0, i)) : i < 0 ? -i : i >= n ? 2 * (n - 1) - i : i);
  const index = Int32Array.from({ length: n + before + after }, (_, i) => from(i - before));
  return x.indexSelect(dim, x.device.tensor(index));
}

/** Shifts cyclically by `shift` along `dim`. */
export function roll(x: Tensor, shift: number, dim: number): Tensor {
  const d = dimIndex("roll", dim, x.rank, x);
  const n = x.dim(d);
  const s = n === 0 ? 0 : ((shift % n) + n) % n;
  return s === 0 ? x.copy() : cat([x.narrow(d, n - s, s), x.narrow(d, 0, n - s)], d);
}

/** A copy of x whose part starting at `starts` (one per dimension) is replaced by src. Throws ShapeError for a part that does not fit. */
export function sliceAssign(x: Tensor, starts: readonly number[], src: Tensor): Tensor {
  checkDevices("sliceAssign", [x, src]);
  const inside =
    starts.length === x.rank && src.rank === x.rank && src.shape.every((n, i) => starts[i]! >= 0 && starts[i]! + n <= x.shape[i]!);
  if (!inside) throw new ShapeError("sliceAssign", `src ${src} at [${starts.join(", ")}] does not lie inside ${x}`);
  const out = x.copy();
  place(out, src.dtype === x.dtype ? src : src.to(x.dtype), starts);
  return out;
}

/** Keeps the entries on one side of a diagonal of the last two dimensions and zeroes the others. Throws ShapeError below two dimensions. */
export function triangle(x: Tensor, diagonal: number, lower: boolean): Tensor {
  if (x.rank < 2) throw new ShapeError(lower ? "tril" : "triu", `needs at least 2 dimensions: ${x}`);
  const rows = x.device.arange(0, x.dim(-2), 1, "i32").unsqueeze(1);
  const columns = x.device.arange(0, x.dim(-1), 1, "i32").sub(diagonal);
  return (lower ? columns.le(rows) : columns.ge(rows)).where(x, 0);
}
