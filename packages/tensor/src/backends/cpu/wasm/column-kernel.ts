// Reductions over a dimension that is not the last in memory: rows are added up column by column, in f64. A task is some of the columns.
import { operandModes, scratch } from "./blocking.ts";
import { type Code, f64, i32, type Local, type Module, v128 } from "./encoder.ts";
import { emitExpand } from "./expand.ts";
import type { Flavour } from "./gemm.ts";
import { loadWords, setEnd, whileLeft } from "./loops.ts";
import { reduceKinds } from "./reduce-kernel.ts";

/** Words of a reduceColumns job: `length` rows, `xRow` bytes apart, of each of `batches`; results are f32 in a row. */
export const columnArgs = [
  ...(["kind", "x", "xBatch", "xRow", "xMode", "xBytes", "columns", "columnsPerTask", "parts", "length", "divisor", "out"] as const),
] as const;
/** Most columns of a task. */
export const maxTaskColumns = 1024;
/** What a job may compute. */
export const columnKinds: ReadonlySet<string> = new Set(["sum", "norm", "var", "max", "min"]);

/** Where sums, squares and the first row lie in scratch. */
const [sums, squares, first] = [scratch.result, scratch.result + 8 * maxTaskColumns, scratch.result + 16 * maxTaskColumns];

type Words = Record<(typeof columnArgs)[number], Local>;

/** Emits the export `reduceColumns`. */
export function emitReduceColumns(module: Module, { fma }: Flavour): void {
  const expand = emitExpand(module, fma);
  const c = module.func("reduceColumns", [i32, i32, i32]).keepConstants();
  const w = loadWords(c, columnArgs);
  const [column, end, count, base, batch] = c.locals(i32, 5) as [Local, Local, Local, Local, Local];
  c.get(0).get(w.parts).op("i32.div_u").set(batch);
  c.get(0).get(w.parts).op("i32.rem_u").get(w.columnsPerTask).op("i32.mul").set(column);
  setEnd(c, column, w.columnsPerTask, w.columns, end).get(end).get(column).op("i32.sub").set(count);
  c.get(w.x).get(batch).get(w.xBatch).op("i32.mul").op("i32.add").get(column).get(w.xBytes).op("i32.mul").op("i32.add").set(base);
  c.get(w.out).get(batch).get(w.columns).op("i32.mul").get(column).op("i32.add").int(2).op("i32.shl").op("i32.add").set(w.out);
  const columns = new Columns(c, w, expand, base, count);
  const kinds: readonly [keyof typeof reduceKinds, () => void][] = [
    ["sum", () => columns.sums("sum")],
    ["norm", () => columns.sums("norm")],
    ["var", () => columns.sums("var")],
    ["max", () => columns.extremes("max")],
    ["min", () => columns.extremes("min")],
  ];
  for (const [kind, emit] of kinds) {
    c.get(w.kind).int(reduceKinds[kind]).op("i32.eq").if();
    emit();
    c.op("return").end();
  }
}

class Columns {
  readonly #c: Code;
  readonly #w: Words;
  readonly #expand: Code;
  readonly #base: Local;
  readonly #count: Local;

  constructor(c: Code, w: Words, expand: Code, base: Local, count: Local) {
    this.#c = c;
    this.#w = w;
    this.#expand = expand;
    this.#base = base;
    this.#count = count;
  }

  /** Runs over the task's columns of one row of f32 at `from`: `visit` sees the lanes and the local of the byte offset. */
  #across(visit: (lanes: 1 | 4, offset: Local) => void): void {
    const c = this.#c;
    const [left, offset] = c.locals(i32, 2) as [Local, Local];
    c.get(this.#count).set(left).int(0).set(offset);
    for (const lanes of [4, 1] as const) {
      whileLeft(c, left, lanes, () => {
        visit(lanes, offset);
        c.advance(offset, 4 * lanes);
      });
    }
  }

