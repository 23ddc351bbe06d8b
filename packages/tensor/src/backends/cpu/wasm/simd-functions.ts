// Vector functions that fewer kernels need: logarithms near 1, exponentials near 0, sines and cosines. Operands and results on the stack.
// Sines are reduced in f64 by two parts of π/2 (25 and 53 bits, as fdlibm's __rem_pio2f), which is exact enough up to 2²⁸.
import { type Code, type Local, v128 } from "../../../wasm/encoder.ts";
import type { SimdMath } from "./simd-math.ts";

/** Largest argument of sine and cosine that generated code reduces. */
const angleLimit = 2 ** 28;
const angleLimitBits = 0x4d800000;
const quarterTurn = { high: 1.5707963109016418, rest: 1.5893254773528196e-8 } as const;
/** (eˣ - 1 - x) / x², (sin x - x) / x³ and (cos x - 1 + x²/2) / x⁴ of x², highest power first. */
const expm1Tail = [0.001388251648269765, 0.008366547127519386, 0.04166720071139151, 0.16666543424308547, 0.4999999814962048];
const sinTail = [-0.00019516655805635125, 0.008332173543136812, -0.1666665487347662];
/** (sin x - x) / x³ of x² up to a quarter turn either way; the last bits are such that the sine of a quarter turn is 1 and none is greater. */
const halfTurnTail = (fma: boolean) => [
  2.6057207378471503e-6,
  -0.0001980958040803671,
  fma ? 0.008333065547049046 : 0.00833306647837162,
  -0.16666659712791443,
];
/** π in two parts of 16 bits, which numbers of half turns and halves of them up to the limit multiply exactly, and a rest. */
const halfTurn = [3.14154052734375, 5.212612450122833e-5, 1.215420125655342e-10] as const;
/** Largest argument that is reduced so, 400, by its bits. */
const fastAngleLimit = 0x43c80000;
const cosTail = [2.4432413002432322e-5, -0.0013887309866807002, 0.04166664555447341];

/** Emits the functions into one body. */
export class SimdFunctions {
  readonly #c: Code;
  readonly #math: SimdMath;
  readonly #x: Local;
  readonly #y: Local;
  #angles: Record<"n" | "r" | "half", Local> | undefined;

