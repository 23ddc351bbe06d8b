// Elementwise expressions on generated code.
import type { ExprNode } from "../../../ops/expr.ts";
import type { View } from "../../../view.ts";
import { stretch } from "./blocking.ts";
import type { WasmEngine } from "./engine.ts";
import { commonArena, gridOf, placesOf, planFinish } from "./plan.ts";
import { hasAngles } from "./row-function.ts";
import { mapArgs } from "./row-kernels.ts";

const place = placesOf(mapArgs);
/** Fewest elements of a task, and from how many waking other threads pays. */
const [leastElements, threadedElements] = [16_384, 131_072];

/** Computes an expression of strided inputs; false when it is not covered, or met an argument that generated code leaves to the plain loops. */
export function fastMap(engine: WasmEngine, out: View, inputs: readonly View[], expr: ExprNode): boolean {
  const views = [out, ...inputs];
  const arena = commonArena(views);
  const grid = gridOf(views.map((v) => v.layout));
  if (!arena || !grid) return false;
  const finish = planFinish(engine, arena, expr, views, grid.strides, false);
  if (!finish) return false;
  const rows = grid.batch * grid.rows;
  const taskElements = stretch(rows * grid.columns, leastElements);
  const rowsPerTask = Math.max(1, Math.floor(taskElements / grid.columns));
  const tasks = rows === 1 ? Math.ceil(grid.columns / taskElements) : Math.ceil(rows / rowsPerTask);
  const { columns } = grid;
  const marked = hasAngles(expr);
  const mark = (finish.table >> 2) - 1;
  if (marked) arena.words[mark] = 0;
  const w = engine.blankArgs();
  w[place.slot] = finish.slot;
  w[place.table] = finish.table;
  w[place.rows] = rows;
  w[place.rowsPerBatch] = grid.rows;
  w[place.columns] = columns;
  w[place.rowsPerTask] = rowsPerTask;
  w[place.columnsPerTask] = taskElements;
  engine.run(arena, "map", w, tasks, engine.shares(rows * columns, threadedElements));
  if (!marked) return true;
  engine.settle();
  return arena.words[mark] === 0;
}
