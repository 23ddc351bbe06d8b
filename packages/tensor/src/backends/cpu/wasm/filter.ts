// Filters of images (bicubic and antialiased resampling) on generated code; 16-bit floats are summed in f32.
import { inputNode } from "../../../ops/expr.ts";
import type { OpTable } from "../../../ops/table.ts";
import type { View } from "../../../view.ts";
import { type FilterTaps, tapsOf } from "../kernels/resample.ts";
import type { CpuBuffer } from "../memory.ts";
import type { Arena } from "./arena.ts";
import type { KernelName } from "./emitters.ts";
import type { WasmEngine } from "./engine.ts";
import { weighRowsArgs, windowArgs, windowBytes } from "./filter-kernel.ts";
import { fastMap } from "./map.ts";
import { addressOf, commonArena, placesOf } from "./plan.ts";
import { floatKind } from "./row-function.ts";
import { withTemporary } from "./temporary.ts";

const places = { windows: placesOf(windowArgs), rows: placesOf(weighRowsArgs) };
/** Results a task should have, and from which waking other threads pays. */
const [taskElements, threadedElements] = [16_384, 65_536];
const identity = inputNode(0, "f32");
const windowWords = windowBytes / 4;

/** Sums x's rows or columns; false when the operands are not covered. */
export function fastFilter(
  engine: WasmEngine,
  out: View,
  { x, index, weight }: OpTable["filter"]["in"],
  { dim }: OpTable["filter"]["attrs"],
): boolean {
  const arena = commonArena([out, x]);
  const [from, to] = [floatKind(x.dtype), floatKind(out.dtype)];
  if (!arena || !from || !to) return false;
  const taps = tapsOf(index, weight);
  const run = dim === 3 ? filterColumns : filterRows;
  return asFloats(engine, arena, x, (wide) =>
    to === "f32"
      ? run(engine, arena, out, wide, taps)
      : withTemporary(
          arena,
          out.layout.shape,
          "f32",
          (sums) => run(engine, arena, sums, wide, taps) && fastMap(engine, out, [sums], identity),
        ),
  );
}

/** Runs with the values of `x` as f32. */
export const asFloats = (engine: WasmEngine, arena: Arena, x: View, run: (wide: View) => boolean): boolean =>
  x.dtype === "f32" ? run(x) : withTemporary(arena, x.layout.shape, "f32", (wide) => fastMap(engine, wide, [x], identity) && run(wide));

function filterRows(engine: WasmEngine, arena: Arena, out: View, x: View, { count, picks, weights }: FilterTaps): boolean {
  const [b, c, height, width] = x.layout.shape as [number, number, number, number];
  const taps = picks.length / count;
  return withTemporary(arena, [2 * picks.length], "i32", (table) => {
    const buffer = table.buffer as CpuBuffer;
    const [words, floats] = [buffer.array("i32"), buffer.array("f32")];
    for (let i = 0, at = 0; i < count; i++) {
      for (let t = 0; t < taps; t++, at += 2) {
        words[at] = picks[t * count + i]! * width * 4;
        floats[at + 1] = weights[t * count + i]!;
      }
    }
    const [place, w, rows] = [places.rows, engine.blankArgs(), b * c * count];
    const rowsPerTask = Math.max(1, Math.floor(taskElements / width));
    w[place.x] = addressOf(x);
    w[place.planeBytes] = height * width * 4;
    w[place.out] = addressOf(out);
    w[place.rows] = rows;
    w[place.rowsPerPlane] = count;
    w[place.columns] = width;
    w[place.rowsPerTask] = rowsPerTask;
    w[place.table] = addressOf(table);
    w[place.taps] = taps;
    engine.run(arena, "weighRows", w, Math.ceil(rows / rowsPerTask), engine.shares(rows * width, threadedElements));
    return true;
  });
}

function filterColumns(engine: WasmEngine, arena: Arena, out: View, x: View, taps: FilterTaps): boolean {
  const [b, c, h, width] = x.layout.shape as [number, number, number, number];
  const vectors = windowsOf(taps, width);
  return (
    vectors > 0 &&
    runWindows(engine, arena, out, x, { sources: b * c * h, length: width, results: taps.count, vectors }, (w, f) =>
      writeWindows(taps, width, vectors, w, f),
    )
  );
}

/** Windows of four that hold all taps of any result; 0 where rows are shorter than those. */
function windowsOf({ count, picks }: FilterTaps, width: number): number {
  let most = 0;
  for (let i = 0; i < count; i++) {
    const [first, last] = spanOf(picks, count, i);
    most = Math.max(most, last - first + 1);
  }
  const vectors = Math.ceil(most / 4);
  return 4 * vectors <= width ? vectors : 0;
}

/** The first and last sample of a result. */
function spanOf(picks: Int32Array, count: number, i: number): [number, number] {
  let [first, last] = [picks[i]!, picks[i]!];
  for (let t = i; t < picks.length; t += count) {
    first = Math.min(first, picks[t]!);
    last = Math.max(last, picks[t]!);
  }
  return [first, last];
}

/** Writes the entries of every result; samples that it lacks are masked, whatever they are. */
function writeWindows(
  { count, picks, weights }: FilterTaps,
  width: number,
  vectors: number,
  words: Int32Array,
  floats: Float32Array,
): void {
  words.fill(0);
  for (let i = 0; i < count; i++) {
    const start = Math.min(spanOf(picks, count, i)[0], width - 4 * vectors);
    const entry = i * vectors * windowWords;
    for (let v = 0; v < vectors; v++) words[entry + v * windowWords + 8] = 4 * (start + 4 * v);
    for (let t = i; t < picks.length; t += count) {
      const lane = picks[t]! - start;
      const at = entry + (lane >> 2) * windowWords + (lane & 3);
      floats[at]! += weights[t]!;
      words[at + 4] = -1;
    }
  }
}

/** Sources of a job of windows: how many, their length, results of each, and windows of a result. */
export interface WindowJob {
  readonly sources: number;
  readonly length: number;
  readonly results: number;
  readonly vectors: number;
}

/** Sums windows of contiguous rows of f32; `write` fills the table. */
export function runWindows(
  engine: WasmEngine,
  arena: Arena,
  out: View,
  x: View,
  { sources, length, results, vectors }: WindowJob,
  write: (words: Int32Array, floats: Float32Array) => void,
): boolean {
  return withTemporary(arena, [results * vectors * windowWords], "i32", (table) => {
    const buffer = table.buffer as CpuBuffer;
    write(buffer.array("i32"), buffer.array("f32"));
    const [place, w] = [places.windows, engine.blankArgs()];
    const rowsPerTask = Math.max(1, Math.floor(taskElements / results));
    const columnsPerTask = Math.min(results, taskElements);
    const columnTasks = Math.ceil(results / columnsPerTask);
    w[place.x] = addressOf(x);
    w[place.sourceBytes] = 4 * length;
    w[place.out] = addressOf(out);
    w[place.rows] = sources;
    w[place.columns] = results;
    w[place.rowsPerTask] = rowsPerTask;
    w[place.columnsPerTask] = columnsPerTask;
    w[place.columnTasks] = columnTasks;
    w[place.table] = addressOf(table);
    w[place.vectors] = vectors;
    const kernel: KernelName = vectors === 1 ? "windows.1" : vectors === 2 ? "windows.2" : "windows.0";
    const tasks = Math.ceil(sources / rowsPerTask) * columnTasks;
    engine.run(arena, kernel, w, tasks, engine.shares(sources * results * vectors, threadedElements));
    return true;
  });
}
