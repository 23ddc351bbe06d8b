// Kernels that work row by row: maps, softmax, norms and rope. Rows of f32 are read where they lie; a plain f32 result is stored
// directly, any other goes through a row function that applies the expression and rounds.

import { type Code, i32, type Local, type Module, v128 } from "../../../wasm/encoder.ts";
import { operandModes, scratch } from "./blocking.ts";
import { emitExpand } from "./expand.ts";
import type { Flavour } from "./flavour.ts";
import { address, loadLanes, loadWords, overVectors, setEnd, spread } from "./loops.ts";
import { rowParams } from "./row-function.ts";
import { overShares } from "./shares.ts";
import { SimdMath } from "./simd-math.ts";

export { address, loadLanes, loadWords, overRow, spread } from "./loops.ts";

/** Words of a map job. With one row, tasks split its columns, else the rows. */
export const mapArgs = ["slot", "table", "rows", "rowsPerBatch", "columns", "rowsPerTask", "columnsPerTask"] as const;
/**
 * Words of row jobs. Operands are address, bytes per batch, bytes per row; slot 0 stores f32 rows without a row function.
 * `weight` and `bias` (0 for none) are vectors, in rope cosines and sines with strides; `layer` is 1 for layer norm, log-softmax and
 * interleaved pairs; `head` is the weight of a norm before rope.
 */
export const rowArgs = [
  ...(["slot", "table", "rows", "rowsPerBatch", "columns", "rowsPerTask", "x", "xBatch", "xRow", "xMode"] as const),
  ...([
    "weight",
    "weightMode",
    "weightBatch",
    "weightRow",
    "bias",
    "biasMode",
    "biasBatch",
    "biasRow",
    "eps",
    "layer",
    "head",
    "headMode",
  ] as const),
] as const;
/** Longest row the scratch holds. */
export const maxRowColumns = 131_072;

type Words = Record<(typeof rowArgs)[number], Local>;
/** Emits the work on one row, from f32 at `from` to f32 at `to`; `row` gives its place. */
type RowBody = (from: Local, to: Local, words: Words, row: { batch: Local; inner: Local }) => void;

/** Emits the export `map`. */
export function emitMap(module: Module): void {
  const finish = module.signature(rowParams, []);
  const c = module.func("map", [i32, i32, i32]);
  const w = loadWords(c, mapArgs);
  const [row, end] = c.locals(i32, 2) as [Local, Local];
  c.get(w.rows).int(1).op("i32.eq").if();
  c.get(0).get(w.columnsPerTask).op("i32.mul").set(row);
  setEnd(c, row, w.columnsPerTask, w.columns, end);
  c.get(w.table)
    .int(0)
    .int(0)
    .get(row)
    .get(end)
    .get(row)
    .op("i32.sub")
    .int(0)
    .get(2)
    .int(scratch.staged)
    .op("i32.add")
    .get(w.slot)
    .callIndirect(finish)
    .op("return")
    .end();
  c.get(0).get(w.rowsPerTask).op("i32.mul").set(row);
  setEnd(c, row, w.rowsPerTask, w.rows, end);
  const each = () => {
    c.get(w.table).get(row).get(w.rowsPerBatch).op("i32.div_u").get(row).get(w.rowsPerBatch).op("i32.rem_u");
    c.int(0).get(w.columns).int(0).get(2).int(scratch.staged).op("i32.add").get(w.slot).callIndirect(finish);
  };
  c.forLess(row, end, 1, each, "here");
}

/** Pushes base + batch · per batch + inner · per row. */
function rowAddress(c: Code, base: Local, perBatch: Local, perRow: Local, batch: Local, inner: Local): Code {
  return c.get(base).get(batch).get(perBatch).op("i32.mul").op("i32.add").get(inner).get(perRow).op("i32.mul").op("i32.add");
}

/** Makes the vector at `base` f32 in scratch, unless it is (or absent: then its mode is 0, too). */
export function widenVector(c: Code, expand: Code, base: Local, mode: Local, columns: Local, scratchAt: number): void {
  c.get(mode).if();
  c.get(mode).get(base).get(2).int(scratchAt).op("i32.add").get(columns).call(expand);
  c.get(2).int(scratchAt).op("i32.add").set(base).end();
}

