// Softmax over a panel of scores that lies key by key, queries side by side: every step works on all queries of the panel at once and
// nothing is summed across a vector. Weights are powers of two of scaled scores; polynomial: Cephes exp2f.c.
import { type Code, i32, type Local, type Module, v128 } from "../../../wasm/encoder.ts";
import type { Flavour } from "./gemm.ts";

const exp2Coefficients = [
  1.5353361883195e-4, 1.339887440266574e-3, 9.61843735767464e-3, 5.550332471162809e-2, 2.402264791363012e-1, 6.931472028550421e-1, 1,
];
/** Adding and subtracting it rounds to an integer, which then stands in the low bits. */
const rounder = 12_582_912;
/** Smallest power whose result is a normal number; what is hidden gets a weight of about 1e-38. */
const least = -126;

/** Emits 2^x for vectors with constants kept in locals, which V8 does not do by itself; a, b, c → a · b + c likewise. */
class PowerOfTwo {
  readonly #c: Code;
  readonly #fma: boolean;
  readonly #coefficients: readonly Local[];
  readonly #rounder: Local;
  readonly #least: Local;
  readonly #r: Local;
  readonly #n: Local;

  constructor(c: Code, fma: boolean) {
    this.#c = c;
    this.#fma = fma;
    this.#coefficients = exp2Coefficients.map((value) => this.#constant(value));
    this.#rounder = this.#constant(rounder);
    this.#least = this.#constant(least);
    this.#r = c.local(v128);
    this.#n = c.local(v128);
  }

  #constant(value: number): Local {
    const local = this.#c.local(v128);
    this.#c.floats(value).set(local);
    return local;
  }

  /** a, b on the stack → a · b + sum. */
  madd(sum: Local): void {
    const c = this.#c;
    if (this.#fma) c.get(sum).op("f32x4.relaxed_madd");
    else c.op("f32x4.mul").get(sum).op("f32x4.add");
  }

  /** x ≤ 0 on the stack → 2^x, at least 2^-126; NaN stays. */
  emit(): void {
    const c = this.#c;
    const [r, n] = [this.#r, this.#n];
    c.get(this.#least).op("f32x4.pmax").tee(r);
    c.get(this.#rounder).op("f32x4.add").set(n);
    c.get(r).get(n).get(this.#rounder).op("f32x4.sub").op("f32x4.sub").set(r);
    c.get(this.#coefficients[0]!);
    for (const k of this.#coefficients.slice(1)) {
      c.get(r);
      this.madd(k);
    }
    c.get(n).int(23).op("i32x4.shl").op("i32x4.add");
  }
}

/**
 * weights(scores, keys, statistics, factor, values, value rows): scores become weights relative to the greatest score so far, where
 * score · factor is the power of two. Statistics (greatest power, sum of weights of each query) and value sums follow.
 */
export function emitWeights(module: Module, { fma, tileVectors }: Flavour): Code {
  const c = module.func(undefined, [i32, i32, i32, i32, i32, i32]);
  const [scores, keys, stats, factorBits, values, valueRows] = [0, 1, 2, 3, 4, 5];
  const lanes = [...Array(tileVectors).keys()];
  const [tops, sums] = [c.locals(v128, tileVectors), c.locals(v128, tileVectors)];
  const factor = c.local(v128);
  const power = new PowerOfTwo(c, fma);
  c.get(factorBits).op("f32.reinterpret_i32").op("f32x4.splat").set(factor);
  for (const top of tops) c.floats(Number.NEGATIVE_INFINITY).set(top);
  overRows(c, scores, keys, tileVectors, (p) => {
    for (const v of lanes)
      c.get(tops[v]!)
        .get(p)
        .memory("v128.load", 16 * v)
        .op("f32x4.pmax")
        .set(tops[v]!);
  });
  for (const v of lanes) emitRaise(c, power, stats, v, tops[v]!, factor, sums[v]!);
  overRows(c, values, valueRows, tileVectors, (p) => {
    for (const v of lanes)
      c.get(p)
        .get(p)
        .memory("v128.load", 16 * v)
        .get(sums[v]!)
        .op("f32x4.mul")
        .memory("v128.store", 16 * v);
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
  const w = c.local(v128);
  overRows(c, scores, keys, tileVectors, (p) => {
    for (const v of lanes) {
      c.get(p)
        .get(p)
        .memory("v128.load", 16 * v)
        .get(factor);
      power.madd(tops[v]!);
      power.emit();
      c.tee(w)
        .memory("v128.store", 16 * v)
        .get(sums[v]!)
        .get(w)
        .op("f32x4.add")
        .set(sums[v]!);
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
function emitRaise(c: Code, power: PowerOfTwo, stats: Local, v: number, top: Local, factor: Local, alpha: Local): void {
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
  power.emit();
  c.set(alpha).get(top).op("f32x4.neg").set(top);
}

/** A loop over `rows` lines of a panel; `visit` sees the address of the line. */
function overRows(c: Code, base: Local, rows: Local, vectors: number, visit: (p: Local) => void): void {
  const [p, end] = c.locals(i32, 2) as [Local, Local];
  c.get(base)
    .tee(p)
    .get(rows)
    .int(16 * vectors)
    .op("i32.mul")
    .op("i32.add")
    .set(end);
  c.block().loop().get(p).get(end).op("i32.ge_u").branchIf(1);
  visit(p);
  c.advance(p, 16 * vectors)
    .branch(0)
    .end()
    .end();
}
