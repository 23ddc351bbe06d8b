// reduce and scan on generated code.
import { collapse } from "../../../layout.ts";
import type { OpTable } from "../../../ops/table.ts";
import type { View } from "../../backend.ts";
import { Walker } from "../kernels/access.ts";
import type { Arena } from "./arena.ts";
import { operandModes } from "./blocking.ts";
import { columnArgs, columnKinds, maxTaskColumns } from "./column-kernel.ts";
import type { WasmEngine } from "./engine.ts";
import { addressOf, commonArena, elementBytes, placesOf } from "./plan.ts";
import { reduceArgs, reduceKinds } from "./reduce-kernel.ts";
import { floatKind } from "./row-function.ts";
import { scanArgs } from "./scan-kernel.ts";

const place = placesOf(reduceArgs);
const columnPlace = placesOf(columnArgs);
const scanPlace = placesOf(scanArgs);
/** Elements a task should have, and from which waking other threads pays. */
const [taskElements, threadedElements] = [16_384, 131_072];
/** Results side by side from which walking rows beats gathering columns. */
const leastColumns = 8;

/** Reductions of floats into f32, places of extremes into i32; false when the operands are not covered. */
export function fastReduce(engine: WasmEngine, out: View, { x }: OpTable["reduce"]["in"], attrs: OpTable["reduce"]["attrs"]): boolean {
  const { reduceRank, correction, p } = attrs;
  const kind = attrs.kind === "mean" ? "sum" : attrs.kind;
  const mode = floatKind(x.dtype);
  const arena = commonArena([out, x]);
  if (!arena || !mode || !isCovered(kind) || out.dtype !== (kind.startsWith("arg") ? "i32" : "f32") || (kind === "norm" && p !== 2))
    return false;
  const { shape, strides, offset } = x.layout;
  const lead = shape.length - reduceRank;
  const inner = collapse([{ shape: shape.slice(lead), strides: strides.slice(lead), offset }]);
  const outer = collapse([{ shape: shape.slice(0, lead), strides: strides.slice(0, lead), offset }]);
  const length = inner.shape[0] ?? 1;
  if (inner.shape.length > 1 || length === 0) return false;
  const apart = length > 1 && inner.strides[0]![0] !== 1;
  const divisor = attrs.kind === "mean" ? length : kind === "var" ? length - correction : 1;
  if (!Number.isInteger(divisor)) return false;
  const bytes = elementBytes(x);
  const steps = outer.strides[0]!;
  if (apart) {
    const job = { x, out, kind, length, divisor, shape: outer.shape, steps, step: inner.strides[0]![0]! };
    return columnKinds.has(kind) && reduceColumns(engine, arena, job);
  }
  const [rowsPerBatch, xRow] = [outer.shape.at(-1) ?? 1, (steps.at(-1) ?? 0) * bytes];
  const rows = rowsPerBatch * (outer.shape.at(-2) ?? 1);
  const rowsPerTask = Math.max(1, Math.floor(taskElements / length));
  // Dimensions before the last two of the results are walked here.
  const starts = new Walker({ shape: outer.shape.slice(0, -2), strides: steps.slice(0, -2), offset: 0 });
  for (let i = 0; i < starts.size; i++) {
    const w = engine.blankArgs();
    w[place.kind] = reduceKinds[kind];
    w[place.x] = addressOf(x) + starts.offsetAt(i) * bytes;
    w[place.xBatch] = (steps.at(-2) ?? 0) * bytes;
    w[place.xRow] = xRow;
    w[place.xMode] = operandModes[mode];
    w[place.xBytes] = bytes;
    w[place.rows] = rows;
    w[place.rowsPerBatch] = rowsPerBatch;
    w[place.rowsPerTask] = rowsPerTask;
    w[place.length] = length;
    w[place.divisor] = Math.max(0, divisor);
    w[place.out] = addressOf(out) + 4 * i * rows;
    engine.run(arena, "reduce", w, Math.ceil(rows / rowsPerTask), engine.shares(rows * length, threadedElements));
  }
  return true;
}