interface RowFrame {
  readonly finish: number;
  readonly expand: Code;
  /** Whether weight and bias are one vector for all rows. */
  readonly vectors: boolean;
}

/** The emitter of a kernel whose rows `body` works on; `vectors`: whether weight and bias are one vector for all rows. */
const rowKernel =
  (name: string, vectors: boolean, body: (c: Code, math: SimdMath) => RowBody) =>
  (module: Module, { fma }: Flavour): void => {
    const expand = emitExpand(module, fma);
    const finish = module.signature(rowParams, []);
    const c = module.func(name, [i32, i32, i32]).keepConstants();
    emitRows(c, { finish, expand, vectors }, body(c, new SimdMath(c, fma)));
  };

function emitRows(c: Code, { finish, expand, vectors }: RowFrame, body: RowBody): void {
  const w = loadWords(c, rowArgs);
  const [row, end, from, to, batch, inner] = c.locals(i32, 6) as [Local, Local, Local, Local, Local, Local];
  const [out, outBatch, outRow] = c.locals(i32, 3) as [Local, Local, Local];
  [out, outBatch, outRow].forEach(
    (local, i) =>
      void c
        .get(w.table)
        .memory("i32.load", 4 * i)
        .set(local),
  );
  widenVector(c, expand, w.head, w.headMode, w.columns, scratch.packedB);
  if (vectors) {
    widenVector(c, expand, w.weight, w.weightMode, w.columns, scratch.wide + 4 * maxRowColumns);
    widenVector(c, expand, w.bias, w.biasMode, w.columns, scratch.packedB);
  }
  c.get(0).get(w.rowsPerTask).op("i32.mul").set(row);
  setEnd(c, row, w.rowsPerTask, w.rows, end);
  const each = () => {
    c.get(row).get(w.rowsPerBatch).op("i32.div_u").set(batch).get(row).get(w.rowsPerBatch).op("i32.rem_u").set(inner);
    rowAddress(c, w.x, w.xBatch, w.xRow, batch, inner).set(from);
    c.get(w.xMode).int(operandModes.f32).op("i32.ne").if();
    c.get(w.xMode).get(from).get(2).int(scratch.wide).op("i32.add").tee(from).get(w.columns).call(expand).end();
    c.get(w.slot).if().get(2).int(scratch.result).op("i32.add").set(to).else();
    rowAddress(c, out, outBatch, outRow, batch, inner).set(to).end();
    body(from, to, w, { batch, inner });
    c.get(w.slot).if();
    c.get(w.table)
      .get(batch)
      .get(inner)
      .int(0)
      .get(w.columns)
      .get(to)
      .get(2)
      .int(scratch.staged)
      .op("i32.add")
      .get(w.slot)
      .callIndirect(finish)
      .end();
  };
  c.forLess(row, end, 1, each, "here");
}

/** Joins vectors pairwise into the first, then its lanes, and gives it. */
export function combine(c: Code, sums: readonly Local[], op: "f32x4.add" | "f32x4.pmax"): Local {
  for (let half = sums.length / 2; half >= 1; half /= 2)
    for (let i = 0; i < half; i++)
      c.get(sums[i]!)
        .get(sums[i + half]!)
        .op(op)
        .set(sums[i]!);
  spread(c, sums[0]!, op);
  return sums[0]!;
}

/** Sets every sum to one value. */
export const fillAll = (c: Code, sums: readonly Local[], value: number): void => sums.forEach((s) => void c.floats(value).set(s));

