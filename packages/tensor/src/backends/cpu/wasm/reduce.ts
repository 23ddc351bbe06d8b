// Reductions and running sums on generated code.
import { isFloat } from "../../../dtype.ts";
import { collapse } from "../../../layout.ts";
import { inputNode } from "../../../ops/expr.ts";
import type { OpTable } from "../../../ops/table.ts";
import type { View } from "../../../view.ts";
import { Walker } from "../kernels/access.ts";
import { copy } from "../kernels/movement.ts";
import type { Arena } from "./arena.ts";
import { operandModes, stretch } from "./blocking.ts";
import { columnArgs, columnKinds, maxTaskColumns } from "./column-kernel.ts";
import type { WasmEngine } from "./engine.ts";
import { fastMap } from "./map.ts";
import { fastCopy } from "./move.ts";
import { addressOf, commonArena, elementBytes, placesOf } from "./plan.ts";
import { type RowKind, reduceArgs, rowKinds } from "./reduce-kernel.ts";
import { floatKind } from "./row-function.ts";
import { scanArgs } from "./scan-kernel.ts";
import { withTemporary } from "./temporary.ts";

const place = placesOf(reduceArgs);
const columnPlace = placesOf(columnArgs);
const scanPlace = placesOf(scanArgs);
/** Fewest elements of a task, and from which waking other threads pays. */
const [leastElements, threadedElements] = [16_384, 131_072];
/** Results side by side from which walking rows beats gathering columns. */
const leastColumns = 8;
/** Values from which a copy that lies in order pays. */
const leastCopied = 4096;

/** Reductions of floats into floats, places of extremes into i32; false when the operands are not covered. */
export function fastReduce(engine: WasmEngine, out: View, { x }: OpTable["reduce"]["in"], attrs: OpTable["reduce"]["attrs"]): boolean {
  const arena = commonArena([out, x]);
  const kind = attrs.kind === "mean" ? "sum" : attrs.kind;
  if (!arena || !floatKind(x.dtype) || !isCovered(kind) || (kind === "norm" && attrs.p !== 2)) return false;
  if (out.dtype === (kind.startsWith("arg") ? "i32" : "f32")) return reduceFloats(engine, arena, out, x, kind, attrs);
  if (!isFloat(out.dtype)) return false;
  return withTemporary(
    arena,
    out.layout.shape,
    "f32",
    (wide) => reduceFloats(engine, arena, wide, x, kind, attrs) && fastMap(engine, out, [wide], inputNode(0, "f32")),
  );
}

interface Reduction {
  readonly x: View;
  readonly out: View;
  readonly kind: RowKind;
  readonly length: number;
  readonly divisor: number;
  /** Sizes and strides of the results. */
  readonly shape: readonly number[];
  readonly steps: readonly number[];
  /** Stride of the reduced dimension. */
  readonly step: number;
}

/** Reduces rows where they lie, columns row by row, and anything else from a copy that lies in order. */
function reduceFloats(engine: WasmEngine, arena: Arena, out: View, x: View, kind: RowKind, attrs: OpTable["reduce"]["attrs"]): boolean {
  const { shape, strides, offset } = x.layout;
  const lead = shape.length - attrs.reduceRank;
  const inner = collapse([{ shape: shape.slice(lead), strides: strides.slice(lead), offset }]);
  const outer = collapse([{ shape: shape.slice(0, lead), strides: strides.slice(0, lead), offset }]);
  const length = shape.slice(lead).reduce((n, d) => n * d, 1);
  const divisor = attrs.kind === "mean" ? length : kind === "var" ? length - attrs.correction : 1;
  if (!Number.isInteger(divisor) || length === 0) return false;
  if (inner.shape.length <= 1) {
    const step = inner.strides[0]![0] ?? 1;
    const job = { x, out, kind, length, divisor: Math.max(0, divisor), shape: outer.shape, steps: outer.strides[0]!, step };
    if (length === 1 || step === 1) return reduceRows(engine, arena, job);
    if (reduceColumns(engine, arena, job)) return true;
  }
  const size = shape.reduce((n, d) => n * d, 1);
  if (size < leastCopied) return false;
  return withTemporary(arena, shape, x.dtype, (ordered) => {
    if (!fastCopy(engine, ordered, x)) copy(ordered, { x }, {});
    return reduceFloats(engine, arena, out, ordered, kind, attrs);
  });
}

