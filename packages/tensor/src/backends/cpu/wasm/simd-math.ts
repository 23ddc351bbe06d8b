// Four-lane float functions, emitted in stack order: operands on the stack, result on the stack.
// exp and log: our own minimax coefficients (tools/reference/simd_polynomials.py); tanh and erf: the rational approximations of Eigen (MathFunctionsImpl.h), within a few units in the last place.
import { type Code, type Local, v128 } from "../../../wasm/encoder.ts";
import { SimdFormats } from "../../../wasm/simd-formats.ts";

/** Adding it to a small number leaves the nearest integer in the low bits. */
const roundingShift = 1.5 * 2 ** 23;
const expTwice = [1.3814540070231796e-3, 8.368745108259634e-3, 4.166839078565158e-2, 0.16666520399049528, 0.4999999343211922, 1, 1].map(
  (k) => 2 * k,
);
/** (eʳ - 1 - r) / r² */
const expTail = [0.00831250124779515, 0.04189033145151183, 0.1666711538912417, 0.49999230309670606];
/** (2ᶠ - 1) / f */
const powerTail = [0.0013264659022909954, 0.009671565806525062, 0.055507343868296546, 0.24022241273600506, 0.6931469769918571];
/**
 * 2^(2g) = lead · (g² + a₀ g + b₀) (g² + a₁ g + b₁) for g within ± ⅛. Without fused multiply-add the square of it is less work than the
 * polynomial above, and a shorter chain of steps that wait for each other.
 */
const halfPower = {
  lead: 0.15369743811555897,
  factors: [
    [0.3926006251823563, 3.295386208291296],
    [2.5018235695549995, 1.9743631949690683],
  ],
} as const;
/** What one exponent is in the bits of a number. */
const exponentUnit = 2 ** 23;
/** ln 2 in two parts, the first of which any exponent multiplies exactly. */
const ln2 = { high: 0.693359375, rest: -2.1219444e-4 } as const;
/** 2 (artanh s - s) / s³ of s² */
const artanhTail = [0.29873073247377047, 0.3997749558026943, 0.6666677671704666];
/** (ln(1 + f) - f + f²/2) / f³ */
const logTail = [
  0.06746641873149076, -0.1167565218559023, 0.11888161836500319, -0.12405588832177919, 0.14219552412199213, -0.16667995860611154,
  0.2000211865617533, -0.2500000959924491, 0.33333312604108045,
];

/**
 * tanh x = lead · x · (s² + a₀ s + b₀) (s² + a₁ s + b₁) / ((s² + c₀ s + d₀) (s² + c₁ s + d₁)), s = x², up to the limit, where the
 * rounded result is 1 with and without fused multiply-add and no result before is greater.
 */
const tanhFactors = {
  lead: 0.01765891,
  top: [
    [1417.8564, 170325.56],
    [50.475254, 400.8062],
  ],
  bottom: [
    [381.9968, 21933.43],
    [24.743078, 54.96315],
  ],
  limit: 7.9370894,
} as const;
const erfTop = [
  -2.72614225801306e-10, 2.77068142495902e-8, -2.10102402082508e-6, -5.69250639462346e-5, -7.34990630326855e-4, -2.95459980854025e-3,
  -1.60960333262415e-2,
];
const erfBottom = [-1.45660718464996e-5, -2.13374055278905e-4, -1.68282697438203e-3, -7.37332916720468e-3, -1.42647390514189e-2];

/** Emits float functions into one function body; keeps a few scratch locals there. */
export class SimdMath extends SimdFormats {
  readonly fma: boolean;
  readonly #kept: Local;
  /** Whether functions may leave seldom arguments out; then `doubtful` tells where they did. */
  readonly doubts: boolean;
  /** Integers that make results wrong where they are above a limit, by that limit. */
  readonly doubtful = new Map<number, Local>();