interface ColumnJob {
  readonly x: View;
  readonly out: View;
  readonly kind: keyof typeof reduceKinds;
  readonly length: number;
  readonly divisor: number;
  /** Sizes and strides of the results. */
  readonly shape: readonly number[];
  readonly steps: readonly number[];
  /** Stride of the reduced dimension. */
  readonly step: number;
}

/** Reduces rows that lie apart, where results lie side by side; false when they do not. */
function reduceColumns(engine: WasmEngine, arena: Arena, { x, out, kind, length, divisor, shape, steps, step }: ColumnJob): boolean {
  const columns = shape.at(-1) ?? 1;
  if (columns < leastColumns || steps.at(-1) !== 1) return false;
  const bytes = elementBytes(x);
  const share = Math.ceil(columns / (2 * engine.threads) / 16) * 16;
  const columnsPerTask = Math.min(maxTaskColumns, Math.max(64, share));
  const parts = Math.ceil(columns / columnsPerTask);
  const batches = shape.at(-2) ?? 1;
  const starts = new Walker({ shape: shape.slice(0, -2), strides: steps.slice(0, -2), offset: 0 });
  for (let i = 0; i < starts.size; i++) {
    const w = engine.blankArgs();
    w[columnPlace.kind] = reduceKinds[kind];
    w[columnPlace.x] = addressOf(x) + starts.offsetAt(i) * bytes;
    w[columnPlace.xBatch] = (steps.at(-2) ?? 0) * bytes;
    w[columnPlace.xRow] = step * bytes;
    w[columnPlace.xMode] = operandModes[floatKind(x.dtype)!];
    w[columnPlace.xBytes] = bytes;
    w[columnPlace.columns] = columns;
    w[columnPlace.columnsPerTask] = columnsPerTask;
    w[columnPlace.parts] = parts;
    w[columnPlace.length] = length;
    w[columnPlace.divisor] = Math.max(0, divisor);
    w[columnPlace.out] = addressOf(out) + 4 * i * batches * columns;
    engine.run(arena, "reduceColumns", w, batches * parts, engine.shares(batches * columns * length, threadedElements));
  }
  return true;
}

/** Running sums and products of rows of f32; false when the operands are not covered. */
export function fastScan(engine: WasmEngine, out: View, { x }: OpTable["scan"]["in"], { kind }: OpTable["scan"]["attrs"]): boolean {
  const arena = commonArena([out, x]);
  if (!arena || x.dtype !== "f32" || out.dtype !== "f32") return false;
  const { shape, strides, offset } = x.layout;
  const length = shape.at(-1)!;
  const outer = collapse([{ shape: shape.slice(0, -1), strides: strides.slice(0, -1), offset }]);
  if (length > 1 && strides.at(-1) !== 1) return false;
  const steps = outer.strides[0]!;
  const rowsPerBatch = outer.shape.at(-1) ?? 1;
  const rows = rowsPerBatch * (outer.shape.at(-2) ?? 1);
  const rowsPerTask = Math.max(1, Math.floor(taskElements / length));
  const starts = new Walker({ shape: outer.shape.slice(0, -2), strides: steps.slice(0, -2), offset: 0 });
  for (let i = 0; i < starts.size; i++) {
    const w = engine.blankArgs();
    w[scanPlace.product] = kind === "prod" ? 1 : 0;
    w[scanPlace.x] = addressOf(x) + 4 * starts.offsetAt(i);
    w[scanPlace.xBatch] = 4 * (steps.at(-2) ?? 0);
    w[scanPlace.xRow] = 4 * (steps.at(-1) ?? 0);
    w[scanPlace.out] = addressOf(out) + 4 * i * rows * length;
    w[scanPlace.rows] = rows;
    w[scanPlace.rowsPerBatch] = rowsPerBatch;
    w[scanPlace.rowsPerTask] = rowsPerTask;
    w[scanPlace.length] = length;
    engine.run(arena, "scan", w, Math.ceil(rows / rowsPerTask), engine.shares(rows * length, threadedElements));
  }
  return true;
}

const isCovered = (kind: string): kind is keyof typeof reduceKinds => kind in reduceKinds;
