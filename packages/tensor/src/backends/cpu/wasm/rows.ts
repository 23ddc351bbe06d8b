// softmax, the norms and rope on generated code.
import type { ExprNode } from "../../../ops/expr.ts";
import type { OpTable } from "../../../ops/table.ts";
import type { View } from "../../../view.ts";
import type { Arena } from "./arena.ts";
import { operandModes, stretch } from "./blocking.ts";
import type { KernelName } from "./emitters.ts";
import type { WasmEngine } from "./engine.ts";
import { groupNormArgs } from "./group-norm-kernel.ts";
import { addressOf, commonArena, elementBytes, floatBits, type Grid, placesOf, planRows, rowGrid, rowParts, vectorWords } from "./plan.ts";
import { floatKind } from "./row-function.ts";
import { maxRowColumns, rowArgs } from "./row-kernels.ts";

const [rowPlace, groupPlace] = [placesOf(rowArgs), placesOf(groupNormArgs)];
/** Fewest elements of a task. */
const leastElements = 8_192;
/** Elements from which waking other threads pays. */
const threadedElements = 65_536;

interface RowJob {
  readonly kernel: KernelName;
  readonly out: View;
  readonly x: View;
  /** Operands of the expression. */
  readonly operands?: readonly View[];
  /** Views walked beside x that belong to the kernel itself. */
  readonly beside?: readonly View[];
  readonly expr?: ExprNode | undefined;
}

/** Writes a kernel's own words; false when it does not cover the grid. */
type OwnWords = (w: Int32Array, grid: Grid, beside: readonly View[]) => boolean;

/** Runs a row kernel, in parts where the dimensions before the last do not join to two. */
function runRows(engine: WasmEngine, job: RowJob, own: OwnWords): boolean {
  const { out, x, operands = [], beside = [] } = job;
  const all = [out, ...operands, x, ...beside];
  if (!floatKind(x.dtype) || x.layout.shape.at(-1)! > maxRowColumns) return false;
  const arena = commonArena(all);
  if (!arena) return false;
  const gridAt = (views: readonly View[]) =>
    rowGrid(
      views.map((v) => v.layout),
      2,
    );
  const grid = gridAt(all);
  if (grid) return runPart(engine, arena, job, all, grid, own);
  for (const part of rowParts(all)) if (!runPart(engine, arena, job, part, gridAt(part)!, own)) return false;
  return true;
}

function runPart(engine: WasmEngine, arena: Arena, job: RowJob, views: readonly View[], grid: Grid, own: OwnWords): boolean {
  const at = 1 + (job.operands?.length ?? 0);
  const [x, [xBatch, xRow, step]] = [views[at]!, grid.strides[at]!];
  const w = engine.blankArgs();
  if ((step !== 1 && grid.columns > 1) || !own(w, grid, views.slice(at + 1))) return false;
  const finish = planRows(engine, arena, job.expr, views.slice(0, at), grid.strides);
  if (!finish) return false;
  const { batch, rows: rowsPerBatch, columns } = grid;
  const rows = batch * rowsPerBatch;
  const rowsPerTask = Math.max(1, Math.floor(stretch(rows * columns, leastElements) / columns));
  const bytes = elementBytes(x);
  w[rowPlace.slot] = finish.slot;
  w[rowPlace.table] = finish.table;
  w[rowPlace.rows] = rows;
  w[rowPlace.rowsPerBatch] = rowsPerBatch;
  w[rowPlace.columns] = columns;
  w[rowPlace.rowsPerTask] = rowsPerTask;
  w[rowPlace.x] = addressOf(x);
  w[rowPlace.xBatch] = xBatch * bytes;
  w[rowPlace.xRow] = xRow * bytes;
  w[rowPlace.xMode] = operandModes[floatKind(x.dtype)!];
  engine.run(arena, job.kernel, w, Math.ceil(rows / rowsPerTask), engine.shares(rows * columns, threadedElements));
  return true;
}

/** Computes softmax or log-softmax; false when the operands are not covered. */
export function fastSoftmax(engine: WasmEngine, out: View, { x }: OpTable["softmax"]["in"], { log }: OpTable["softmax"]["attrs"]): boolean {
  return runRows(engine, { kernel: "softmax", out, x }, (words) => {
    words[rowPlace.layer] = log ? 1 : 0;
    return true;
  });
}

/** Computes a layer or RMS norm with epilogue; false when the operands are not covered. */
export function fastNorm(engine: WasmEngine, out: View, inputs: OpTable["norm"]["in"], attrs: OpTable["norm"]["attrs"]): boolean {
  const { x, weight, bias, operands = [] } = inputs;
  if (!commonArena([x, weight, bias])) return false;
  const [w, b] = [vectorWords(weight), vectorWords(bias)];
  if (!w || !b) return false;
  return runRows(engine, { kernel: "norm", out, x, operands, expr: attrs.epilogue }, (words) => {
    words[rowPlace.weight] = w.address;
    words[rowPlace.weightMode] = w.mode;
    words[rowPlace.bias] = b.address;
    words[rowPlace.biasMode] = b.mode;
    words[rowPlace.eps] = floatBits(attrs.eps);
    words[rowPlace.layer] = attrs.kind === "layer" ? 1 : 0;
    return true;
  });
}

