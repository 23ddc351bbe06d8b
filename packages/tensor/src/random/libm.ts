// log, sin, cos and log1p in double precision with the bits of glibc 2.36 on x86-64 with FMA, for the arguments that Box-Muller has:
// logarithms of (0, 1], angles in [0, 2π). JavaScript's own Math differs from it in the last place.
// Algorithms: ARM-software/optimized-routines math/log.c (log); glibc sysdeps/ieee754/dbl-64/s_sin.c and s_log1p.c (the rest).
// GCC fuses a product into the sum that uses it; `fma64` stands where it does.
import { fma64 as fma } from "./fma.ts";
import { logTable } from "./log-table.ts";

const value = new Float64Array(1);
const words = new Int32Array(value.buffer);

/** log(1+r) near 0 and log1p(r) - r for small r, from log_data.c. */
const B = [
  -0.5, 0.3333333333333352, -0.24999999999998432, 0.19999999999320328, -0.16666666669929706, 0.14285715076560868, -0.12499997863982555,
  0.11110712032936046, -0.10000486757818193, 0.09181994006195467, -0.08328363062289341,
];
const A = [-0.5000000000000001, 0.33333333331825593, -0.2499999999622955, 0.20000304511814496, -0.16667054827627667];
const LN2_HIGH = 0.6931471805598903;
const LN2_LOW = 5.497923018708371e-14;

function logNearOne(x: number): number {
  const r = x - 1;
  const r2 = r * r;
  const r3 = r * r2;
  const inner = fma(r3, B[10]!, fma(r2, B[9]!, fma(r, B[8]!, B[7]!)));
  const middle = fma(r3, inner, fma(r2, B[6]!, fma(r, B[5]!, B[4]!)));
  const outer = fma(r3, middle, fma(r2, B[3]!, fma(r, B[2]!, B[1]!)));
  const shifted = r * 0x8000000;
  const high = r + shifted - shifted;
  const low = r - high;
  const half = high * high * -0.5;
  const top = r + half;
  const rest = fma(-0.5 * low, high + r, r - top + half);
  return fma(r3, outer, rest) + top;
}

/** Natural logarithm of a normal x in (0, 1]. */
export function log(x: number): number {
  if (x === 1) return 0;
  if (x >= 0.9375) return logNearOne(x);
  value[0] = x;
  const above = words[1]! - 0x3fe60000;
  const i = (above >>> 13) & 127;
  const k = above >> 20;
  words[1] = words[1]! - (above & 0xfff00000);
  const r = fma(value[0]!, logTable[2 * i]!, -1);
  const w = fma(k, LN2_HIGH, logTable[2 * i + 1]!);
  const high = w + r;
  const low = fma(k, LN2_LOW, w - high + r);
  const r2 = r * r;
  const tail = fma(r2, fma(r, A[4]!, A[3]!), fma(r, A[2]!, A[1]!));
  return fma(r * r2, tail, fma(r2, A[0]!, low)) + high;
}

const SN3 = -0.16666666666666488;
const SN5 = 0.008333332142857223;
const CS2 = 0.5;
const CS4 = -0.04166666666666644;
const CS6 = 0.001388888740079376;
const S1 = -0.16666666666666666;
const S2 = 0.008333333333332329;
const S3 = -0.00019841269834414642;
const S4 = 2.755729806860771e-6;
const S5 = -2.5022014848318398e-8;
const BIG = 52776558133248;
const HALF_PI = 1.5707963267948966;
const HALF_PI_LOW = 6.123233995736766e-17;

/** sin and cos of k/128, each as a rounded value and what rounding lost: [sin, sinLow, cos, cosLow] from index 4k. */
let sineTable: Float64Array | undefined;
const FIXED_BITS = 192n;

function makeSineTable(): Float64Array {
  const table = new Float64Array(4 * 112);
  for (let k = 0; k < 112; k++) {
    const x = (BigInt(k) << FIXED_BITS) / 128n;
    store(table, 4 * k, series(x, x, 1n));
    store(table, 4 * k + 2, series(x, 1n << FIXED_BITS, 0n));
  }
  return table;
}

/** Taylor series of sine (first term x, n = 1) or cosine (first term 1, n = 0) in fixed point. */
function series(x: bigint, first: bigint, n: bigint): bigint {
  const square = (x * x) >> FIXED_BITS;
  let sum = 0n;
  for (let term = first; term !== 0n && term !== -1n; n += 2n) {
    sum += term;
    term = -(((term * square) >> FIXED_BITS) / ((n + 1n) * (n + 2n)));
  }
  return sum;
}

function store(table: Float64Array, at: number, fixed: bigint): void {
  const unit = 2 ** -Number(FIXED_BITS);
  const high = Number(fixed);
  table[at] = high * unit;
  table[at + 1] = Number(fixed - BigInt(high)) * unit;
}

/** cos(x + dx) by table; |x| below 0.86. */
function cosNear(x: number, dx: number): number {
  const table = (sineTable ??= makeSineTable());
  const size = Math.abs(x);
  const grid = BIG + size;
  const k = 4 * Math.round((grid - BIG) * 128);
  const r = size - (grid - BIG) + (x < 0 ? -dx : dx);
  const rr = r * r;
  const s = fma(r * rr, fma(rr, SN5, SN3), r);
  const c = rr * fma(rr, fma(rr, CS6, CS4), CS2);
  const [sn, snLow, cs, csLow] = [table[k]!, table[k + 1]!, table[k + 2]!, table[k + 3]!];
  return cs + fma(-sn, s, fma(-cs, c, fma(-s, snLow, csLow)));
}

