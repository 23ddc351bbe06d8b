// Kernels that work row by row: maps, softmax, norms and rope, each ending in a row function that applies the expression and stores.
import { operandModes, scratch } from "./blocking.ts";
import { type Code, i32, type Local, type Module, v128 } from "./encoder.ts";
import type { Flavour, MatrixParts } from "./gemm.ts";
import { rowParams } from "./row-function.ts";
import { SimdMath } from "./simd-math.ts";

/** Words of a map job. With one row, tasks split its columns, else the rows. */
export const mapArgs = ["slot", "table", "rows", "rowsPerBatch", "columns", "rowsPerTask", "columnsPerTask"] as const;
/** Words of softmax and norm jobs; `x` is address, bytes per batch, bytes per row; weight and bias are f32 or 0. */
export const rowArgs = [
  ...["slot", "table", "rows", "rowsPerBatch", "columns", "rowsPerTask"],
  ...["x", "xBatch", "xRow", "xMode", "weight", "bias", "eps", "layer"],
] as const;
/** Longest row the scratch holds. */
export const maxRowColumns = 131_072;

/** Emits the exports `map`, `softmax` and `norm`. */
export function emitRowKernels(module: Module, { expand }: MatrixParts, { fma }: Flavour): void {
  const finish = module.signature(rowParams, []);
  emitMap(module, finish);
  emitRows(module, "softmax", finish, expand, (c, row, columns) => emitSoftmaxRow(c, new SimdMath(c, fma), row, columns));
  emitRows(module, "norm", finish, expand, (c, row, columns, words) => emitNormRow(c, new SimdMath(c, fma), row, columns, words));
}

/** Locals holding the words of a job. */
export function loadWords(c: Code, names: readonly string[]): Record<string, Local> {
  const words = Object.fromEntries(names.map((name) => [name, c.local(i32)]));
  names.forEach(
    (name, i) =>
      void c
        .get(1)
        .memory("i32.load", 4 * i)
        .set(words[name]!),
  );
  return words;
}

/** end = min(start + step, total) */
const pushEnd = (c: Code, start: Local, step: Local, total: Local, end: Local): Code =>
  c.get(start).get(step).op("i32.add").tee(end).get(total).get(end).get(total).op("i32.lt_s").op("select").set(end);

function emitMap(module: Module, finish: number): void {
  const c = module.func("map", [i32, i32, i32]);
  const w = loadWords(c, mapArgs) as Record<(typeof mapArgs)[number], Local>;
  const [row, end] = c.locals(i32, 2) as [Local, Local];
  c.get(w.rows).int(1).op("i32.eq").if();
  c.get(0).get(w.columnsPerTask).op("i32.mul").set(row);
  pushEnd(c, row, w.columnsPerTask, w.columns, end);
  c.get(w.table).int(0).int(0).get(row).get(end).get(row).op("i32.sub").int(0).get(w.slot).callIndirect(finish).op("return").end();
  c.get(0).get(w.rowsPerTask).op("i32.mul").set(row);
  pushEnd(c, row, w.rowsPerTask, w.rows, end);
  const each = () => {
    c.get(w.table).get(row).get(w.rowsPerBatch).op("i32.div_u").get(row).get(w.rowsPerBatch).op("i32.rem_u");
    c.int(0).get(w.columns).int(0).get(w.slot).callIndirect(finish);
  };
  c.forLess(row, end, 1, each, "here");
}

type RowBody = (c: Code, row: Local, columns: Local, words: Record<string, Local>) => void;

function emitRows(module: Module, name: string, finish: number, expand: Code, body: RowBody): void {
  const c = module.func(name, [i32, i32, i32]);
  const w = loadWords(c, rowArgs) as Record<string, Local>;
  const [row, end, from, values, batch, inner] = c.locals(i32, 6) as [Local, Local, Local, Local, Local, Local];
  c.get(0).get(w["rowsPerTask"]!).op("i32.mul").set(row);
  pushEnd(c, row, w["rowsPerTask"]!, w["rows"]!, end);
  c.get(2).int(scratch.wide).op("i32.add").set(values);
  const each = () => {
    c.get(row).get(w["rowsPerBatch"]!).op("i32.div_u").set(batch).get(row).get(w["rowsPerBatch"]!).op("i32.rem_u").set(inner);
    c.get(w["x"]!)
      .get(batch)
      .get(w["xBatch"]!)
      .op("i32.mul")
      .op("i32.add")
      .get(inner)
      .get(w["xRow"]!)
      .op("i32.mul")
      .op("i32.add")
      .set(from);
    c.get(w["xMode"]!).int(operandModes.f32).op("i32.eq").if();
    emitCopy(c, from, values, w["columns"]!);
    c.else().get(w["xMode"]!).get(from).get(values).get(w["columns"]!).call(expand).end();
    body(c, values, w["columns"]!, w);
    c.get(w["table"]!).get(batch).get(inner).int(0).get(w["columns"]!).get(values).get(w["slot"]!).callIndirect(finish);
  };
  c.forLess(row, end, 1, each, "here");
}