/** Rotates pairs; false when the operands are not covered. */
export function fastRope(engine: WasmEngine, out: View, inputs: OpTable["rope"]["in"], { interleaved }: OpTable["rope"]["attrs"]): boolean {
  const { x, cos, sin } = inputs;
  if (!wholePairs(x, interleaved)) return false;
  return runRows(engine, { kernel: "rope", out, x, beside: [cos, sin] }, (words, grid, tables) =>
    putAngles(words, grid, tables, interleaved),
  );
}

/** Whether pairs fill vectors. */
const wholePairs = (x: View, interleaved: boolean): boolean => x.layout.shape.at(-1)! % (interleaved ? 4 : 8) === 0;

/** Writes where the cosines and sines of a row are; false when they do not lie side by side. */
function putAngles(words: Int32Array, { strides }: Grid, [c, s]: readonly View[], interleaved: boolean): boolean {
  const [[cosBatch, cosRow, cosStep], [sinBatch, sinRow, sinStep]] = [strides[2]!, strides[3]!];
  if (cosStep !== 1 || sinStep !== 1) return false;
  words[rowPlace.weight] = addressOf(c!);
  words[rowPlace.weightBatch] = 4 * cosBatch;
  words[rowPlace.weightRow] = 4 * cosRow;
  words[rowPlace.bias] = addressOf(s!);
  words[rowPlace.biasBatch] = 4 * sinBatch;
  words[rowPlace.biasRow] = 4 * sinRow;
  words[rowPlace.layer] = interleaved ? 1 : 0;
  return true;
}

type QkNormRope = OpTable["qkNormRope"];

/** Normalises and rotates heads; false when the operands are not covered. 16-bit heads take two passes, which round between. */
export function fastQkNormRope(
  engine: WasmEngine,
  out: View,
  inputs: QkNormRope["in"],
  { eps, interleaved }: QkNormRope["attrs"],
): boolean {
  const { x, weight, cos, sin } = inputs;
  if (!wholePairs(x, interleaved)) return false;
  if (x.dtype !== "f32") {
    const normed = fastNorm(engine, out, { x, ...(weight ? { weight } : {}) }, { kind: "rms", eps });
    return normed && fastRope(engine, out, { x: out, cos, sin }, { interleaved });
  }
  const w = vectorWords(weight);
  if (!w || !commonArena([x, weight])) return false;
  return runRows(engine, { kernel: "qkNormRope", out, x, beside: [cos, sin] }, (words, grid, tables) => {
    words[rowPlace.head] = w.address;
    words[rowPlace.headMode] = w.mode;
    words[rowPlace.eps] = floatBits(eps);
    return putAngles(words, grid, tables, interleaved);
  });
}

/** Computes a group norm with epilogue; false when the operands are not covered. */
export function fastGroupNorm(
  engine: WasmEngine,
  out: View,
  { x, weight, bias, operands = [] }: OpTable["groupNorm"]["in"],
  { groups, eps, epilogue }: OpTable["groupNorm"]["attrs"],
): boolean {
  const [b, all] = x.layout.shape as [number, number];
  const kind = floatKind(x.dtype);
  const views = [out, ...operands];
  const arena = commonArena([...views, x, weight, bias]);
  const [w, shift, strides] = [vectorWords(weight), vectorWords(bias), channelStrides(views)];
  if (!arena || !kind || !w || !shift || !strides || all > maxRowColumns) return false;
  const finish = planRows(engine, arena, epilogue, views, strides);
  if (!finish) return false;
  const area = x.layout.shape.slice(2).reduce((n, d) => n * d, 1);
  const words = engine.blankArgs();
  words[groupPlace.slot] = finish.slot;
  words[groupPlace.table] = finish.table;
  words[groupPlace.x] = addressOf(x);
  words[groupPlace.xMode] = operandModes[kind];
  words[groupPlace.xBytes] = elementBytes(x);
  words[groupPlace.groups] = groups;
  words[groupPlace.channels] = all / groups;
  words[groupPlace.all] = all;
  words[groupPlace.area] = area;
  words[groupPlace.weight] = w.address;
  words[groupPlace.weightMode] = w.mode;
  words[groupPlace.bias] = shift.address;
  words[groupPlace.biasMode] = shift.mode;
  words[groupPlace.eps] = floatBits(eps);
  engine.run(arena, "groupNorm", words, b * groups, engine.shares(b * all * area, threadedElements));
  return true;
}

/** Strides of image, channel and pixel of [b, c, spatial…] views; undefined when pixels do not run into each other. */
function channelStrides(views: readonly View[]): Grid["strides"] | undefined {
  const strides: [number, number, number][] = [];
  for (const { layout } of views) {
    const [batch, channel, ...steps] = layout.strides as [number, number, ...number[]];
    const sizes = layout.shape.slice(2);
    const walked = steps.filter((_, i) => sizes[i] !== 1);
    const counts = sizes.filter((d) => d !== 1);
    if (walked.some((s, i) => i + 1 < walked.length && s !== walked[i + 1]! * counts[i + 1]!)) return undefined;
    strides.push([batch, channel, walked.at(-1) ?? 1]);
  }
  return strides;
}
