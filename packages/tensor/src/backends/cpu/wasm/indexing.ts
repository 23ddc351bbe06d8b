// gather, scatter and indexAdd on generated code. Sums of 16-bit floats gather in f32.
import { dtypeInfo, isQuantized } from "../../../dtype.ts";
import { collapse } from "../../../layout.ts";
import { inputNode } from "../../../ops/expr.ts";
import type { OpTable } from "../../../ops/table.ts";
import { sizeOf } from "../../../shape.ts";
import type { View } from "../../../view.ts";
import { Walker } from "../kernels/access.ts";
import { copy } from "../kernels/movement.ts";
import type { Arena } from "./arena.ts";
import { stretch } from "./blocking.ts";
import type { KernelName } from "./emitters.ts";
import type { WasmEngine } from "./engine.ts";
import { gatherArgs, type MovedBytes, scatterArgs } from "./index-kernel.ts";
import { fastMap } from "./map.ts";
import { addressOf, commonArena, elementBytes, placesOf, rowGrid, rowParts } from "./plan.ts";
import { floatKind } from "./row-function.ts";
import { withTemporary } from "./temporary.ts";

const gatherPlace = placesOf(gatherArgs);
const scatterPlace = placesOf(scatterArgs);
/** Fewest elements of a task, and from which waking other threads pays. */
const [leastElements, threadedElements] = [8192, 65_536];
/** Fewest columns of a task. */
const leastColumns = 64;

/** 2 or 4 where elements of the view can be moved as they are. */
export function movedBytes(view: View): MovedBytes | undefined {
  const bytes = isQuantized(view.dtype) ? 0 : dtypeInfo[view.dtype].blockBytes;
  return bytes === 2 || bytes === 4 ? bytes : undefined;
}

/** Values of x by index; false when the operands are not covered. */
export function fastGather(engine: WasmEngine, out: View, { x, index }: OpTable["gather"]["in"], dim: number): boolean {
  const arena = commonArena([out, x, index]);
  const bytes = movedBytes(x);
  if (!arena || !bytes || index.layout.shape.length === 0 || x.layout.shape[dim] === 0) return false;
  const still = { ...x.layout, shape: index.layout.shape, strides: x.layout.strides.map((s, i) => (i === dim ? 0 : s)) };
  for (const part of rowParts([out, { ...x, layout: still }, index])) {
    const { batch, rows, columns, strides } = rowGrid(
      part.map((v) => v.layout),
      2,
    )!;
    const [from, place] = [strides[1]!, strides[2]!];
    const rowsPerTask = Math.max(1, Math.floor(stretch(batch * rows * columns, leastElements) / columns));
    const w = engine.blankArgs();
    w[gatherPlace.x] = addressOf(part[1]!);
    w[gatherPlace.xBatch] = from[0] * bytes;
    w[gatherPlace.xRow] = from[1] * bytes;
    w[gatherPlace.xColumn] = from[2] * bytes;
    w[gatherPlace.index] = addressOf(part[2]!);
    w[gatherPlace.indexBatch] = 4 * place[0];
    w[gatherPlace.indexRow] = 4 * place[1];
    w[gatherPlace.indexColumn] = 4 * place[2];
    w[gatherPlace.out] = addressOf(part[0]!);
    w[gatherPlace.size] = x.layout.shape[dim]!;
    w[gatherPlace.step] = x.layout.strides[dim]! * bytes;
    w[gatherPlace.rows] = batch * rows;
    w[gatherPlace.rowsPerBatch] = rows;
    w[gatherPlace.columns] = columns;
    w[gatherPlace.rowsPerTask] = rowsPerTask;
    const threaded = engine.shares(batch * rows * columns, threadedElements);
    engine.run(arena, `gather.${bytes}`, w, Math.ceil((batch * rows) / rowsPerTask), threaded);
  }
  return true;
}

interface Scatter {
  readonly kernel: KernelName;
  readonly out: View;
  /** Views of one shape, index first: lines along `dim`. */
  readonly index: View;
  readonly x: View;
  readonly dim: number;
}

