// x to the power of y for four floats, with C's answers at zeros, infinities and NaN: the binary logarithm of |x| times y in f64, since the
// product's error grows with its size, then a power of two. Coefficients: tools/reference/simd_polynomials.py.
import { type Code, type Local, v128 } from "../../../wasm/encoder.ts";
import type { SimdMath } from "./simd-math.ts";

/** log2((1 + s) / (1 - s)) / s of s² */
const logTail = [0.431756099319891, 0.5767136394099324, 0.9617988542222663, 2.8853900797808456];
/** What one exponent is in the bits of an f32. */
const exponentUnit = 2 ** 23;
/** Adding it to a small f64 leaves the nearest integer in the low bits. */
const rounder = 1.5 * 2 ** 52;
/** Powers of two beyond which results are infinite or nothing. */
const most = 160;

/** Pushes x ** y. */
export function emitPower(c: Code, math: SimdMath, x: Local, y: Local): void {
  const [size, result] = c.locals(v128, 2) as [Local, Local];
  c.get(x).op("f32x4.abs").set(size);
  const { f, n } = emitExponent(c, size, y);
  math.scaledPower(f, n);
  c.set(result);
  // 0, infinity and NaN are their own powers, or their inverses'.
  c.floats(1).get(size).op("f32x4.div").get(size).get(y).floats(0).op("f32x4.lt").op("v128.bitselect").get(result);
  c.get(size).floats(Number.POSITIVE_INFINITY).op("f32x4.lt").get(size).floats(0).op("f32x4.gt").op("v128.and").op("v128.not");
  c.op("v128.bitselect").set(result);
  c.floats(1).get(result).get(size).floats(1).op("f32x4.eq").op("v128.bitselect").set(result);
  emitSign(c, x, y, result);
  c.floats(1).get(result).get(y).floats(0).op("f32x4.eq").get(x).floats(1).op("f32x4.eq").op("v128.or").op("v128.bitselect");
}

/** The product of y and the binary logarithm of positive numbers: its nearest whole number, as integer, and the rest. */
function emitExponent(c: Code, size: Local, y: Local): { f: Local; n: Local } {
  const [m, e, f, n] = c.locals(v128, 4) as [Local, Local, Local, Local];
  const small = c.local(v128);
  // Subnormal numbers are scaled up by 2²³ first.
  c.get(size)
    .floats(2 ** -126)
    .op("f32x4.lt")
    .set(small);
  c.get(size).floats(exponentUnit).op("f32x4.mul").get(size).get(small).op("v128.bitselect").set(m);
  c.get(m).ints(0x3f3504f3).op("i32x4.sub").ints(0xff800000).op("v128.and").set(e).get(m).get(e).op("i32x4.sub").set(m);
  c.get(e)
    .get(small)
    .ints(23 * exponentUnit)
    .op("v128.and")
    .op("i32x4.sub")
    .set(e);
  const products = [0, 1].map((half) => emitProduct(c, half, m, e, y)) as [Local, Local];
  const wholes = products.map((w) => {
    const whole = c.local(v128);
    c.get(w).doubles(rounder).op("f64x2.add").set(whole);
    c.get(w).get(whole).doubles(rounder).op("f64x2.sub").op("f64x2.sub").op("f32x4.demote_f64x2_zero").set(w);
    return whole;
  }) as [Local, Local];
  c.get(products[0]).get(products[1]).shuffle(0, 1, 4, 5).set(f).get(wholes[0]).get(wholes[1]).shuffle(0, 2, 4, 6).set(n);
  return { f, n };
}

/** Half of the products, in f64, within ± `most`; NaN stays. */
function emitProduct(c: Code, half: number, m: Local, e: Local, y: Local): Local {
  const [s, square, w] = c.locals(v128, 3) as [Local, Local, Local];
  const part = (v: Local) => {
    c.get(v);
    if (half === 1) c.get(v).shuffle(2, 3, 0, 1);
    return c;
  };
  part(m).op("f64x2.promote_low_f32x4").set(s);
  c.get(s).doubles(1).op("f64x2.sub").get(s).doubles(1).op("f64x2.add").op("f64x2.div").tee(s).get(s).op("f64x2.mul").set(square);
  c.doubles(logTail[0]!);
  for (const k of logTail.slice(1)) c.get(square).op("f64x2.mul").doubles(k).op("f64x2.add");
  c.get(s).op("f64x2.mul");
  part(e)
    .op("f64x2.convert_low_i32x4_s")
    .doubles(1 / exponentUnit)
    .op("f64x2.mul")
    .op("f64x2.add");
  part(y).op("f64x2.promote_low_f32x4").op("f64x2.mul");
  c.doubles(most).op("f64x2.pmin").doubles(-most).op("f64x2.pmax").set(w);
  return w;
}

/** Odd powers of negative numbers are negative, those between whole numbers none; nor is anything to the power of NaN. */
function emitSign(c: Code, x: Local, y: Local, result: Local): void {
  const [half, broken] = c.locals(v128, 2) as [Local, Local];
  c.get(y).floats(0.5).op("f32x4.mul").set(half);
  c.get(y).op("f32x4.trunc").get(y).op("f32x4.ne").set(broken);
  c.get(x).ints(0x80000000).op("v128.and").get(half).op("f32x4.trunc").get(half).op("f32x4.ne").op("v128.and");
  c.get(broken).op("v128.andnot").get(result).op("v128.or");
  c.get(broken).get(x).floats(0).op("f32x4.lt").op("v128.and").get(x).floats(Number.NEGATIVE_INFINITY).op("f32x4.gt").op("v128.and");
  c.get(y).get(y).op("f32x4.ne").op("v128.or").op("v128.or").set(result);
}
