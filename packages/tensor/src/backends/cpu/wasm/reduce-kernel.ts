// Sums, means, variances, 2-norms and extremes of contiguous stretches: in f64 lanes, as the plain loops count. A task is some of the results.
import { operandModes, scratch } from "./blocking.ts";
import { type Code, f64, i32, type Local, type Module, v128 } from "./encoder.ts";
import type { Flavour, MatrixParts } from "./gemm.ts";
import { loadLanes, loadWords, setEnd, spread, whileLeft } from "./loops.ts";
import { SimdMath } from "./simd-math.ts";

/** Words of a reduce job: each result is of `length` values; `divisor` of sums and variances is whole. Results are f32 in a row. */
export const reduceArgs = [
  ...(["kind", "x", "xBatch", "xRow", "xMode", "xBytes", "rows", "rowsPerBatch", "rowsPerTask", "length", "divisor", "out"] as const),
] as const;

/** What a job computes. */
export const reduceKinds = { sum: 0, var: 1, norm: 2, max: 3, min: 4 } as const;

/** Values worked on at a time. */
const chunk = 4096;

/** Emits the export `reduce`. */
export function emitReduce(module: Module, { expand }: MatrixParts, { fma }: Flavour): void {
  const c = module.func("reduce", [i32, i32, i32]).keepConstants();
  const w = loadWords(c, reduceArgs);
  const [row, end, base] = c.locals(i32, 3) as [Local, Local, Local];
  const row1 = new Reduction(c, new SimdMath(c, fma), expand, w, base);
  c.get(0).get(w.rowsPerTask).op("i32.mul").set(row);
  setEnd(c, row, w.rowsPerTask, w.rows, end);
  const each = () => {
    c.get(w.x).get(row).get(w.rowsPerBatch).op("i32.div_u").get(w.xBatch).op("i32.mul").op("i32.add");
    c.get(row).get(w.rowsPerBatch).op("i32.rem_u").get(w.xRow).op("i32.mul").op("i32.add").set(base);
    c.get(w.out).get(row).int(2).op("i32.shl").op("i32.add");
    c.get(w.kind).int(reduceKinds.max).op("i32.lt_s").ifFloat();
    row1.sums();
    c.else();
    row1.extremes();
    c.end().memory("f32.store");
  };
  c.forLess(row, end, 1, each, "here");
}

class Reduction {
  readonly #c: Code;
  readonly #math: SimdMath;
  readonly #expand: Code;
  readonly #w: Record<(typeof reduceArgs)[number], Local>;
  readonly #base: Local;
  readonly #zero: Local;

  constructor(c: Code, math: SimdMath, expand: Code, w: Record<(typeof reduceArgs)[number], Local>, base: Local) {
    this.#c = c;
    this.#math = math;
    this.#expand = expand;
    this.#w = w;
    this.#base = base;
    this.#zero = c.local(i32);
  }

