// Reductions over a dimension that is not the last in memory: rows are joined column by column, several at a time, so that what has been
// gathered is loaded and stored once for them all. Sums count in f64. A task is some of the columns.

import { type Code, i32, type Local, type Module, v128 } from "../../../wasm/encoder.ts";
import { type FloatKind, kindBytes } from "../../../wasm/simd-formats.ts";
import { scratch } from "./blocking.ts";
import type { Flavour } from "./flavour.ts";
import { loadWords, setEnd, whileLeft } from "./loops.ts";
import { SimdMath } from "./simd-math.ts";

/** Words of a job: `length` rows, `xRow` bytes apart, of each of `batches`; results are f32 in a row. */
export const columnArgs = [
  ...(["x", "xBatch", "xRow", "columns", "columnsPerTask", "parts", "length", "divisor", "out"] as const),
] as const;
/** What may be computed. */
export const columnKinds = ["sum", "norm", "var", "prod", "max", "min"] as const;
export type ColumnKind = (typeof columnKinds)[number];
/** Most columns of a task: what is gathered of them stays in the first-level cache beside the rows. */
export const maxTaskColumns = 512;

/** Rows joined at a time. */
const group = 8;
/** Bytes of what is gathered of four columns: two vectors. */
const slotBytes = 32;
/** Bytes of an array of slots: four columns each, the last three maybe one each. */
const arrayBytes = slotBytes * (maxTaskColumns / 4 + 4);

type Words = Record<(typeof columnArgs)[number], Local>;
type Lanes = 1 | 4;

/** The emitter of the export `columns.<kind>.<format>`. */
export const emitReduceColumns =
  (kind: ColumnKind, format: FloatKind) =>
  (module: Module, { fma }: Flavour): void => {
    const c = module.func(`columns.${kind}.${format}`, [i32, i32, i32]).keepConstants();
    const w = loadWords(c, columnArgs);
    const [column, end, count, base, batch] = c.locals(i32, 5) as [Local, Local, Local, Local, Local];
    c.get(0).get(w.parts).op("i32.div_u").set(batch);
    c.get(0).get(w.parts).op("i32.rem_u").get(w.columnsPerTask).op("i32.mul").set(column);
    setEnd(c, column, w.columnsPerTask, w.columns, end).get(end).get(column).op("i32.sub").set(count);
    c.get(w.x).get(batch).get(w.xBatch).op("i32.mul").op("i32.add");
    c.get(column).int(kindBytes[format]).op("i32.mul").op("i32.add").set(base);
    c.get(w.out).get(batch).get(w.columns).op("i32.mul").get(column).op("i32.add").int(2).op("i32.shl").op("i32.add").set(w.out);
    new Columns(c, new SimdMath(c, fma), w, { kind, format, base, count }).emit();
  };

interface Task {
  readonly kind: ColumnKind;
  readonly format: FloatKind;
  /** Address of the first row's part. */
  readonly base: Local;
  /** Columns of the task. */
  readonly count: Local;
}

class Columns {
  readonly #c: Code;
  readonly #math: SimdMath;
  readonly #w: Words;
  readonly #task: Task;
  /** Address of the slot at hand, and bytes from the start of a row. */
  readonly #slot: Local;
  readonly #offset: Local;
  readonly #x: Local;
  readonly #halves: readonly [Local, Local];
  /** The slot's vectors. */
  readonly #state: readonly Local[];
  readonly #first: readonly [Local, Local];

