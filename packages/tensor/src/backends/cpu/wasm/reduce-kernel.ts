// Reductions of contiguous stretches. Sums, products and norms count in f64, as the plain loops do; variances are those of chunks that stay in
// the first-level cache, merged in f64 (Chan, Golub and LeVeque 1979). A task is some of the results.

import { type Code, f32, f64, i32, type Local, type Module, v128 } from "../../../wasm/encoder.ts";
import { operandModes, scratch } from "./blocking.ts";
import { emitExpand } from "./expand.ts";
import type { Flavour } from "./flavour.ts";
import { loadLanes, loadWords, overVectors, setEnd, spread, whileLeft } from "./loops.ts";
import { chunkMoments } from "./moments.ts";
import { combine, fillAll } from "./row-kernels.ts";
import { overShares } from "./shares.ts";
import { SimdMath } from "./simd-math.ts";

/** Words of a job: each result is of `length` values; `divisor` of sums and variances is whole. Results are f32 in a row, places i32. */
export const reduceArgs = [
  ...(["x", "xBatch", "xRow", "xMode", "xBytes", "rows", "rowsPerBatch", "rowsPerTask", "length", "divisor", "out"] as const),
] as const;

/** What may be computed. */
export const rowKinds = ["sum", "norm", "var", "prod", "logSumExp", "max", "min", "argmax", "argmin"] as const;
export type RowKind = (typeof rowKinds)[number];

/** Values worked on at a time. */
const chunk = 4096;

/** The emitter of the export `rows.<kind>`. */
export const emitReduceRows =
  (kind: RowKind) =>
  (module: Module, { fma }: Flavour): void => {
    const expand = emitExpand(module, fma);
    const c = module.func(`rows.${kind}`, [i32, i32, i32]).keepConstants();
    const w = loadWords(c, reduceArgs);
    const [row, end, base] = c.locals(i32, 3) as [Local, Local, Local];
    const reduction = new Reduction(c, new SimdMath(c, fma), expand, w, base);
    c.get(0).get(w.rowsPerTask).op("i32.mul").set(row);
    setEnd(c, row, w.rowsPerTask, w.rows, end);
    const each = () => {
      c.get(w.x).get(row).get(w.rowsPerBatch).op("i32.div_u").get(w.xBatch).op("i32.mul").op("i32.add");
      c.get(row).get(w.rowsPerBatch).op("i32.rem_u").get(w.xRow).op("i32.mul").op("i32.add").set(base);
      c.get(w.out).get(row).int(2).op("i32.shl").op("i32.add");
      reduction.emit(kind);
      c.memory("f32.store");
    };
    c.forLess(row, end, 1, each, "here");
  };

class Reduction {
  readonly #c: Code;
  readonly #math: SimdMath;
  readonly #expand: Code;
  readonly #w: Record<(typeof reduceArgs)[number], Local>;
  readonly #base: Local;
  readonly #zero: Local;
  readonly #candidate: Local;

  constructor(c: Code, math: SimdMath, expand: Code, w: Record<(typeof reduceArgs)[number], Local>, base: Local) {
    this.#c = c;
    this.#math = math;
    this.#expand = expand;
    this.#w = w;
    this.#base = base;
    this.#zero = c.local(i32);
    this.#candidate = c.local(v128);
  }

  /** Leaves the result as f32 (of integers, their bits). */
  emit(kind: RowKind): void {
    const kinds: Record<RowKind, () => void> = {
      sum: () => this.#sums(),
      norm: () => this.#norm(),
      var: () => this.#variance(),
      prod: () => this.#product(),
      logSumExp: () => this.#logSumExp(),
      max: () => this.#extreme("max"),
      min: () => this.#extreme("min"),
      argmax: () => this.#place("max"),
      argmin: () => this.#place("min"),
    };
    kinds[kind]();
  }

