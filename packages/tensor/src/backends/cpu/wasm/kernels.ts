// The fast kernels: each takes what the generated code covers and leaves the rest to the plain loops.
import type { ExprNode } from "../../../ops/expr.ts";
import type { KernelTable, OpTable } from "../../../ops/table.ts";
import { sizeOf } from "../../../shape.ts";
import type { View } from "../../backend.ts";
import { plainKernels } from "../kernels/plain.ts";
import { fastAttention } from "./attention.ts";
import { operandModes } from "./blocking.ts";
import { fastConv } from "./conv.ts";
import type { WasmEngine } from "./engine.ts";
import { fastMatmul } from "./matmul.ts";
import { addressOf, commonArena, elementBytes, gridOf, planFinish, rowGrid, wordsOf } from "./plan.ts";
import { floatKind } from "./row-function.ts";
import { mapArgs, maxRowColumns, rowArgs } from "./row-kernels.ts";

/** Elements a task of an elementwise kernel should have. */
const taskElements = 16_384;
/** Elements from which waking other threads pays. */
const threadedElements = 131_072;

/** Kernels that run generated code where they can; outputs smaller than `plainBelow` elements always use the plain loops. */
export function wasmKernels(engine: WasmEngine, plainBelow: number): KernelTable {
  const small = (view: View) => sizeOf(view.layout.shape) < Math.max(1, plainBelow);
  return {
    ...plainKernels,
    map(out, inputs, attrs) {
      if (small(out) || !fastMap(engine, out, inputs.inputs, attrs.expr)) plainKernels.map(out, inputs, attrs);
    },
    matmul(out, inputs, attrs) {
      const k = inputs.a.layout.shape.at(-1)!;
      if (small(out) && sizeOf(out.layout.shape) * k < 16 * plainBelow) plainKernels.matmul(out, inputs, attrs);
      else if (!fastMatmul(engine, out, inputs, attrs)) plainKernels.matmul(out, inputs, attrs);
    },
    softmax(out, inputs, attrs) {
      if (small(out) || attrs.log || !fastRows(engine, "softmax", out, inputs, {})) plainKernels.softmax(out, inputs, attrs);
    },
    norm(out, inputs, attrs) {
      if (small(out) || !fastRows(engine, "norm", out, inputs, attrs)) plainKernels.norm(out, inputs, attrs);
    },
    attention(out, inputs, attrs) {
      if (small(out) || !fastAttention(engine, out, inputs, attrs)) plainKernels.attention(out, inputs, attrs);
    },
    conv(out, inputs, attrs) {
      if (small(out) || !fastConv(engine, out, inputs, attrs)) plainKernels.conv(out, inputs, attrs);
    },
  };
}

function fastMap(engine: WasmEngine, out: View, inputs: readonly View[], expr: ExprNode): boolean {
  const views = [out, ...inputs];
  const arena = commonArena(views);
  const grid = gridOf(views.map((v) => v.layout));
  if (!arena || !grid) return false;
  const finish = planFinish(engine, arena, expr, views, grid.strides, false);
  if (!finish) return false;
  const rows = grid.batch * grid.rows;
  const rowsPerTask = Math.max(1, Math.floor(taskElements / grid.columns));
  const tasks = rows === 1 ? Math.ceil(grid.columns / taskElements) : Math.ceil(rows / rowsPerTask);
  const { columns } = grid;
  engine.run(
    arena,
    "map",
    wordsOf(mapArgs, { ...finish, rows, rowsPerBatch: grid.rows, columns, rowsPerTask, columnsPerTask: taskElements }),
    tasks,
    rows * columns >= threadedElements,
  );
  return true;
}

type RowInputs = OpTable["norm"]["in"];
type RowAttrs = Partial<OpTable["norm"]["attrs"]>;

function fastRows(engine: WasmEngine, kernel: "softmax" | "norm", out: View, inputs: RowInputs, attrs: RowAttrs): boolean {
  const { x, weight, bias, operands = [] } = inputs;
  const views = [out, x, ...operands];
  const arena = commonArena([...views, weight, bias]);
  const grid = rowGrid(
    views.map((v) => v.layout),
    2,
  );
  const kind = floatKind(x.dtype);
  if (!arena || !grid || !kind || grid.strides[1]![2] !== 1 || grid.columns > maxRowColumns) return false;
  const strides = grid.strides.toSpliced(1, 1);
  const finish = planFinish(engine, arena, attrs.epilogue, [out, ...operands], strides, true);
  if (!finish) return false;
  const lift = (v: View | undefined) => (v?.dtype === "f32" ? addressOf(v) : v ? undefined : 0);
  const [w, b] = [lift(weight), lift(bias)];
  if (w === undefined || b === undefined) return false;
  const rows = grid.batch * grid.rows;
  const rowsPerTask = Math.max(1, Math.floor(taskElements / grid.columns));
  const [xBatch, xRow] = grid.strides[1]!;
  const words = wordsOf(rowArgs, {
    ...finish,
    ...{ rows, rowsPerBatch: grid.rows, columns: grid.columns, rowsPerTask },
    ...{ x: addressOf(x), xBatch: xBatch * elementBytes(x), xRow: xRow * elementBytes(x), xMode: operandModes[kind] },
    ...{ weight: w, bias: b, eps: floatBits(attrs.eps ?? 0), layer: attrs.kind === "layer" ? 1 : 0 },
  });
  engine.run(arena, kernel, words, Math.ceil(rows / rowsPerTask), rows * grid.columns >= threadedElements);
  return true;
}

const floatBits = (x: number): number => new Int32Array(Float32Array.of(x).buffer)[0]!;