/** A loop over a row by vectors and then by single values; `visit` sees the lanes and the byte offset's local. */
export function overRow(c: Code, columns: Local, visit: (lanes: 1 | 4, offset: Local) => void): void {
  const [left, offset] = c.locals(i32, 2) as [Local, Local];
  c.get(columns).set(left).int(0).set(offset);
  for (const lanes of [4, 1] as const) {
    c.block().loop().get(left).int(lanes).op("i32.lt_s").branchIf(1);
    visit(lanes, offset);
    c.advance(offset, 4 * lanes)
      .advance(left, -lanes)
      .branch(0)
      .end()
      .end();
  }
}

/** Pushes base + offset. */
export const address = (c: Code, base: Local, offset: Local): Code => c.get(base).get(offset).op("i32.add");

function emitCopy(c: Code, from: Local, to: Local, columns: Local): void {
  overRow(c, columns, (lanes, offset) => {
    address(c, to, offset);
    address(c, from, offset);
    if (lanes === 4) c.memory("v128.load").memory("v128.store");
    else c.memory("f32.load").memory("f32.store");
  });
}

/** Combines the four lanes of a vector and spreads the result over all lanes. */
export function spread(c: Code, v: Local, op: "f32x4.add" | "f32x4.max"): void {
  c.get(v).get(v).get(v).shuffle(2, 3, 0, 1).op(op).set(v).get(v).get(v).get(v).shuffle(1, 0, 3, 2).op(op).set(v);
}

/** Loads four values, or one with the other lanes filled by `rest`. */
export function loadLanes(c: Code, math: SimdMath, base: Local, offset: Local, lanes: 1 | 4, rest: number): void {
  address(c, base, offset);
  math.load("f32", lanes);
  if (lanes === 1) c.floats(rest).shuffle(0, 4, 4, 4);
}

function emitSoftmaxRow(c: Code, math: SimdMath, row: Local, columns: Local): void {
  const [top, sum, y] = c.locals(v128, 3) as [Local, Local, Local];
  c.floats(Number.NEGATIVE_INFINITY).set(top);
  overRow(c, columns, (lanes, offset) => {
    c.get(top);
    loadLanes(c, math, row, offset, lanes, Number.NEGATIVE_INFINITY);
    c.op("f32x4.max").set(top);
  });
  spread(c, top, "f32x4.max");
  c.floats(0).set(sum);
  overRow(c, columns, (lanes, offset) => {
    loadLanes(c, math, row, offset, lanes, Number.NEGATIVE_INFINITY);
    c.get(top).op("f32x4.sub");
    math.exp();
    c.set(y).get(sum).get(y).op("f32x4.add").set(sum);
    address(c, row, offset).get(y);
    math.store("f32", lanes);
  });
  spread(c, sum, "f32x4.add");
  overRow(c, columns, (lanes, offset) => {
    address(c, row, offset);
    loadLanes(c, math, row, offset, lanes, 0);
    c.get(sum).op("f32x4.div");
    math.store("f32", lanes);
  });
}

function emitNormRow(c: Code, math: SimdMath, row: Local, columns: Local, w: Record<string, Local>): void {
  const [sum, mean, scale, x] = c.locals(v128, 4) as [Local, Local, Local, Local];
  const count = () => c.get(columns).op("f32.convert_i32_s").op("f32x4.splat");
  c.floats(0).set(mean).get(w["layer"]!).if().floats(0).set(sum);
  overRow(c, columns, (lanes, offset) => {
    c.get(sum);
    loadLanes(c, math, row, offset, lanes, 0);
    c.op("f32x4.add").set(sum);
  });
  spread(c, sum, "f32x4.add");
  c.get(sum)
    .use(() => count())
    .op("f32x4.div")
    .set(mean)
    .end();
  c.floats(0).set(sum);
  overRow(c, columns, (lanes, offset) => {
    loadLanes(c, math, row, offset, lanes, 0);
    c.get(mean).op("f32x4.sub").set(x);
    if (lanes === 1) c.get(x).floats(0).shuffle(0, 4, 4, 4).set(x);
    c.get(x).get(x).get(sum);
    math.madd();
    c.set(sum);
  });
  spread(c, sum, "f32x4.add");
  c.floats(1)
    .get(sum)
    .use(() => count())
    .op("f32x4.div")
    .get(w["eps"]!)
    .op("f32.reinterpret_i32")
    .op("f32x4.splat")
    .op("f32x4.add");
  c.op("f32x4.sqrt").op("f32x4.div").set(scale);
  overRow(c, columns, (lanes, offset) => {
    loadLanes(c, math, row, offset, lanes, 0);
    c.get(mean).op("f32x4.sub").get(scale).op("f32x4.mul").set(x);
    for (const [name, op] of [
      ["weight", "f32x4.mul"],
      ["bias", "f32x4.add"],
    ] as const) {
      c.get(w[name]!).if();
      c.get(x);
      loadLanes(c, math, w[name]!, offset, lanes, 0);
      c.op(op).set(x).end();
    }
    address(c, row, offset).get(x);
    math.store("f32", lanes);
  });
}