/** sin(x + dx) by table, or by series for |x| below 0.126. */
function sinNear(x: number, dx: number): number {
  const size = Math.abs(x);
  if (size < 0.126) {
    const xx = x * x;
    const p = fma(fma(fma(fma(S5, xx, S4), xx, S3), xx, S2), xx, S1);
    return x + fma(fma(p, x, -0.5 * dx), xx, dx);
  }
  const table = (sineTable ??= makeSineTable());
  if (x <= 0) dx = -dx;
  const grid = BIG + size;
  const k = 4 * Math.round((grid - BIG) * 128);
  const r = size - (grid - BIG);
  const rr = r * r;
  const s = r + fma(r * rr, fma(rr, SN5, SN3), dx);
  const c = fma(r, dx, rr * fma(rr, fma(rr, CS6, CS4), CS2));
  const [sn, snLow, cs, csLow] = [table[k]!, table[k + 1]!, table[k + 2]!, table[k + 3]!];
  const result = sn + fma(cs, s, fma(-sn, c, fma(s, csLow, snLow)));
  return x < 0 ? -result : result;
}

const result: [number, number] = [0, 0];

/** [sin x, cos x] of x in [0, 2π); the array is reused. */
export function sinCos(x: number): readonly [number, number] {
  if (x < 2 ** -27) {
    result[0] = x;
    result[1] = 1;
  } else if (x < 0.85546875) {
    result[0] = sinNear(x, 0);
    result[1] = cosNear(x, 0);
  } else if (x < 2.426265) {
    const y = HALF_PI - x;
    const a = y + HALF_PI_LOW;
    const da = y - a + HALF_PI_LOW;
    result[0] = cosNear(a, da);
    result[1] = sinNear(a, da);
  } else reduced(x);
  return result;
}

/** Angles from 2.43 on: a multiple of π/2 comes off in four parts. */
function reduced(x: number): void {
  const toInt = 6755399441055744;
  const n = fma(x, 0.6366197723675814, toInt) - toInt;
  const y = fma(-n, -1.3909067564377153e-8, fma(-n, 1.5707963407039642, x));
  const t = fma(-n, -4.97899623147991e-17, y);
  const low = fma(-n, -4.97899623147991e-17, y - t);
  const a = fma(-n, -1.9034889620193266e-25, t);
  const da = low + fma(-n, -1.9034889620193266e-25, t - a);
  const sine = sinNear(a, da);
  const cosine = cosNear(a, da);
  const quadrant = n & 3;
  result[0] = quadrant === 0 ? sine : quadrant === 1 ? cosine : quadrant === 2 ? -sine : -cosine;
  result[1] = quadrant === 0 ? cosine : quadrant === 1 ? -sine : quadrant === 2 ? -cosine : sine;
}

const LP = [
  0.6666666666666735, 0.3999999999940942, 0.2857142874366239, 0.22222198432149784, 0.1818357216161805, 0.15313837699209373,
  0.14798198605116586,
];
const LN2_HI = 0.6931471803691238;
const LN2_LO = 1.9082149292705877e-10;

/** log(1 + x) of x in (-1, 0]. */
export function log1p(x: number): number {
  if (x === 0) return x;
  if (x > -(2 ** -29)) return x > -(2 ** -54) ? x : x - x * x * 0.5;
  let [k, correction, f, hu] = [0, 0, x, 1];
  value[0] = x;
  if (words[1]! > (0xbfd2bec3 | 0)) {
    const u = 1 + x;
    value[0] = u;
    hu = words[1]!;
    k = (hu >> 20) - 1023;
    correction = (k > 0 ? 1 - (u - x) : x - (u - 1)) / u;
    hu &= 0xfffff;
    const small = hu < 0x6a09e;
    words[1] = hu | (small ? 0x3ff00000 : 0x3fe00000);
    if (!small) {
      k += 1;
      hu = (0x100000 - hu) >> 2;
    }
    f = value[0]! - 1;
  }
  return log1pFinish(f, k, correction, hu);
}

function log1pFinish(f: number, k: number, correction: number, hu: number): number {
  const half = 0.5 * f * f;
  const low = fma(k, LN2_LO, correction);
  if (hu === 0) {
    if (f === 0) return k === 0 ? 0 : k * LN2_HI + low;
    const tail = half * (1 - (2 / 3) * f);
    return k === 0 ? f - tail : k * LN2_HI - (tail - low - f);
  }
  const s = f / (2 + f);
  const z = s * s;
  const z2 = z * z;
  const z4 = z2 * z2;
  const z6 = z4 * z2;
  const start = fma(z, LP[0]!, z2 * fma(z, LP[2]!, LP[1]!));
  const R = fma(z6, fma(z, LP[6]!, LP[5]!), fma(z4, fma(z, LP[4]!, LP[3]!), start));
  if (k === 0) return f - (half - s * (half + R));
  return k * LN2_HI - (half - (s * (half + R) + low) - f);
}