  /** A loop over chunks of a result's values: `visit` sees the address of a chunk in f32, its size and the values before it. */
  #chunks(visit: (from: Local, count: Local, done: Local) => void): void {
    const c = this.#c;
    const { xMode, xBytes, length } = this.#w;
    const [left, count, from, here, done] = c.locals(i32, 5) as [Local, Local, Local, Local, Local];
    c.get(length).set(left).get(this.#base).set(here).int(0).set(done);
    c.block().loop().get(left).op("i32.eqz").branchIf(1);
    c.get(left).int(chunk).get(left).int(chunk).op("i32.lt_s").op("select").set(count);
    c.get(left).get(count).op("i32.sub").set(left).get(here).set(from);
    c.get(xMode).int(operandModes.f32).op("i32.ne").if();
    c.get(xMode).get(from).get(2).int(scratch.wide).op("i32.add").tee(from).get(count).call(this.#expand).end();
    c.get(here).get(count).get(xBytes).op("i32.mul").op("i32.add").set(here);
    visit(from, count, done);
    c.get(done).get(count).op("i32.add").set(done).branch(0).end().end();
  }

  /** A loop over the values of a result in f32: `visit` sees the address local, its lanes and the number of the vector. */
  #values(vectors: number, visit: (lanes: 1 | 4, from: Local, vector: number) => void): void {
    const c = this.#c;
    this.#chunks((from, count) => {
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
    });
  }

  /** The sum over the divisor. */
  #sums(): void {
    const total = this.#c.local(f64);
    this.#sum(total);
    this.#c.get(total);
    this.#count(this.#w.divisor).op("f64.div").op("f32.demote_f64");
  }

  /** The 2-norm: squares of distances from 0. */
  #norm(): void {
    const [total, origin] = this.#c.locals(f64, 2) as [Local, Local];
    this.#count(this.#zero).set(origin);
    this.#sum(total, origin);
    this.#c.get(total).op("f64.sqrt").op("f32.demote_f64");
  }

  /** Pushes a whole number as f64. */
  #count(x: Local): Code {
    return this.#c.get(x).op("f64.convert_i32_s");
  }

  /** total = Σ x, or Σ (x - mean)² when there is a mean, in four pairs of f64 lanes. */
  #sum(total: Local, mean?: Local): void {
    const c = this.#c;
    const [sums, rest, x, d, wide] = [c.locals(v128, 4), c.local(f64), c.local(v128), c.local(v128), c.local(v128)];
    const scalar = c.local(f64);
    if (mean !== undefined) c.get(mean).op("f64x2.splat").set(wide);
    sums.forEach((s) => void c.floats(0).set(s));
    c.int(0).op("f64.convert_i32_s").set(rest);
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
    c.get(s0).extract("f64x2.extract_lane", 1).op("f64.add").get(rest).op("f64.add").set(total);
  }

  /** The product: four neighbours at a time, in order, so that large and small factors meet as they do one by one. */
  #product(): void {
    const c = this.#c;
    const [total, x, y] = [c.local(f64), c.local(v128), c.local(v128)];
    c.int(1).op("f64.convert_i32_s").set(total);
    this.#values(1, (lanes, from) => {
      c.get(total);
      if (lanes === 1) c.get(from).memory("f32.load").op("f64.promote_f32");
      else {
        c.get(from).memory("v128.load").tee(x).op("f64x2.promote_low_f32x4");
        c.get(x).get(x).shuffle(2, 3, 0, 1).op("f64x2.promote_low_f32x4").op("f64x2.mul").tee(y);
        c.extract("f64x2.extract_lane", 0).get(y).extract("f64x2.extract_lane", 1).op("f64.mul");
      }
      c.op("f64.mul").set(total);
    });
    c.get(total).op("f32.demote_f64");
  }

  #variance(): void {
    const c = this.#c;
    const { length, divisor } = this.#w;
    const [mean, squares, delta] = c.locals(f64, 3) as [Local, Local, Local];
    const end = c.local(i32);
    this.#count(this.#zero).tee(mean).set(squares);
    this.#chunks((from, size, done) => {
      const [pilot, center, apart] = chunkMoments(c, this.#math, from, size);
      const wide = (x: Local) => c.get(x).extract("f32x4.extract_lane", 0).op("f64.promote_f32");
      c.get(done).get(size).op("i32.add").set(end);
      wide(pilot);
      wide(center).op("f64.add").get(mean).op("f64.sub").set(delta);
      c.get(mean).get(delta);
      this.#count(size).op("f64.mul");
      this.#count(end).op("f64.div").op("f64.add").set(mean);
      c.get(squares);
      wide(apart).op("f64.add").get(delta).get(delta).op("f64.mul");
      this.#count(done).op("f64.mul");
      this.#count(size).op("f64.mul");
      this.#count(end).op("f64.div").op("f64.add").set(squares);
    });
    // Squares that f32 cannot hold, f64 may.
    c.get(squares).get(squares).op("f64.sub").get(squares).get(squares).op("f64.sub").op("f64.ne").if();
    this.#sum(mean);
    c.get(mean);
    this.#count(length).op("f64.div").set(mean);
    this.#sum(squares, mean);
    c.end().get(squares);
    this.#count(divisor).op("f64.div").op("f32.demote_f64");
  }

  /** The largest value and the logarithm of the sum of exponentials relative to it. */
  #logSumExp(): void {
    const c = this.#c;
    const [shift, all, exact, sums] = [c.local(v128), c.local(v128), c.local(f64), c.locals(v128, 4)];
    const top = c.local(f32);
    this.#extreme("max");
    c.set(top).get(top).op("f32x4.splat").set(shift);
    // Infinity less itself is no number: what has an infinite maximum, or none, is that maximum.
    c.get(top).op("f32.abs").float(Number.POSITIVE_INFINITY).op("f32.lt").ifFloat();
    this.#count(this.#zero).set(exact);
    this.#chunks((from, count) => {
      fillAll(c, sums, 0);
      const row = { from, columns: count, top: shift };
      overShares(c, this.#math, row, (value, _lanes, _offset, _at, v) => void c.get(sums[v]!).get(value).op("f32x4.add").set(sums[v]!));
      c.get(exact)
        .get(combine(c, sums, "f32x4.add"))
        .extract("f32x4.extract_lane", 0)
        .op("f64.promote_f32")
        .op("f64.add")
        .set(exact);
    });
    c.get(exact)
      .op("f32.demote_f64")
      .op("f32x4.splat")
      .floats(1 / this.#math.shareOfZero)
      .op("f32x4.mul");
    this.#math.log();
    c.get(shift).op("f32x4.add").set(all).get(all).extract("f32x4.extract_lane", 0);
    c.else().get(top).end();
  }

  /** The largest or smallest value, NaN if there is one. */
  #extreme(kind: "max" | "min"): void {
    const c = this.#c;
    const [bests, strange] = [c.locals(v128, 4), c.local(v128)];
    this.#clear(kind, bests, strange);
    this.#values(4, (lanes, from, v) => {
      const load = () => loadLanes(c, this.#math, from, this.#zero, lanes, extremes[kind].start);
      this.#better(kind, bests[v]!, strange, load);
    });
    this.#joinBests(kind, bests, strange);
    c.get(bests[0]!).extract("f32x4.extract_lane", 0);
  }

  #clear(kind: "max" | "min", bests: readonly Local[], strange: Local): void {
    for (const best of bests) this.#c.floats(extremes[kind].start).set(best);
    this.#c.floats(0).set(strange);
  }

  /** best = the better of it and what `load` pushes; `strange` marks what is no number, which the pseudo-extremes skip. */
  #better(kind: "max" | "min", best: Local, strange: Local, load: () => void): void {
    const c = this.#c;
    const x = this.#candidate;
    load();
    c.set(x).get(best).get(x).op(extremes[kind].op).set(best);
    c.get(strange).get(x).get(x).op("f32x4.ne").op("v128.or").set(strange);
  }

  /** Leaves the best of all in every lane of the first, NaN (all bits set) if there was one. */
  #joinBests(kind: "max" | "min", [first, ...others]: readonly Local[], strange: Local): void {
    const c = this.#c;
    const { op } = extremes[kind];
    for (const other of others) c.get(first!).get(other).op(op).set(first!);
    spread(c, first!, op);
    spread(c, strange, "v128.or");
    c.get(first!).get(strange).op("v128.or").set(first!);
  }

  /** The place of the first largest or smallest value, or NaN: a chunk that holds a better one is searched for it. */
  #place(kind: "max" | "min"): void {
    const c = this.#c;
    const { start } = extremes[kind];
    const [bests, strange, best] = [c.locals(v128, 4), c.local(v128), c.local(v128)];
    const [place, at] = c.locals(i32, 2) as [Local, Local];
    c.int(-1).set(place).floats(start).set(best);
    this.#chunks((from, count, done) => {
      this.#clear(kind, bests, strange);
      overVectors(c, count, 4, (lanes, offset, more, v) => {
        this.#better(kind, bests[v]!, strange, () => loadLanes(c, this.#math, from, offset, lanes, start, more));
      });
      this.#joinBests(kind, bests, strange);
      // A better value, or the first one that is no number.
      c.get(bests[0]!)
        .get(best)
        .op(kind === "max" ? "f32x4.gt" : "f32x4.lt");
      c.get(bests[0]!).get(bests[0]!).op("f32x4.ne").get(best).get(best).op("f32x4.eq").op("v128.and").op("v128.or").op("v128.any_true");
      c.get(place).int(0).op("i32.lt_s").op("i32.or").if().get(bests[0]!).set(best);
      this.#search(from, count, best, at);
      c.get(done).get(at).op("i32.add").set(place).end();
    });
    c.get(place).op("f32.reinterpret_i32");
  }

  /** at = place of the first of `count` values that equals `best`, or is no number like it; there is one. */
  #search(from: Local, count: Local, best: Local, at: Local): void {
    const c = this.#c;
    const [p, end, x] = [c.local(i32), c.local(i32), c.local(v128)];
    const matches = () => {
      c.tee(x).get(best).op("f32x4.eq").get(x).get(x).op("f32x4.ne").get(best).get(best).op("f32x4.ne").op("v128.and").op("v128.or");
      return c.op("v128.any_true");
    };
    c.get(from).tee(p).get(count).int(-4).op("i32.and").int(2).op("i32.shl").op("i32.add").set(end);
    c.block().loop().get(p).get(end).op("i32.ge_u").branchIf(1).get(p).memory("v128.load");
    matches().branchIf(1).advance(p, 16).branch(0).end().end();
    c.loop().get(p).memory("v128.load32_splat");
    matches().op("i32.eqz").if().advance(p, 4).branch(1).end().end();
    c.get(p).get(from).op("i32.sub").int(2).op("i32.shr_u").set(at);
  }
}

const extremes = {
  max: { op: "f32x4.pmax", start: Number.NEGATIVE_INFINITY },
  min: { op: "f32x4.pmin", start: Number.POSITIVE_INFINITY },
} as const;
