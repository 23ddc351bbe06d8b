// Softmax over a panel of scores that lies key by key, queries side by side: every step works on all queries of the panel at once and
// nothing is summed across a vector. Weights are multiples of powers of two of scaled scores, two keys at a time in lockstep.
import { type Code, i32, type Local, type Module, v128 } from "../../../wasm/encoder.ts";
import { Lockstep, Recording } from "../../../wasm/recording.ts";
import type { Flavour } from "./flavour.ts";
import { whileLeft } from "./loops.ts";
import { SimdMath } from "./simd-math.ts";

/**
 * weights(scores, keys, statistics, factor, values, value rows): scores become weights relative to the greatest score so far, where
 * score · factor is the power of two. Statistics (greatest power, sum of weights of each query) and value sums follow.
 */
export function emitWeights(module: Module, { fma, tileVectors }: Flavour): Code {
  const c = module.func(undefined, [i32, i32, i32, i32, i32, i32]).keepConstants();
  const [scores, keys, stats, factorBits, values, valueRows] = [0, 1, 2, 3, 4, 5];
  const lanes = [...Array(tileVectors).keys()];
  const [tops, sums] = [c.locals(v128, tileVectors), c.locals(v128, tileVectors)];
  const factor = c.local(v128);
  const math = new SimdMath(c, fma);
  c.get(factorBits).op("f32.reinterpret_i32").op("f32x4.splat").floats(math.octave).op("f32x4.mul").set(factor);
  for (const top of tops) c.floats(Number.NEGATIVE_INFINITY).set(top);
  overRows(c, scores, keys, tileVectors, (p, rows) => {
    for (let i = 0; i < rows * tileVectors; i++) {
      const top = tops[i % tileVectors]!;
      c.get(top)
        .get(p)
        .memory("v128.load", 16 * i)
        .op("f32x4.pmax")
        .set(top);
    }
  });
  for (const v of lanes) emitRaise(c, math, stats, v, tops[v]!, factor, sums[v]!);
  overRows(c, values, valueRows, tileVectors, (p, rows) => {
    for (let i = 0; i < rows * tileVectors; i++)
      c.get(p)
        .get(p)
        .memory("v128.load", 16 * i)
        .get(sums[i % tileVectors]!)
        .op("f32x4.mul")
        .memory("v128.store", 16 * i);
  });
  for (const v of lanes)
    c.get(stats)
      .get(stats)
      .memory("v128.load", 16 * (tileVectors + v))
      .get(sums[v]!)
      .op("f32x4.mul")
      .memory("v128.store", 16 * (tileVectors + v))
      .floats(0)
      .set(sums[v]!);
  const weight = c.local(v128);
  overRows(c, scores, keys, tileVectors, (p, rows) => {
    const vectors = Array.from({ length: rows * tileVectors }, () => new Recording());
    for (const [i, r] of vectors.entries()) {
      const own = new SimdMath(r, fma);
      r.get(p)
        .memory("v128.load", 16 * i)
        .get(factor)
        .get(tops[i % tileVectors]!);
      own.madd();
      own.share();
      r.set(weight);
    }
    const block = new Lockstep(c, vectors);
    block.write();
    for (const i of vectors.keys()) {
      const sum = sums[i % tileVectors]!;
      block.push(i, weight);
      c.set(weight)
        .get(p)
        .get(weight)
        .memory("v128.store", 16 * i)
        .get(sum)
        .get(weight)
        .op("f32x4.add")
        .set(sum);
    }
  });
  for (const v of lanes)
    c.get(stats)
      .get(stats)
      .memory("v128.load", 16 * (tileVectors + v))
      .get(sums[v]!)
      .op("f32x4.add")
      .memory("v128.store", 16 * (tileVectors + v));
  return c;
}

/** Raises the greatest power of four queries to that of `top`; leaves its negative in `top` and the factor of what was summed before in `alpha`. */
function emitRaise(c: Code, math: SimdMath, stats: Local, v: number, top: Local, factor: Local, alpha: Local): void {
  const before = c.local(v128);
  c.get(stats)
    .memory("v128.load", 16 * v)
    .set(before);
  c.get(before).get(top).get(factor).op("f32x4.mul").op("f32x4.pmax").set(top);
  c.get(stats)
    .get(top)
    .memory("v128.store", 16 * v);
  // Nothing seen yet: a finite stand-in keeps -inf - -inf from becoming NaN.
  c.floats(0).get(top).get(top).floats(Number.NEGATIVE_INFINITY).op("f32x4.eq").op("v128.bitselect").set(top);
  c.get(before).get(top).op("f32x4.sub");
  math.share();
  c.floats(1 / math.shareOfZero)
    .op("f32x4.mul")
    .set(alpha)
    .get(top)
    .op("f32x4.neg")
    .set(top);
}

/** A loop over `rows` lines of a panel, two at a time while there are two; `visit` sees the address of the first and their number. */
function overRows(c: Code, base: Local, rows: Local, vectors: number, visit: (p: Local, rows: number) => void): void {
  const [p, left] = c.locals(i32, 2) as [Local, Local];
  c.get(base).set(p).get(rows).set(left);
  for (const count of [2, 1]) {
    whileLeft(c, left, count, () => {
      visit(p, count);
      c.advance(p, 16 * vectors * count);
    });
  }
}