const softmaxRow =
  (c: Code, math: SimdMath): RowBody =>
  (row, to, { columns, layer }) => {
    const tops = c.locals(v128, 4);
    const sums = c.locals(v128, 2);
    // A NaN that the maximum skips comes back through the sum.
    fillAll(c, tops, Number.NEGATIVE_INFINITY);
    overVectors(c, columns, 4, (lanes, offset, at, v) => {
      c.get(tops[v]!);
      loadLanes(c, math, row, offset, lanes, Number.NEGATIVE_INFINITY, at);
      c.op("f32x4.pmax").set(tops[v]!);
    });
    const top = combine(c, tops, "f32x4.pmax");
    /** The sum of all weights, which `visit` sees; that of the maximum is `shareOfZero`. */
    const weights = (visit: (weight: Local, lanes: 1 | 4, offset: Local, at: number) => void = () => {}) => {
      fillAll(c, sums, 0);
      overShares(c, math, { from: row, columns, top }, (weight, lanes, offset, at, v) => {
        const sum = sums[v % 2]!;
        c.get(sum).get(weight).op("f32x4.add").set(sum);
        visit(weight, lanes, offset, at);
      });
      return combine(c, sums, "f32x4.add");
    };
    const each = (from: Local, change: () => void) =>
      overVectors(c, columns, 4, (lanes, offset, at) => {
        address(c, to, offset);
        loadLanes(c, math, from, offset, lanes, 0, at);
        change();
        math.store("f32", lanes, at);
      });
    c.get(layer).if();
    const all = weights();
    c.get(all)
      .floats(1 / math.shareOfZero)
      .op("f32x4.mul");
    math.log();
    c.set(all);
    each(row, () => void c.get(top).op("f32x4.sub").get(all).op("f32x4.sub"));
    c.else();
    const sum = weights((weight, lanes, offset, at) => {
      address(c, to, offset).get(weight);
      math.store("f32", lanes, at);
    });
    c.floats(1).get(sum).op("f32x4.div").set(sum);
    each(to, () => void c.get(sum).op("f32x4.mul"));
    c.end();
  };

const normRow =
  (c: Code, math: SimdMath): RowBody =>
  (row, to, w) => {
    const sums = c.locals(v128, 4);
    const [mean, scale, x, first] = c.locals(v128, 4) as [Local, Local, Local, Local];
    const count = () => c.get(w.columns).op("f32.convert_i32_s").op("f32x4.splat");
    c.floats(0).set(mean).get(w.layer).if();
    fillAll(c, sums, 0);
    // Sums of distances from the first value: equal values have exactly themselves as mean.
    c.get(row).memory("v128.load32_splat").set(first);
    overVectors(c, w.columns, 4, (lanes, offset, at, v) => {
      loadLanes(c, math, row, offset, lanes, 0, at);
      c.get(first).op("f32x4.sub").set(x);
      if (lanes === 1) c.get(x).floats(0).shuffle(0, 4, 4, 4).set(x);
      c.get(sums[v]!).get(x).op("f32x4.add").set(sums[v]!);
    });
    c.get(combine(c, sums, "f32x4.add"));
    count().op("f32x4.div").get(first).op("f32x4.add").set(mean).end();
    fillAll(c, sums, 0);
    overVectors(c, w.columns, 4, (lanes, offset, at, v) => {
      loadLanes(c, math, row, offset, lanes, 0, at);
      c.get(mean).op("f32x4.sub").set(x);
      if (lanes === 1) c.get(x).floats(0).shuffle(0, 4, 4, 4).set(x);
      c.get(x).get(x).get(sums[v]!);
      math.madd();
      c.set(sums[v]!);
    });
    const sum = combine(c, sums, "f32x4.add");
    c.floats(1).get(sum);
    count().op("f32x4.div").get(w.eps).op("f32.reinterpret_i32").op("f32x4.splat").op("f32x4.add");
    c.op("f32x4.sqrt").op("f32x4.div").set(scale);
    emitAffine(c, math, row, to, w, mean, scale);
  };

/** to = (row - mean) · scale · weight + bias, by which of the two vectors there are. */
function emitAffine(c: Code, math: SimdMath, row: Local, to: Local, w: Words, mean: Local, scale: Local): void {
  const loop = (weight: boolean, bias: boolean) =>
    overVectors(c, w.columns, 2, (lanes, offset, at) => {
      address(c, to, offset);
      loadLanes(c, math, row, offset, lanes, 0, at);
      c.get(mean).op("f32x4.sub").get(scale).op("f32x4.mul");
      if (weight) {
        loadLanes(c, math, w.weight, offset, lanes, 0, at);
        c.op("f32x4.mul");
      }
      if (bias) {
        loadLanes(c, math, w.bias, offset, lanes, 0, at);
        c.op("f32x4.add");
      }
      math.store("f32", lanes, at);
    });
  c.get(w.weight).if().get(w.bias).if();
  loop(true, true);
  c.else();
  loop(true, false);
  c.end().else().get(w.bias).if();
  loop(false, true);
  c.else();
  loop(false, false);
  c.end().end();
}