/** Runs a scatter over lines along `dim`: dimensions before it are batches, those behind it columns. */
function runLines(engine: WasmEngine, arena: Arena, { kernel, out, index, x, dim }: Scatter): boolean {
  const bytes = elementBytes(x);
  const { shape } = index.layout;
  const part = (v: View, from: number, to?: number) => ({
    shape: shape.slice(from, to),
    strides: v.layout.strides.slice(from, to),
    offset: 0,
  });
  const views = [out, index, x];
  const behind = collapse(views.map((v) => part(v, dim + 1)));
  const before = collapse(views.map((v) => part(v, 0, dim)));
  const last = before.shape.length - 1;
  const [toColumn, indexColumn, xColumn] = behind.strides.map((s) => s.at(-1) ?? 0) as [number, number, number];
  const columns = behind.shape[0] ?? 1;
  if (behind.shape.length > 1 || (columns > 1 && (toColumn !== 1 || xColumn !== 1))) return false;
  const batches = before.shape[last] ?? 1;
  const count = shape[dim]!;
  const columnsPerTask = Math.max(leastColumns, Math.ceil(columns / (2 * engine.threads)));
  const parts = Math.ceil(columns / columnsPerTask);
  const batchesPerTask = Math.max(1, Math.floor(leastElements / (count * Math.min(columns, columnsPerTask))));
  const starts = before.strides.map((steps) => new Walker({ shape: before.shape.slice(0, -1), strides: steps.slice(0, -1), offset: 0 }));
  const perBatch = before.strides.map((steps) => steps[last] ?? 0) as [number, number, number];
  for (let i = 0; i < starts[0]!.size; i++) {
    const w = engine.blankArgs();
    w[scatterPlace.out] = addressOf(out) + bytes * starts[0]!.offsetAt(i);
    w[scatterPlace.outBatch] = bytes * perBatch[0];
    w[scatterPlace.step] = bytes * out.layout.strides[dim]!;
    w[scatterPlace.size] = out.layout.shape[dim]!;
    w[scatterPlace.index] = addressOf(index) + 4 * starts[1]!.offsetAt(i);
    w[scatterPlace.indexBatch] = 4 * perBatch[1];
    w[scatterPlace.indexLine] = 4 * index.layout.strides[dim]!;
    w[scatterPlace.indexColumn] = 4 * indexColumn;
    w[scatterPlace.x] = addressOf(x) + bytes * starts[2]!.offsetAt(i);
    w[scatterPlace.xBatch] = bytes * perBatch[2];
    w[scatterPlace.xLine] = bytes * x.layout.strides[dim]!;
    w[scatterPlace.count] = count;
    w[scatterPlace.columns] = columns;
    w[scatterPlace.columnsPerTask] = columnsPerTask;
    w[scatterPlace.parts] = parts;
    w[scatterPlace.batches] = batches;
    w[scatterPlace.batchesPerTask] = batchesPerTask;
    engine.run(arena, kernel, w, parts * Math.ceil(batches / batchesPerTask), engine.shares(batches * count * columns, threadedElements));
  }
  return true;
}

const identity = inputNode(0, "f32");

/** Runs `add` on copies of out (begun with x) and src that gather in f32, and narrows the result. */
function addWide(engine: WasmEngine, arena: Arena, out: View, x: View, src: View, add: (out: View, src: View) => boolean): boolean {
  return withTemporary(arena, out.layout.shape, "f32", (sums) =>
    withTemporary(
      arena,
      src.layout.shape,
      "f32",
      (wide) =>
        fastMap(engine, sums, [x], identity) &&
        fastMap(engine, wide, [src], identity) &&
        add(sums, wide) &&
        fastMap(engine, out, [sums], identity),
    ),
  );
}

/** x with src put or added by index; false when the operands are not covered. */
export function fastScatter(
  engine: WasmEngine,
  out: View,
  { x, index, src }: OpTable["scatter"]["in"],
  { dim, add }: OpTable["scatter"]["attrs"],
): boolean {
  const arena = commonArena([out, x, index, src]);
  const bytes = movedBytes(x);
  if (!arena || !bytes || index.layout.shape.length === 0 || sizeOf(index.layout.shape) === 0) return false;
  const run = (kernel: KernelName, to: View, from: View) => runLines(engine, arena, { kernel, out: to, index, x: from, dim });
  if (add && bytes === 2) return addWide(engine, arena, out, x, src, (to, from) => run("scatter.add.f32", to, from));
  copy(out, { x }, {});
  return run(add ? (x.dtype === "f32" ? "scatter.add.f32" : "scatter.add.i32") : `scatter.put.${bytes}`, out, src);
}

/** x with lines of src added by index; false when the operands are not covered. */
export function fastIndexAdd(engine: WasmEngine, out: View, { x, index, src }: OpTable["indexAdd"]["in"], dim: number): boolean {
  const arena = commonArena([out, x, index, src]);
  const kind = floatKind(x.dtype);
  if (!arena || !kind || sizeOf(src.layout.shape) === 0) return false;
  const lines = {
    ...index,
    layout: { ...index.layout, shape: src.layout.shape, strides: src.layout.shape.map((_, i) => (i === dim ? 1 : 0)) },
  };
  const run = (to: View, from: View) => runLines(engine, arena, { kernel: "indexAdd", out: to, index: lines, x: from, dim });
  if (kind !== "f32") return addWide(engine, arena, out, x, src, run);
  copy(out, { x }, {});
  return run(out, src);
}