  /** `fma`: relaxed multiply-add is available. */
  constructor(c: Code, fma: boolean, doubts = false) {
    super(c);
    this.fma = fma;
    this.#kept = c.local(v128);
    this.doubts = doubts;
  }

  /** Takes integers from the stack: results are wrong in lanes where one is above `limit`. */
  suspect(limit: number): void {
    const known = this.doubtful.get(limit);
    if (known !== undefined) this.c.get(known).op("i32x4.max_s");
    const worst = known ?? this.c.local(v128);
    this.doubtful.set(limit, worst);
    this.c.set(worst);
  }

  /** a, b, c on the stack → a · b + c. */
  madd(): void {
    if (this.fma) {
      this.c.op("f32x4.relaxed_madd");
      return;
    }
    const sum = this.temps[4]!;
    this.c.set(sum).op("f32x4.mul").get(sum).op("f32x4.add");
  }

  /** x → coefficients evaluated in the variable `by`, highest power first. */
  polynomial(coefficients: readonly number[], by: Local): void {
    this.c.floats(coefficients[0]!);
    for (const k of coefficients.slice(1)) {
      this.c.get(by).floats(k);
      this.madd();
    }
  }

  /**
   * x → 2 eʳ, with x = n ln 2 + r, leaving t = n - 1 + 1.5 · 2²³ in the second scratch: its low bits are the exponent of half a result.
   * The factor 2 lets the scale stay finite where the result just does.
   */
  #expParts(): void {
    const c = this.c;
    const [x, t, n] = this.temps as [Local, Local, Local];
    c.set(x)
      .get(x)
      .floats(Math.LOG2E)
      .floats(roundingShift - 1);
    this.madd();
    c.tee(t)
      .floats(roundingShift - 1)
      .op("f32x4.sub")
      .set(n);
    c.get(n).floats(-0.693359375).get(x);
    this.madd();
    c.set(x).get(n).floats(2.1219444e-4).get(x);
    this.madd();
    c.set(x);
    this.#expPolynomial(x, n);
  }

  /** The polynomial of #expParts by powers of two of r: half the depth of Horner's rule, which would keep the processor waiting. */
  #expPolynomial(r: Local, square: Local): void {
    const c = this.c;
    const [c6, c5, c4, c3, c2, c1, c0] = expTwice as [number, number, number, number, number, number, number];
    const pair = (high: number, low: number) => {
      c.get(r).floats(high).floats(low);
      this.madd();
    };
    c.get(r).get(r).op("f32x4.mul").set(square);
    c.get(square).floats(c6);
    pair(c5, c4);
    this.madd();
    c.get(square).get(square).op("f32x4.mul");
    pair(c3, c2);
    c.get(square);
    pair(c1, c0);
    this.madd();
    this.madd();
  }

  /** x → eˣ, where results below 2⁻¹²⁵ become 0; NaN stays, overflow is infinity. */
  expFlushed(): void {
    const c = this.c;
    // The pseudo-minimum keeps NaN when it comes first.
    c.floats(89).op("f32x4.pmin").floats(-87.3).op("f32x4.pmax");
    this.#expParts();
    c.get(this.temps[1]!).int(23).op("i32x4.shl").floats(1).op("i32x4.add").op("f32x4.mul");
  }

  /** What a doubling adds to the argument of `power` and `share`. Rounding that loses |y| · 2⁻²⁵ of the precision of 2ʸ. */
  get octave(): number {
    return this.fma ? 1 : 0.25;
  }

  /** y octaves → 2ʸ beside a 1: what a sum with 1 does not see may come out as 2⁻¹⁰⁰; NaN stays, overflow is infinity. */
  power(): void {
    const c = this.c;
    // The pseudo-minimum keeps NaN when it comes first.
    c.floats(128 * this.octave).op("f32x4.pmin");
    if (this.fma) {
      this.share();
      return;
    }
    const t = this.#powerParts(-100, 0);
    this.#squaredPower();
    c.get(t)
      .int(23)
      .op("i32x4.shl")
      .floats(halfPower.lead ** 2)
      .op("i32x4.add")
      .op("f32x4.mul");
  }

  /** What `share` makes of 0. Its product with `1 / shareOfZero` in f32 is 1. */
  get shareOfZero(): number {
    return this.fma ? 1 : halfPower.lead ** -2;
  }

  /** y octaves → 2ʸ times `shareOfZero`; what is below 2⁻¹²⁶ becomes less, at last 0; NaN stays. */
  share(): void {
    const [rest, whole] = this.shareParts();
    this.shareOf(
      () => this.c.get(rest),
      () => this.c.get(whole),
    );
  }

  /** The first half of `share`: y octaves are taken from the stack, two locals are what the second half needs. */
  shareParts(): readonly [rest: Local, whole: Local] {
    const whole = this.#powerParts(-127, 127);
    return [this.temps[2]!, whole];
  }

  /** The second half of `share`, given what pushes its parts. */
  shareOf(pushRest: () => unknown, pushWhole: () => unknown): void {
    const rest = this.temps[2]!;
    pushRest();
    this.c.set(rest);
    if (this.fma) this.polynomial([...powerTail, 1], rest);
    else this.#squaredPower();
    pushWhole();
    this.c.int(23).op("i32x4.shl").op("f32x4.mul");
  }

  /** Leaves the square of the product of `halfPower.factors` in scratch 2. */
  #squaredPower(): void {
    const c = this.c;
    const [half, , g] = this.temps as [Local, Local, Local];
    for (const [a, b] of halfPower.factors) c.get(g).floats(a).op("f32x4.add").get(g).op("f32x4.mul").floats(b).op("f32x4.add");
    c.op("f32x4.mul").tee(half).get(half).op("f32x4.mul");
  }

  /**
   * y octaves, at least `least`: what is left of the nearest whole number stays in scratch 2. Gives the local with that number and `bias`
   * in its low bits: with a bias of 127 these, moved to where the exponent is, are a power of two.
   */
  #powerParts(least: number, bias: number): Local {
    const c = this.c;
    const [y, t, rest] = this.temps as [Local, Local, Local];
    const shift = (roundingShift + bias) * this.octave;
    c.floats(least * this.octave)
      .op("f32x4.pmax")
      .tee(y)
      .floats(shift)
      .op("f32x4.add")
      .set(t);
    c.get(y).get(t).floats(shift).op("f32x4.sub").op("f32x4.sub").set(rest);
    return t;
  }

  /** 2 to the power of f (within ± ½) and a whole number n, over the whole range: underflow is gradual. */
  scaledPower(f: Local, n: Local): void {
    const half = this.temps[0]!;
    const scale = () => this.c.int(23).op("i32x4.shl").floats(1).op("i32x4.add").op("f32x4.mul");
    this.polynomial([...powerTail, 1], f);
    // In two halves, so that n may leave the exponent range of one float.
    this.c.get(n).int(1).op("i32x4.shr_s").tee(half);
    scale();
    this.c.get(n).get(half).op("i32x4.sub");
    scale();
  }

  /** x → eˣ where neither it nor its exponent leave the normal numbers. */
  #fastExp(): void {
    const c = this.c;
    const [x, t, n] = this.temps as [Local, Local, Local];
    c.tee(x).ints(0x7fffffff).op("v128.and");
    this.suspect(0x42ae999a);
    c.get(x).floats(Math.LOG2E).floats(roundingShift);
    this.madd();
    c.tee(t).floats(roundingShift).op("f32x4.sub").set(n);
    for (const part of [ln2.high, ln2.rest]) {
      c.get(n).floats(-part).get(x);
      this.madd();
      c.set(x);
    }
    this.polynomial([...expTail, 1, 1], x);
    c.get(t).int(23).op("i32x4.shl").op("i32x4.add");
  }

  /** x → eˣ, over the whole range: NaN stays, overflow is infinity, underflow gradual. */
  exp(): void {
    const c = this.c;
    if (this.doubts) {
      this.#fastExp();
      return;
    }
    const [half, t] = this.temps as [Local, Local];
    c.floats(89).op("f32x4.pmin").floats(-104.5).op("f32x4.pmax");
    this.#expParts();
    // 2ⁿ in two halves, so that n may leave the exponent range of one float.
    c.get(t).floats(roundingShift).op("i32x4.sub").tee(t).int(1).op("i32x4.shr_s").tee(half);
    c.int(23).op("i32x4.shl").floats(1).op("i32x4.add").op("f32x4.mul");
    c.get(t).get(half).op("i32x4.sub").int(23).op("i32x4.shl").floats(1).op("i32x4.add").op("f32x4.mul");
  }

  /** x → ln x: NaN below 0, -inf at 0, over subnormal numbers too. */
  log(): void {
    const c = this.c;
    if (this.doubts) {
      this.#fastLogParts();
      const [f, e] = this.temps as [Local, Local];
      const less = this.temps[2]!;
      c.set(less)
        .get(e)
        .floats(Math.LN2 / exponentUnit)
        .get(f)
        .get(less)
        .op("f32x4.sub");
      this.madd();
      return;
    }
    this.#logParts();
    const [, e] = this.temps as [Local, Local];
    // e ln 2 in two parts, the small one first.
    c.get(e).floats(-2.1219444e-4).op("f32x4.mul").op("f32x4.add").get(this.temps[0]!).op("f32x4.add");
    c.get(e).floats(0.693359375).op("f32x4.mul").op("f32x4.add");
    this.#logEnds();
  }

  /** x → log₂ x. */
  log2(): void {
    const c = this.c;
    if (this.doubts) {
      this.#fastLogParts();
      c.op("f32x4.neg");
    } else this.#logParts();
    const [f, e, y] = this.temps as [Local, Local, Local];
    c.set(y);
    // log2(e) - 1 is multiplied apart from 1: the sum keeps the bits that a product would round away.
    const more = Math.LOG2E - 1;
    c.get(y).floats(more).op("f32x4.mul").get(f).floats(more).op("f32x4.mul").op("f32x4.add").get(y).op("f32x4.add");
    c.get(f).op("f32x4.add");
    if (this.doubts) {
      c.set(y)
        .get(e)
        .floats(1 / exponentUnit)
        .get(y);
      this.madd();
      return;
    }
    c.get(e).op("f32x4.add");
    this.#logEnds();
  }

  /**
   * Positive x → f - ln(1 + f), with x = 2ᵉ (1 + f), 1 + f in √½ … √2; f and e · 2²³ stay in scratch 0 and 1. ln(1 + f) is 2 artanh(f / (2 + f)).
   * The exponents of what is not a positive normal number come out beyond ± 125.
   */
  #fastLogParts(): void {
    const c = this.c;
    const [f, e, s, square, x] = this.temps as [Local, Local, Local, Local, Local];
    c.tee(x).ints(0x3f3504f3).op("i32x4.sub").ints(0xff800000).op("v128.and").tee(e).op("i32x4.abs");
    this.suspect(125 * exponentUnit);
    c.get(x).get(e).op("i32x4.sub").floats(1).op("f32x4.sub").set(f).get(e).op("f32x4.convert_i32x4_s").set(e);
    c.get(f).get(f).floats(2).op("f32x4.add").op("f32x4.div").tee(s).get(s).op("f32x4.mul").set(square);
    c.get(s).get(f);
    this.polynomial(artanhTail, square);
    c.get(square).op("f32x4.mul").op("f32x4.sub").op("f32x4.mul");
  }

  /** x → (ln(1 + f) - f), with x = 2ᵉ (1 + f), 1 + f in √½ … √2; f, e and x stay in scratch 0, 1 and 3. */
  #logParts(): void {
    const c = this.c;
    const [f, e, z, x] = this.temps as [Local, Local, Local, Local];
    c.set(x);
    // Subnormal numbers are scaled up by 2²³ first.
    c.get(x)
      .floats(2 ** 23)
      .op("f32x4.mul")
      .get(x)
      .get(x)
      .floats(2 ** -126)
      .op("f32x4.lt")
      .tee(z)
      .op("v128.bitselect")
      .set(f);
    c.get(f).ints(0x3f3504f3).op("i32x4.sub").tee(e).int(23).op("i32x4.shr_s");
    c.get(z).ints(23).op("v128.and").op("i32x4.sub").op("f32x4.convert_i32x4_s");
    c.get(e).ints(0x7fffff).op("v128.and").ints(0x3f3504f3).op("i32x4.add").floats(1).op("f32x4.sub").set(f).set(e);
    this.polynomial(logTail, f);
    c.get(f).op("f32x4.mul").floats(-0.5).op("f32x4.add").get(f).get(f).op("f32x4.mul").op("f32x4.mul");
  }

  /** Replaces results for 0, negative numbers, infinity and NaN of the x kept by #logParts. */
  #logEnds(): void {
    const c = this.c;
    const [y, , , x] = this.temps as [Local, Local, Local, Local];
    c.set(y).get(y).get(x).get(x).floats(Number.POSITIVE_INFINITY).op("f32x4.lt").op("v128.bitselect").set(y);
    c.floats(Number.NEGATIVE_INFINITY).get(y).get(x).floats(0).op("f32x4.eq").op("v128.bitselect").set(y);
    // All bits set are NaN.
    c.get(y).get(x).floats(0).op("f32x4.lt").op("v128.or");
  }

  /** x → 1 / (1 + e⁻ˣ). */
  sigmoid(): void {
    const c = this.c;
    const x = this.temps[3]!;
    c.floats(-Math.LOG2E * this.octave).op("f32x4.mul");
    this.power();
    c.floats(1).op("f32x4.add").set(x).floats(1).get(x).op("f32x4.div");
  }

  /** y octaves, x on the stack → x / (1 + 2ʸ). */
  gate(): void {
    const c = this.c;
    const [x, sum] = [this.#kept, this.temps[4]!];
    c.set(x);
    this.power();
    c.floats(1).op("f32x4.add").set(sum).get(x).get(sum).op("f32x4.div");
  }

  /** Odd rational function x · top(x²) / bottom(x²) after clamping to ± limit. */
  #rational(top: readonly number[], bottom: readonly number[], limit: number): void {
    const c = this.c;
    const [x, square] = this.temps as [Local, Local];
    c.floats(limit).op("f32x4.pmin").floats(-limit).op("f32x4.pmax").tee(x).get(x).op("f32x4.mul").set(square);
    this.polynomial(top, square);
    c.get(x).op("f32x4.mul");
    this.polynomial(bottom, square);
    c.op("f32x4.div");
  }

  /** x → tanh x. */
  tanh(): void {
    const c = this.c;
    const [x, square] = this.temps as [Local, Local];
    const { lead, top, bottom, limit } = tanhFactors;
    c.floats(limit).op("f32x4.pmin").floats(-limit).op("f32x4.pmax").tee(x).get(x).op("f32x4.mul").set(square);
    const factor = ([a, b]: readonly [number, number]) => {
      c.get(square).floats(a).op("f32x4.add").get(square).floats(b);
      this.madd();
    };
    factor(top[0]);
    c.get(x).floats(lead).op("f32x4.mul").op("f32x4.mul");
    factor(top[1]);
    c.op("f32x4.mul");
    for (const pair of bottom) factor(pair);
    c.op("f32x4.mul").op("f32x4.div");
  }

  /** x → erf x. */
  erf(): void {
    this.#rational(erfTop, erfBottom, 4);
  }
}