const flipSigns = [0x80000000, 0, 0x80000000, 0] as const;

/** Pushes the four values at a byte offset of a row. */
type LoadVector = (offset: Local) => Code;

/** Pairs side by side (`layer`) or half a row apart; rows are whole vectors, halves too in the second case. */
const ropeRow =
  (c: Code, math: SimdMath): RowBody =>
  (row, to, w, place) => {
    emitTurn(c, math, to, w, place, (offset) => address(c, row, offset).memory("v128.load"));
  };

/** The RMS norm of a row of whole vectors, then rope. */
const normRopeRow =
  (c: Code, math: SimdMath): RowBody =>
  (row, to, w, place) => {
    const sums = c.locals(v128, 4);
    const [x, scale] = c.locals(v128, 2) as [Local, Local];
    fillAll(c, sums, 0);
    overVectors(c, w.columns, 4, (lanes, offset, at, v) => {
      if (lanes === 1) return;
      loadLanes(c, math, row, offset, lanes, 0, at);
      c.tee(x).get(x).get(sums[v]!);
      math.madd();
      c.set(sums[v]!);
    });
    c.floats(1)
      .get(combine(c, sums, "f32x4.add"))
      .get(w.columns)
      .op("f32.convert_i32_s")
      .op("f32x4.splat")
      .op("f32x4.div");
    c.get(w.eps).op("f32.reinterpret_i32").op("f32x4.splat").op("f32x4.add").op("f32x4.sqrt").op("f32x4.div").set(scale);
    const scaled = (offset: Local): Code => address(c, row, offset).memory("v128.load").get(scale).op("f32x4.mul");
    c.get(w.head).if();
    emitTurn(c, math, to, w, place, (offset) => address(scaled(offset), w.head, offset).memory("v128.load").op("f32x4.mul"));
    c.else();
    emitTurn(c, math, to, w, place, scaled);
    c.end();
  };

function emitTurn(c: Code, math: SimdMath, to: Local, w: Words, { batch, inner }: { batch: Local; inner: Local }, load: LoadVector): void {
  const [cos, sin, offset, half, far] = c.locals(i32, 5) as [Local, Local, Local, Local, Local];
  const [x, s, y] = c.locals(v128, 3) as [Local, Local, Local];
  rowAddress(c, w.weight, w.weightBatch, w.weightRow, batch, inner).set(cos);
  rowAddress(c, w.bias, w.biasBatch, w.biasRow, batch, inner).set(sin);
  c.get(w.columns).int(2).op("i32.shl").set(half).get(w.layer).if();
  c.forLess(offset, half, 16, () => {
    load(offset).set(x);
    c.get(sin).memory("v128.load64_zero").set(s);
    address(c, to, offset);
    c.get(x).get(x).get(x).shuffle(1, 0, 3, 2).get(s).get(s).shuffle(0, 0, 1, 1).words(flipSigns).op("v128.xor").op("f32x4.mul").set(y);
    c.get(cos).memory("v128.load64_zero").set(s).get(s).get(s).shuffle(0, 0, 1, 1).get(y);
    math.madd();
    c.memory("v128.store").advance(cos, 8).advance(sin, 8);
  });
  c.else().get(half).int(1).op("i32.shr_u").set(half);
  c.forLess(offset, half, 16, () => {
    address(c, offset, half).set(far);
    load(offset).set(x);
    load(far).set(y);
    address(c, sin, offset).memory("v128.load").set(s);
    for (const [part, near, other] of [
      ["low", x, y],
      ["high", y, x],
    ] as const) {
      address(c, to, part === "low" ? offset : far).get(near);
      address(c, cos, offset).memory("v128.load").get(other).get(s).op("f32x4.mul");
      if (part === "low") c.op("f32x4.neg");
      math.madd();
      c.memory("v128.store");
    }
  });
  c.end();
}

/** Emits the export `softmax`. */
export const emitSoftmax = rowKernel("softmax", false, softmaxRow);
/** Emits the export `norm`. */
export const emitNorm = rowKernel("norm", true, normRow);
/** Emits the export `rope`. */
export const emitRope = rowKernel("rope", false, ropeRow);
/** Emits the export `qkNormRope`. */
export const emitQkNormRope = rowKernel("qkNormRope", false, normRopeRow);
