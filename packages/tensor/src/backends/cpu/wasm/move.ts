// copy between strided layouts, and rows by index, on generated code.
import { dtypeInfo, isQuantized } from "../../../dtype.ts";
import { collapse } from "../../../layout.ts";
import type { OpTable } from "../../../ops/table.ts";
import { sizeOf } from "../../../shape.ts";
import type { View } from "../../../view.ts";
import { Walker } from "../kernels/access.ts";
import type { Arena } from "./arena.ts";
import { stretch } from "./blocking.ts";
import type { WasmEngine } from "./engine.ts";
import { moveArgs, selectArgs } from "./move-kernel.ts";
import { addressOf, commonArena, placesOf } from "./plan.ts";

const place = placesOf(moveArgs);
const selectPlace = placesOf(selectArgs);
/** Bytes of a row and of a column that a task of a transpose takes, at most and at least: whole cache lines, many of one page. */
const [blockBytes, leastBlockBytes] = [2048, 128];
/** Fewest bytes of a task, and from which waking other threads pays. */
const [leastBytes, threadedBytes] = [65_536, 1_048_576];
/** Bytes of a task that moves `total` of them. */
const taskBytes = (total: number): number => 4 * stretch(total / 4, leastBytes / 4);
/** Bytes from which WebAssembly's own copy of neighbouring ones beats that of an array, which goes word by word in shared memory. */
const leastStretchBytes = 131_072;
/** Bytes of a task of such a copy; one thread does it in one, for which the copy does not read what it overwrites. */
const stretchBytes = 2 ** 20;
/** Bytes of a row from which moving it whole beats a loop. */
const leastRowBytes = 64;
/** Elements of a matrix from which a transpose is worth a job of its own. */
const leastMatrix = 256;

/** Copies strided x to out; false when plain loops do it as well or the layouts are not covered. */
export function fastCopy(engine: WasmEngine, out: View, x: View): boolean {
  const arena = commonArena([out, x]);
  if (!arena || isQuantized(x.dtype)) return false;
  const { shape, strides } = collapse([out.layout, x.layout]);
  const [to, from] = strides as [number[], number[]];
  const bytes = dtypeInfo[x.dtype].blockBytes;
  const last = shape.length - 1;
  if (last === 0 && to[0] === 1 && from[0] === 1) return copyStretch(engine, arena, out, x, shape[0]! * bytes);
  if (last < 1 || to[last] !== 1) return false;
  const transposed = from[last] !== 1;
  if (!transposed && shape[last]! * bytes < leastRowBytes) return false;
  const row = transposed ? from.indexOf(1) : last - 1;
  if (row < 0 || (transposed && ((bytes !== 4 && bytes !== 2) || shape[row]! * shape[last]! < leastMatrix))) return false;
  const batch = !transposed && last >= 2 ? last - 2 : -1;
  const others = shape.map((_, i) => i).filter((i) => i !== row && i !== last && i !== batch);
  const walk = (steps: number[]) => new Walker({ shape: others.map((i) => shape[i]!), strides: others.map((i) => steps[i]!), offset: 0 });
  const [outStarts, xStarts] = [walk(to), walk(from)];
  const step = (steps: number[], i: number) => (i < 0 ? 0 : steps[i]! * bytes);
  const rows = shape[row]! * (batch < 0 ? 1 : shape[batch]!);
  const columns = transposed ? shape[last]! : shape[last]! * bytes;
  const side = transposed ? blockSide(rows, columns, bytes, engine.threads) : columns;
  const rowsPerTask = transposed ? side : Math.max(1, Math.floor(taskBytes(rows * columns) / columns));
  const parts = Math.ceil(columns / side);
  const share = engine.shares(rows * shape[last]! * bytes, threadedBytes);
  for (let i = 0; i < outStarts.size; i++) {
    const w = engine.blankArgs();
    w[place.transposed] = transposed ? bytes : 0;
    w[place.x] = addressOf(x) + xStarts.offsetAt(i) * bytes;
    w[place.out] = addressOf(out) + outStarts.offsetAt(i) * bytes;
    w[place.xBatch] = step(from, batch);
    w[place.xRow] = step(from, row);
    w[place.xColumn] = step(from, last);
    w[place.outBatch] = step(to, batch);
    w[place.outRow] = step(to, row);
    w[place.rows] = rows;
    w[place.rowsPerBatch] = shape[row]!;
    w[place.columns] = columns;
    w[place.rowsPerTask] = rowsPerTask;
    w[place.columnsPerTask] = side;
    w[place.parts] = parts;
    engine.run(arena, "move", w, parts * Math.ceil(rows / rowsPerTask), share);
  }
  return true;
}

/** Copies neighbouring bytes; false for so few that a plain copy takes less. */
function copyStretch(engine: WasmEngine, arena: Arena, out: View, x: View, bytes: number): boolean {
  if (bytes < leastStretchBytes) return false;
  const share = engine.shares(bytes, threadedBytes);
  for (let done = 0; done < bytes; ) {
    const rowBytes = Math.min(engine.threads > 1 ? stretchBytes : bytes, bytes - done);
    const rows = Math.floor((bytes - done) / rowBytes);
    const w = engine.blankArgs();
    w[place.x] = addressOf(x) + done;
    w[place.out] = addressOf(out) + done;
    w[place.xRow] = rowBytes;
    w[place.outRow] = rowBytes;
    w[place.rows] = rows;
    w[place.rowsPerBatch] = rows;
    w[place.columns] = rowBytes;
    w[place.rowsPerTask] = 1;
    w[place.columnsPerTask] = rowBytes;
    w[place.parts] = 1;
    engine.run(arena, "move", w, rows, share);
    done += rows * rowBytes;
  }
  return true;
}

/**
 * Rows and columns of a task of a transpose. Each row of either matrix is another page, whose address the processor looks up anew when it has
 * seen thousands of others since: large squares look up least.
 */
function blockSide(rows: number, columns: number, bytes: number, threads: number): number {
  let side = blockBytes / bytes;
  while (side * bytes > leastBlockBytes && Math.ceil(rows / side) * Math.ceil(columns / side) < 2 * threads) side /= 2;
  return side;
}

/** Picks slices along a dimension; false when the operands are not covered. */
export function fastSelect(engine: WasmEngine, out: View, { x, index }: OpTable["indexSelect"]["in"], dim: number): boolean {
  const arena = commonArena([out, x, index]);
  if (!arena || isQuantized(x.dtype) || x.dtype !== out.dtype) return false;
  const { shape } = x.layout;
  const bytes = sizeOf(shape.slice(dim + 1)) * dtypeInfo[x.dtype].blockBytes;
  const rowsPerBatch = index.layout.shape[0]!;
  const rows = sizeOf(shape.slice(0, dim)) * rowsPerBatch;
  if (bytes < 16 || rows === 0) return false;
  const rowsPerTask = Math.max(1, Math.floor(taskBytes(rows * bytes) / bytes));
  const w = engine.blankArgs();
  w[selectPlace.x] = addressOf(x);
  w[selectPlace.xBatch] = shape[dim]! * bytes;
  w[selectPlace.out] = addressOf(out);
  w[selectPlace.index] = addressOf(index);
  w[selectPlace.size] = shape[dim]!;
  w[selectPlace.rows] = rows;
  w[selectPlace.rowsPerBatch] = rowsPerBatch;
  w[selectPlace.rowsPerTask] = rowsPerTask;
  w[selectPlace.bytes] = bytes;
  engine.run(arena, "select", w, Math.ceil(rows / rowsPerTask), engine.shares(rows * bytes, threadedBytes));
  return true;
}