  /** A loop over the values of a result in f32: `visit` sees the address local, its lanes and the number of the vector. */
  #values(vectors: number, visit: (lanes: 1 | 4, from: Local, vector: number) => void): void {
    const c = this.#c;
    const { xMode, xBytes, length } = this.#w;
    const [left, count, from, here] = c.locals(i32, 4) as [Local, Local, Local, Local];
    c.get(length).set(left).get(this.#base).set(here);
    c.block().loop().get(left).op("i32.eqz").branchIf(1);
    c.get(left).int(chunk).get(left).int(chunk).op("i32.lt_s").op("select").set(count);
    c.get(left).get(count).op("i32.sub").set(left).get(here).set(from);
    c.get(xMode).int(operandModes.f32).op("i32.ne").if();
    c.get(xMode).get(from).get(2).int(scratch.wide).op("i32.add").tee(from).get(count).call(this.#expand).end();
    c.get(here).get(count).get(xBytes).op("i32.mul").op("i32.add").set(here);
    for (const [lanes, unroll] of [
      [4, vectors],
      [4, 1],
      [1, 1],
    ] as const) {
      whileLeft(c, count, lanes * unroll, () => {
        for (let v = 0; v < unroll; v++) {
          visit(lanes, from, v);
          c.advance(from, 4 * lanes);
        }
      });
    }
    c.branch(0).end().end();
  }

  /** Leaves Σ x, or Σ (x - mean)² when there is a mean, as f64. */
  #sum(mean?: Local): void {
    const c = this.#c;
    const [sums, rest, x, d, wide] = [c.locals(v128, 4), c.local(f64), c.local(v128), c.local(v128), c.local(v128)];
    const scalar = c.local(f64);
    sums.forEach((s) => void c.floats(0).set(s));
    c.int(0).op("f64.convert_i32_s").set(rest);
    if (mean !== undefined) c.get(mean).op("f64x2.splat").set(wide);
    this.#values(2, (lanes, from, v) => {
      if (lanes === 1) {
        c.get(rest).get(from).memory("f32.load").op("f64.promote_f32");
        if (mean !== undefined) c.get(mean).op("f64.sub").tee(scalar).get(scalar).op("f64.mul");
        c.op("f64.add").set(rest);
        return;
      }
      c.get(from).memory("v128.load").set(x);
      for (const half of [0, 1]) {
        const to = sums[2 * v + half]!;
        c.get(to).get(x);
        if (half === 1) c.get(x).shuffle(2, 3, 0, 1);
        c.op("f64x2.promote_low_f32x4");
        if (mean !== undefined) c.get(wide).op("f64x2.sub").tee(d).get(d).op("f64x2.mul");
        c.op("f64x2.add").set(to);
      }
    });
    const [s0, s1, s2, s3] = sums as [Local, Local, Local, Local];
    c.get(s0).get(s1).op("f64x2.add").get(s2).get(s3).op("f64x2.add").op("f64x2.add").tee(s0).extract("f64x2.extract_lane", 0);
    c.get(s0).extract("f64x2.extract_lane", 1).op("f64.add").get(rest).op("f64.add");
  }

  /** Leaves the sum, variance or norm as f32. */
  sums(): void {
    const c = this.#c;
    const [total, mean] = c.locals(f64, 2) as [Local, Local];
    const count = (x: Local) => c.get(x).op("f64.convert_i32_s");
    count(this.#zero).set(total).get(this.#w.kind).int(reduceKinds.norm).op("i32.ne").if();
    this.#sum();
    c.set(total).end().get(this.#w.kind).int(reduceKinds.sum).op("i32.ne").if();
    c.get(total);
    count(this.#w.length).op("f64.div").set(mean);
    this.#sum(mean);
    c.set(total).end();
    c.get(this.#w.kind).int(reduceKinds.norm).op("i32.eq").ifFloat().get(total).op("f64.sqrt").op("f32.demote_f64");
    c.else().get(total);
    count(this.#w.divisor).op("f64.div").op("f32.demote_f64").end();
  }

  /** Leaves the largest or smallest value, NaN if there is one. */
  extremes(): void {
    const c = this.#c;
    const bests = c.locals(v128, 4);
    c.get(this.#w.kind).int(reduceKinds.max).op("i32.eq").ifFloat();
    for (const [op, start] of [
      ["f32x4.max", Number.NEGATIVE_INFINITY],
      ["f32x4.min", Number.POSITIVE_INFINITY],
    ] as const) {
      bests.forEach((s) => void c.floats(start).set(s));
      this.#values(4, (lanes, from, v) => {
        c.get(bests[v]!);
        loadLanes(c, this.#math, from, this.#zero, lanes, start);
        c.op(op).set(bests[v]!);
      });
      const [first, ...others] = bests as [Local, ...Local[]];
      for (const other of others) c.get(first).get(other).op(op).set(first);
      spread(c, first, op);
      c.get(first).extract("f32x4.extract_lane", 0);
      if (op === "f32x4.max") c.else();
    }
    c.end();
  }
}
