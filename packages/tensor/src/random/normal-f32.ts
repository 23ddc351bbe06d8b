// Box-Muller in single precision as PyTorch's AVX2 and AVX512 builds compute it: Cephes polynomials with the multiply-adds fused.
// pytorch: aten/src/ATen/native/cpu/DistributionTemplates.h (NormalFill16) and avx_mathfun.h (log256_ps, sincos256_ps).

const f = Math.fround;
const wide = new Float64Array(1);
const wideWords = new Uint32Array(wide.buffer);
const narrow = new Float32Array(1);
const narrowBits = new Int32Array(narrow.buffer);

/** a*b + c rounded once to f32; the product of two f32 is exact in f64, only a sum that lands on a rounding tie needs care. */
function fma(a: number, b: number, c: number): number {
  const product = a * b;
  const sum = product + c;
  wide[0] = sum;
  if ((wideWords[0]! & 0x1fffffff) !== 0x10000000) return f(sum);
  return f(offTie(product, c, sum));
}

/** `sum` moved off the tie in the direction of what its rounding to f64 lost. */
function offTie(product: number, c: number, sum: number): number {
  const back = sum - product;
  const lost = product - (sum - back) + (c - back);
  if (lost === 0) return sum;
  wideWords[0] = wideWords[0]! + (lost > 0 === sum > 0 ? 1 : -1);
  return wide[0]!;
}

const SQRT_HALF = f(Math.SQRT1_2);
const LOG = [
  7.0376836292e-2, -1.151461031e-1, 1.167699874e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1,
  3.3333331174e-1,
].map(f);
const LN2_LOW = f(-2.1219444e-4);
const LN2_HIGH = f(0.693359375);

/** Natural logarithm of a normal positive f32. */
function log(x: number): number {
  narrow[0] = x;
  const bits = narrowBits[0]!;
  let e = (bits >> 23) - 126;
  narrowBits[0] = (bits & 0x007fffff) | 0x3f000000;
  let m = narrow[0]!;
  if (m < SQRT_HALF) {
    e -= 1;
    m = f(f(m - 1) + m);
  } else m = f(m - 1);
  const z = f(m * m);
  let y = LOG[0]!;
  for (let i = 1; i < 9; i++) y = fma(y, m, LOG[i]!);
  y = f(y * m);
  y = fma(y, z, f(e * LN2_LOW));
  y = fma(-z, 0.5, y);
  return fma(e, LN2_HIGH, f(m + y));
}

const FOUR_OVER_PI = f(1.27323954473516);
const [DP1, DP2, DP3] = [f(-0.78515625), f(-0.00024187564849853516), f(-3.774894977445941e-8)];
const [S0, S1, S2] = [f(-1.9515295891e-4), f(8.3321608736e-3), f(-1.6666654611e-1)];
const [C0, C1, C2] = [f(2.443315711809948e-5), f(-1.388731625493765e-3), f(4.166664568298827e-2)];
const TWO_PI = f(2 * Math.PI);

/** Turns uniforms x[i…i+7] and x[i+8…i+15] in [0, 1) into 16 normal values in place. */
export function boxMuller16(x: Float32Array, i: number): void {
  for (let j = i; j < i + 8; j++) {
    const radius = f(Math.sqrt(f(-2 * log(f(1 - x[j]!)))));
    const angle = f(TWO_PI * x[j + 8]!);
    const octant = (Math.trunc(f(angle * FOUR_OVER_PI)) + 1) & ~1;
    const r = fma(octant, DP3, fma(octant, DP2, fma(octant, DP1, angle)));
    const z = f(r * r);
    let c = fma(fma(C0, z, C1), z, C2);
    c = f(c * z);
    c = f(fma(c, z, -f(z * 0.5)) + 1);
    let s = fma(fma(S0, z, S1), z, S2);
    s = f(s * z);
    s = fma(s, r, r);
    const swap = (octant & 2) !== 0;
    const sine = octant & 4 ? -(swap ? c : s) : swap ? c : s;
    const cosine = (octant - 2) & 4 ? (swap ? s : c) : -(swap ? s : c);
    x[j] = f(radius * cosine) + 0;
    x[j + 8] = f(radius * sine) + 0;
  }
}