  constructor(c: Code, math: SimdMath, w: Words, task: Task) {
    this.#c = c;
    this.#math = math;
    this.#w = w;
    this.#task = task;
    [this.#slot, this.#offset] = c.locals(i32, 2) as [Local, Local];
    this.#x = c.local(v128);
    this.#halves = c.locals(v128, 2) as [Local, Local];
    this.#first = c.locals(v128, 2) as [Local, Local];
    this.#state = c.locals(v128, task.kind === "var" ? 4 : 2);
  }

  emit(): void {
    const c = this.#c;
    const { length, xRow } = this.#w;
    const [left, here] = c.locals(i32, 2) as [Local, Local];
    this.#begin();
    c.get(length).set(left).get(this.#task.base).set(here);
    for (const rows of [group, 1]) {
      const pointers = c.locals(i32, rows);
      whileLeft(c, left, rows, () => {
        for (const p of pointers) c.get(here).set(p).get(here).get(xRow).op("i32.add").set(here);
        this.#join(pointers);
      });
    }
    this.#finish();
  }

  /** Runs over the task's columns, four and then one at a time. */
  #across(visit: (lanes: Lanes) => void): void {
    const c = this.#c;
    const left = c.local(i32);
    c.get(this.#task.count).set(left).int(0).set(this.#offset);
    c.get(2).int(scratch.result).op("i32.add").set(this.#slot);
    for (const lanes of [4, 1] as const) {
      whileLeft(c, left, lanes, () => {
        visit(lanes);
        c.advance(this.#offset, lanes * kindBytes[this.#task.format]).advance(this.#slot, slotBytes);
      });
    }
  }

  /** x = columns of the row at `pointer`. */
  #load(pointer: Local, lanes: Lanes): void {
    const c = this.#c.get(pointer).get(this.#offset).op("i32.add");
    this.#math.load(this.#task.format, lanes);
    c.set(this.#x);
  }

  /** The f64 halves of x. */
  #widen(): void {
    const [low, high] = this.#halves;
    const c = this.#c.get(this.#x).op("f64x2.promote_low_f32x4").set(low);
    c.get(this.#x).get(this.#x).shuffle(2, 3, 0, 1).op("f64x2.promote_low_f32x4").set(high);
  }

  /** Where vector i of the state lies: two to a slot, then the next array of slots. */
  #place = (i: number): number => Math.floor(i / 2) * arrayBytes + (i % 2) * 16;

  /** Moves vectors between a slot of array `from` on and locals. */
  #transfer(direction: "load" | "store", vectors: readonly Local[], from = 0): void {
    vectors.forEach((v, i) => {
      this.#c.get(this.#slot);
      if (direction === "store") this.#c.get(v).memory("v128.store", this.#place(2 * from + i));
      else this.#c.memory("v128.load", this.#place(2 * from + i)).set(v);
    });
  }

  get #isExtreme(): boolean {
    return this.#task.kind === "max" || this.#task.kind === "min";
  }

  /** Sums begin with 0, products with 1, extremes with infinity and no NaN; variances remember the first row. */
  #begin(): void {
    const c = this.#c;
    const { kind, base } = this.#task;
    this.#across((lanes) => {
      if (kind === "prod") for (const s of this.#state) c.doubles(1).set(s);
      else for (const s of this.#state) c.floats(0).set(s);
      if (this.#isExtreme) c.floats(kind === "max" ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY).set(this.#state[0]!);
      this.#transfer("store", this.#state);
      if (kind !== "var") return;
      this.#load(base, lanes);
      this.#widen();
      this.#transfer("store", this.#halves, 2);
    });
  }

  /** Joins rows to what has been gathered. */
  #join(pointers: readonly Local[]): void {
    this.#across((lanes) => {
      this.#transfer("load", this.#state);
      if (this.#task.kind === "var") this.#transfer("load", this.#first, 2);
      for (const p of pointers) {
        this.#load(p, lanes);
        if (this.#isExtreme) this.#joinExtreme();
        else {
          this.#widen();
          this.#halves.forEach((half, i) => void this.#joinHalf(half, i));
        }
      }
      this.#transfer("store", this.#state);
    });
  }

  /** The second vector marks what is no number, which the pseudo-extremes skip. */
  #joinExtreme(): void {
    const [best, strange] = this.#state as [Local, Local];
    const x = this.#x;
    this.#c
      .get(best)
      .get(x)
      .op(this.#task.kind === "max" ? "f32x4.pmax" : "f32x4.pmin")
      .set(best);
    this.#c.get(strange).get(x).get(x).op("f32x4.ne").op("v128.or").set(strange);
  }

  #joinHalf(x: Local, half: number): void {
    const c = this.#c;
    const { kind } = this.#task;
    const [sum, squares] = [this.#state[half]!, this.#state[2 + half]!];
    if (kind === "var")
      c.get(x).get(this.#first[half]!).op("f64x2.sub").set(x).get(squares).get(x).get(x).op("f64x2.mul").op("f64x2.add").set(squares);
    c.get(sum).get(x);
    if (kind === "norm") c.get(x).op("f64x2.mul");
    c.op(kind === "prod" ? "f64x2.mul" : "f64x2.add").set(sum);
  }

  #finish(): void {
    const c = this.#c;
    const { length, divisor, out } = this.#w;
    const [n, by] = c.locals(v128, 2) as [Local, Local];
    const whole = (x: Local, to: Local) => c.get(x).op("f64.convert_i32_s").op("f64x2.splat").set(to);
    whole(length, n);
    whole(divisor, by);
    this.#across((lanes) => {
      this.#transfer("load", this.#state);
      c.get(out);
      if (this.#isExtreme) c.get(this.#state[0]!).get(this.#state[1]!).op("v128.or");
      else {
        for (const half of [0, 1]) {
          this.#result(half, n, by);
          c.op("f32x4.demote_f64x2_zero");
        }
        c.shuffle(0, 1, 4, 5);
      }
      this.#math.store("f32", lanes);
      c.advance(out, 4 * lanes);
    });
  }

  /** Leaves two results as f64. */
  #result(half: number, n: Local, by: Local): void {
    const { kind } = this.#task;
    const [sum, squares] = [this.#state[half]!, this.#state[2 + half]!];
    const c = this.#c;
    if (kind !== "var") {
      c.get(sum);
      if (kind === "norm") c.op("f64x2.sqrt");
      else if (kind === "sum") c.get(by).op("f64x2.div");
      return;
    }
    // Rounding may leave less than nothing.
    c.get(squares).get(sum).get(sum).op("f64x2.mul").get(n).op("f64x2.div").op("f64x2.sub").doubles(0).op("f64x2.pmax");
    c.get(by).op("f64x2.div");
  }
}