  constructor(c: Code, math: SimdMath) {
    this.#c = c;
    this.#math = math;
    [this.#x, this.#y] = c.locals(v128, 2) as [Local, Local];
  }

  /** x → ln(1 + x): ln of u = 1 + x, and what the sum lost divided by u. */
  log1p(): void {
    const c = this.#c;
    const [x, u] = [this.#x, this.#y];
    c.set(x).get(x).floats(1).op("f32x4.add").tee(u);
    this.#math.log();
    c.get(x).get(u).floats(1).op("f32x4.sub").op("f32x4.sub").get(u).op("f32x4.div");
    // The correction is no number at -1 and infinity, where the logarithm alone is right.
    c.get(u).floats(0).op("f32x4.gt").get(x).floats(Number.POSITIVE_INFINITY).op("f32x4.lt").op("v128.and").op("v128.and").op("f32x4.add");
  }

  /** x → eˣ - 1. */
  expm1(): void {
    const c = this.#c;
    const x = this.#x;
    c.set(x);
    this.#math.polynomial(expm1Tail, x);
    c.get(x).get(x).op("f32x4.mul").op("f32x4.mul").get(x).op("f32x4.add").set(this.#y);
    c.get(this.#y).get(x);
    this.#math.expFlushed();
    c.floats(1).op("f32x4.sub").get(x).op("f32x4.abs").floats(0.35).op("f32x4.lt").op("v128.bitselect");
  }

  /** x → ln(1 + eˣ), x itself above 20. */
  softplus(): void {
    const c = this.#c;
    const x = c.local(v128);
    c.set(x).get(x).get(x);
    this.#math.exp();
    this.log1p();
    c.get(x).floats(20).op("f32x4.gt").op("v128.bitselect");
  }

  /** x → sin x (`turns` 0) or cos x (`turns` 1). Sets word -1 before the operand table (parameter 0) where x is beyond the limit. */
  sine(turns: 0 | 1): void {
    if (this.#math.doubts) {
      this.#fastSine(turns);
      return;
    }
    this.#reduce();
    this.#quadrant(turns);
  }

  /** As `sine`, in f32 throughout: x is a whole number n of half turns (for cosines n + ½) and r; the sign follows from n. */
  #fastSine(turns: 0 | 1): void {
    const c = this.#c;
    const [x, r] = [this.#x, this.#y];
    const [t, n, square] = c.locals(v128, 3) as [Local, Local, Local];
    const shift = 1.5 * 2 ** 23 + turns;
    c.tee(x).ints(0x7fffffff).op("v128.and");
    this.#math.suspect(fastAngleLimit);
    c.get(x)
      .floats(1 / Math.PI)
      .floats(turns === 0 ? shift : -0.5);
    this.#math.madd();
    if (turns === 1) c.floats(shift).op("f32x4.add");
    c.tee(t).floats(shift).op("f32x4.sub");
    if (turns === 1) c.floats(0.5).op("f32x4.add");
    c.set(n).get(x).set(r);
    for (const part of halfTurn) {
      c.get(n).floats(-part).get(r);
      this.#math.madd();
      c.set(r);
    }
    c.get(r).get(r).op("f32x4.mul").set(square);
    this.#math.polynomial(halfTurnTail(this.#math.fma), square);
    c.get(square).op("f32x4.mul").get(r).get(r);
    this.#math.madd();
    c.get(t).int(31).op("i32x4.shl").op("v128.xor");
  }

  /** x → tan x. */
  tan(): void {
    const c = this.#c;
    this.#reduce();
    this.#quadrant(0);
    this.#quadrant(1);
    c.op("f32x4.div");
  }

  /** x → its distance r from the nearest multiple n of π/2. */
  #reduce(): void {
    const c = this.#c;
    this.#angles ??= { n: c.local(v128), r: c.local(v128), half: c.local(v128) };
    const { n, r, half } = this.#angles;
    const x = this.#x;
    c.tee(x).op("f32x4.abs");
    if (this.#math.doubts) this.#math.suspect(angleLimitBits);
    else c.floats(angleLimit).op("f32x4.gt").op("v128.any_true").if().get(0).int(4).op("i32.sub").int(1).memory("i32.store").end();
    for (const low of [true, false]) {
      c.get(x);
      if (!low) c.get(x).shuffle(2, 3, 0, 1);
      c.op("f64x2.promote_low_f32x4").set(half);
      const turns = () =>
        c
          .get(half)
          .doubles(2 / Math.PI)
          .op("f64x2.mul")
          .op("f64x2.nearest");
      if (!low) c.get(n);
      turns().op("i32x4.trunc_sat_f64x2_s_zero");
      if (!low) c.shuffle(0, 1, 4, 5);
      c.set(n);
      if (!low) c.get(r);
      c.get(half);
      for (const part of [quarterTurn.high, quarterTurn.rest]) turns().doubles(part).op("f64x2.mul").op("f64x2.sub");
      c.op("f32x4.demote_f64x2_zero");
      if (!low) c.shuffle(0, 1, 4, 5);
      c.set(r);
    }
  }

  /** Leaves the sine of r + (n + turns) π/2. */
  #quadrant(turns: 0 | 1): void {
    const c = this.#c;
    const { n, r } = this.#angles!;
    const [square, y] = [this.#x, this.#y];
    c.get(r).get(r).op("f32x4.mul").set(square);
    this.#math.polynomial(cosTail, square);
    c.get(square).get(square).op("f32x4.mul").op("f32x4.mul").get(square).floats(0.5).op("f32x4.mul").op("f32x4.sub").floats(1);
    c.op("f32x4.add");
    this.#math.polynomial(sinTail, square);
    c.get(square).op("f32x4.mul").get(r).op("f32x4.mul").get(r).op("f32x4.add");
    c.get(n).ints(turns).op("i32x4.add").tee(y).int(31).op("i32x4.shl").int(31).op("i32x4.shr_s").op("v128.bitselect");
    c.get(y).ints(2).op("v128.and").int(30).op("i32x4.shl").op("v128.xor");
  }
}