  /** A loop over the rows, each in f32 at `from`. */
  #rows(visit: (from: Local) => void): void {
    const c = this.#c;
    const [row, here, from] = c.locals(i32, 3) as [Local, Local, Local];
    c.get(this.#base).set(here);
    const each = () => {
      c.get(here).set(from).get(this.#w.xMode).int(operandModes.f32).op("i32.ne").if();
      c.get(this.#w.xMode).get(here).get(2).int(scratch.wide).op("i32.add").tee(from).get(this.#count).call(this.#expand).end();
      visit(from);
      c.get(here).get(this.#w.xRow).op("i32.add").set(here);
    };
    c.forLess(row, this.#w.length, 1, each);
  }

  /** Pushes scratch + offset, or twice the offset for f64. */
  #at(offset: Local, wide: boolean): Code {
    const c = this.#c.get(2).get(offset);
    if (wide) c.int(1).op("i32.shl");
    return c.op("i32.add");
  }

  #fill(at: number, bytesEach: number): void {
    this.#c.get(2).int(at).op("i32.add").int(0).get(this.#count).int(bytesEach).op("i32.mul").fillBytes();
  }

  /** Sums, 2-norms, or variances by the sums and squares of distances from the first row. */
  sums(kind: "sum" | "norm" | "var"): void {
    const c = this.#c;
    this.#fill(sums, 8);
    this.#fill(squares, 8);
    this.#fill(first, 4);
    const [x, d, start] = [c.local(v128), c.local(v128), c.local(i32)];
    if (kind === "var") c.int(1).set(start);
    this.#rows((from) => {
      if (kind === "var") {
        c.get(start)
          .if()
          .int(0)
          .set(start)
          .get(2)
          .int(first)
          .op("i32.add")
          .get(from)
          .get(this.#count)
          .int(2)
          .op("i32.shl")
          .copyBytes()
          .end();
      }
      this.#across((lanes, offset) => {
        c.get(from).get(offset).op("i32.add");
        c.memory(lanes === 4 ? "v128.load" : "v128.load32_zero").set(x);
        for (const half of lanes === 4 ? [0, 1] : [0]) this.#addHalf(kind, lanes, offset, half, x, d);
      });
    });
    this.#finishSums(kind);
  }

  /** Adds two columns of the vector x (or the one it holds, and nothing to the next) to their sums. */
  #addHalf(kind: "sum" | "norm" | "var", lanes: 1 | 4, offset: Local, half: number, x: Local, d: Local): void {
    const c = this.#c;
    c.get(x);
    if (half === 1) c.get(x).shuffle(2, 3, 0, 1);
    c.op("f64x2.promote_low_f32x4");
    if (kind === "var")
      this.#at(offset, false)
        .memory(lanes === 4 ? "v128.load64_zero" : "v128.load32_zero", first + 8 * half)
        .op("f64x2.promote_low_f32x4")
        .op("f64x2.sub");
    c.set(d);
    if (kind !== "norm") this.#accumulate(offset, sums + 16 * half, () => c.get(d));
    if (kind !== "sum") this.#accumulate(offset, squares + 16 * half, () => c.get(d).get(d).op("f64x2.mul"));
  }

  #accumulate(offset: Local, at: number, value: () => unknown): void {
    const c = this.#c;
    this.#at(offset, true);
    this.#at(offset, true).memory("v128.load", at);
    value();
    c.op("f64x2.add").memory("v128.store", at);
  }

  #finishSums(kind: "sum" | "norm" | "var"): void {
    const c = this.#c;
    const { length, divisor, out } = this.#w;
    const [index, offset] = c.locals(i32, 2) as [Local, Local];
    const sum = c.local(f64);
    const whole = (n: Local) => c.get(n).op("f64.convert_i32_s");
    const store = () => {
      c.get(index).int(2).op("i32.shl").set(offset).get(out).get(offset).op("i32.add");
      const load = (at: number) => this.#at(offset, true).memory("v128.load64_zero", at).extract("f64x2.extract_lane", 0);
      load(kind === "sum" ? sums : squares);
      if (kind === "norm") c.op("f64.sqrt");
      if (kind === "var") {
        load(sums).set(sum).get(sum).get(sum).op("f64.mul");
        whole(length).op("f64.div").op("f64.sub").float(0).op("f64.promote_f32").op("f64.max");
      }
      if (kind !== "norm") whole(divisor).op("f64.div");
      c.op("f32.demote_f64").memory("f32.store");
    };
    c.forLess(index, this.#count, 1, store);
  }

  /** The largest or smallest of each column, NaN if there is one. */
  extremes(kind: "max" | "min"): void {
    const c = this.#c;
    const start = kind === "max" ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
    const best = c.local(v128);
    const put = (lanes: 1 | 4) => {
      if (lanes === 4) c.memory("v128.store");
      else c.storeLane("v128.store32_lane", 0);
    };
    const out = (offset: Local) => c.get(this.#w.out).get(offset).op("i32.add");
    this.#across((lanes, offset) => {
      out(offset).floats(start);
      put(lanes);
    });
    this.#rows((from) => {
      this.#across((lanes, offset) => {
        const load = lanes === 4 ? "v128.load" : "v128.load32_zero";
        out(offset).memory(load).get(from).get(offset).op("i32.add").memory(load).op(`f32x4.${kind}`).set(best);
        out(offset).get(best);
        put(lanes);
      });
    });
  }
}