function reduceRows(engine: WasmEngine, arena: Arena, { x, out, kind, length, divisor, shape, steps }: Reduction): boolean {
  const bytes = elementBytes(x);
  const rowsPerBatch = shape.at(-1) ?? 1;
  const rows = rowsPerBatch * (shape.at(-2) ?? 1);
  const rowsPerTask = Math.max(1, Math.floor(stretch(rows * length, leastElements) / length));
  // Dimensions before the last two of the results are walked here.
  const starts = new Walker({ shape: shape.slice(0, -2), strides: steps.slice(0, -2), offset: 0 });
  for (let i = 0; i < starts.size; i++) {
    const w = engine.blankArgs();
    w[place.x] = addressOf(x) + starts.offsetAt(i) * bytes;
    w[place.xBatch] = (steps.at(-2) ?? 0) * bytes;
    w[place.xRow] = (steps.at(-1) ?? 0) * bytes;
    w[place.xMode] = operandModes[floatKind(x.dtype)!];
    w[place.xBytes] = bytes;
    w[place.rows] = rows;
    w[place.rowsPerBatch] = rowsPerBatch;
    w[place.rowsPerTask] = rowsPerTask;
    w[place.length] = length;
    w[place.divisor] = divisor;
    w[place.out] = addressOf(out) + 4 * i * rows;
    engine.run(arena, `rows.${kind}`, w, Math.ceil(rows / rowsPerTask), engine.shares(rows * length, threadedElements));
  }
  return true;
}

/** Reduces rows that lie apart, where results lie side by side; false when they do not, or for another kind. */
function reduceColumns(engine: WasmEngine, arena: Arena, { x, out, kind, length, divisor, shape, steps, step }: Reduction): boolean {
  const columns = shape.at(-1) ?? 1;
  const known = columnKinds.find((k) => k === kind);
  if (!known || columns < leastColumns || steps.at(-1) !== 1) return false;
  const bytes = elementBytes(x);
  const share = Math.ceil(columns / (2 * engine.threads) / 16) * 16;
  const columnsPerTask = Math.min(maxTaskColumns, Math.max(64, share));
  const parts = Math.ceil(columns / columnsPerTask);
  const batches = shape.at(-2) ?? 1;
  const starts = new Walker({ shape: shape.slice(0, -2), strides: steps.slice(0, -2), offset: 0 });
  for (let i = 0; i < starts.size; i++) {
    const w = engine.blankArgs();
    w[columnPlace.x] = addressOf(x) + starts.offsetAt(i) * bytes;
    w[columnPlace.xBatch] = (steps.at(-2) ?? 0) * bytes;
    w[columnPlace.xRow] = step * bytes;
    w[columnPlace.columns] = columns;
    w[columnPlace.columnsPerTask] = columnsPerTask;
    w[columnPlace.parts] = parts;
    w[columnPlace.length] = length;
    w[columnPlace.divisor] = divisor;
    w[columnPlace.out] = addressOf(out) + 4 * i * batches * columns;
    const threaded = engine.shares(batches * columns * length, threadedElements);
    engine.run(arena, `columns.${known}.${floatKind(x.dtype)!}`, w, batches * parts, threaded);
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
  const rowsPerTask = Math.max(1, Math.floor(stretch(rows * length, leastElements) / length));
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

const isCovered = (kind: string): kind is RowKind => (rowKinds as readonly string[]).includes(kind);
