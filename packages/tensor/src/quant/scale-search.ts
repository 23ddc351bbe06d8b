// Least-squares searches for the scale (and minimum) of a group of values, as ggml's reference quantizer looks for them
// (ggml: src/ggml-quants.c, make_qx_quants, make_q3_quants, make_qkx2_quants, quantize_row_iq4_nl_impl). Sums are in f64.
import { iq4Values } from "./layout.ts";

/** Values this small count as zero, as in ggml. */
export const TINY = 1e-15;
const f = Math.fround;

/** To the nearest whole number, ties to even. */
export const roundEven = (x: number): number => x + 6755399441055744 - 6755399441055744;

/** `x` within low…high. */
export const clamp = (x: number, low: number, high: number): number => (x < low ? low : x > high ? high : x);

/** The value of largest magnitude among x[o…o+n-1]. */
function extreme(x: Float32Array, o: number, n: number): number {
  let best = 0;
  for (let i = 0; i < n; i++) if (Math.abs(x[o + i]!) > Math.abs(best)) best = x[o + i]!;
  return best;
}

/** Of the group that is being searched: the values, their weights, weights times values, and codes. Kept, because allocating them took longest. */
const [xs, ws, wxs, qs] = [new Float64Array(32), new Float64Array(32), new Float64Array(32), new Float64Array(32)];
/** Sums over the group and over the codes of one trial, in an array: numbers in variables of a module are boxed at every write. */
const sums = new Float64Array(6);
/** Σ w·x·q, Σ w·q², Σ w·q, Σ w, Σ w·x and Σ w·x². */
const [XQ, QQ, Q, W, X, XX] = [0, 1, 2, 3, 4, 5] as const;

/** Takes `n` values in, weighted by their squares. */
function takeSquared(x: Float32Array, o: number, n: number): void {
  for (let i = 0; i < n; i++) {
    const v = x[o + i]!;
    const w = v * v;
    xs[i] = v;
    ws[i] = w;
    wxs[i] = w * v;
  }
}

/**
 * The best of several inverse scales, `numerators` over the value of largest magnitude, by the share of Σ w·x² that their codes explain; 0 for
 * a group of zeros. `sumsAt` leaves the sums for an inverse scale in `sums`.
 */
function bestScale(x: Float32Array, o: number, n: number, numerators: Float64Array, sumsAt: (iscale: number) => void): number {
  const largest = extreme(x, o, n);
  if (Math.abs(largest) < TINY) return 0;
  takeSquared(x, o, n);
  let scale = 0;
  let best = 0;
  for (let k = 0; k < numerators.length; k++) {
    sumsAt(numerators[k]! / largest);
    const xq = sums[XQ]!;
    const qq = sums[QQ]!;
    if (qq > 0 && xq * xq > best * qq) {
      scale = xq / qq;
      best = scale * xq;
    }
  }
  return f(scale);
}

/** Numerators of the inverse scales that `scaleQ6` tries, in this order. */
export const numeratorsQ6: Float64Array = Float64Array.of(
  -32,
  ...[-9, -8, -7, -6, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 6, 7, 8, 9].map((i) => -(32 + 0.1 * i)),
);

function sumsQ6(iscale: number): void {
  let xq = 0;
  let qq = 0;
  for (let i = 0; i < 16; i++) {
    const q = clamp(roundEven(iscale * xs[i]!), -32, 31);
    xq += wxs[i]! * q;
    qq += ws[i]! * q * q;
  }
  sums[XQ] = xq;
  sums[QQ] = qq;
}

/** Signed scale for codes -32…31 of 16 values. */
export const scaleQ6 = (x: Float32Array, o: number): number => bestScale(x, o, 16, numeratorsQ6, sumsQ6);

/** The index of the level nearest to each half: levels are whole, so what is nearest changes at halves only. From -127 to 113. */
export const nearestByHalf: Uint8Array = Uint8Array.from({ length: 481 }, (_, k) => searchIq4(k / 2 - 127));

/** The higher of two levels equally near, as ggml's best_index_int8 has it. */
function searchIq4(v: number): number {
  let best = 0;
  for (let k = 1; k < 16; k++) if (Math.abs(v - iq4Values[k]!) <= Math.abs(v - iq4Values[best]!)) best = k;
  return best;
}

/** Index of the non-linear level nearest to `v`. */
export const nearestIq4 = (v: number): number => nearestByHalf[Math.floor(2 * clamp(v, -127, 113)) + 254]!;

/** Numerators of the inverse scales that `scaleIq4` tries, in this order. */
export const numeratorsIq4: Float64Array = Float64Array.of(127, ...Array.from({ length: 15 }, (_, i) => i - 7 - 127));
const levels = Float64Array.from(iq4Values);

function sumsIq4(iscale: number): void {
  let xq = 0;
  let qq = 0;
  for (let i = 0; i < 32; i++) {
    const q = levels[nearestIq4(iscale * xs[i]!)]!;
    xq += wxs[i]! * q;
    qq += ws[i]! * q * q;
  }
  sums[XQ] = xq;
  sums[QQ] = qq;
}

/** Signed scale for the non-linear levels of 32 values. */
export const scaleIq4 = (x: Float32Array, o: number): number => bestScale(x, o, 32, numeratorsIq4, sumsIq4);

const codes3 = new Float64Array(16);

/** Signed scale for codes -4…3 of 16 values: rounds once, then moves single codes while the fit improves. */
export function scaleQ3(x: Float32Array, o: number): number {
  const largest = extreme(x, o, 16);
  if (Math.abs(largest) < TINY) return 0;
  for (let i = 0; i < 16; i++) codes3[i] = clamp(roundEven((-4 / largest) * x[o + i]!), -4, 3);
  let xq = 0;
  let qq = 0;
  for (let i = 0; i < 16; i++) {
    const v = x[o + i]!;
    xq += v * v * v * codes3[i]!;
    qq += v * v * codes3[i]! * codes3[i]!;
  }
  for (let round = 0; round < 5; round++) {
    let moved = false;
    for (let i = 0; i < 16; i++) {
      const v = x[o + i]!;
      const w = v * v;
      const q = codes3[i]!;
      const restXq = xq - w * v * q;
      if (restXq <= 0) continue;
      const restQq = qq - w * q * q;
      const to = clamp(roundEven((v * restQq) / restXq), -4, 3);
      const newXq = restXq + w * v * to;
      const newQq = restQq + w * to * to;
      if (to === q || newQq <= 0 || newXq * newXq * qq <= xq * xq * newQq) continue;
      codes3[i] = to;
      xq = newXq;
      qq = newQq;
      moved = true;
    }
    if (!moved) break;
  }
  return qq > 0 ? f(xq / qq) : 0;
}

/** How `scaleMin` searches: codes 0…top, inverse scales (first + step·i + top)/range, error by squares or magnitudes. */
export interface ScaleMinSearch {
  readonly top: number;
  readonly first: number;
  readonly tries: number;
  readonly absolute: boolean;
}

/** A scale and how far below zero code 0 lies (at least 0): value ≈ scale·q - depth. */
export interface ScaleMin {
  scale: number;
  depth: number;
}

function takeWeighted(x: Float32Array, o: number, n: number, w: Float64Array): void {
  sums.fill(0);
  for (let i = 0; i < n; i++) {
    const v = x[o + i]!;
    const wx = w[i]! * v;
    xs[i] = v;
    ws[i] = w[i]!;
    wxs[i] = wx;
    sums[W]! += w[i]!;
    sums[X]! += wx;
    sums[XX]! += wx * v;
  }
}

/** Codes 0…top of one inverse scale, and their sums. */
function tryCodes(n: number, top: number, min: number, iscale: number): void {
  let sq = 0;
  let sqq = 0;
  let sxq = 0;
  for (let i = 0; i < n; i++) {
    const q = clamp(roundEven(iscale * (xs[i]! - min)), 0, top);
    const wq = ws[i]! * q;
    qs[i] = q;
    sq += wq;
    sqq += wq * q;
    sxq += wxs[i]! * q;
  }
  sums[Q] = sq;
  sums[QQ] = sqq;
  sums[XQ] = sxq;
}

/** Weighted squares or magnitudes of what scale·q - depth misses; squares follow from the sums. */
function missed(n: number, scale: number, depth: number, absolute: boolean): number {
  if (!absolute) {
    const squares = scale * (scale * sums[QQ]! - 2 * (depth * sums[Q]! + sums[XQ]!));
    return squares + depth * (depth * sums[W]! + 2 * sums[X]!) + sums[XX]!;
  }
  let error = 0;
  for (let i = 0; i < n; i++) error += ws[i]! * Math.abs(scale * qs[i]! - depth - xs[i]!);
  return error;
}

/** Scale and minimum of x[o…o+n-1] under weights `w`; starts from the full range, and goes on from the best line so far. */
export function scaleMin(
  x: Float32Array,
  o: number,
  n: number,
  w: Float64Array,
  { top, first, tries, absolute }: ScaleMinSearch,
): ScaleMin {
  let min = 0;
  let max = x[o]!;
  for (let i = 0; i < n; i++) {
    const v = x[o + i]!;
    if (v < min) min = v;
    if (v > max) max = v;
  }
  if (max === min) return { scale: 0, depth: -min };
  takeWeighted(x, o, n, w);
  const sw = sums[W]!;
  const sx = sums[X]!;
  let bestScale = (max - min) / top;
  let bestDepth = -min;
  tryCodes(n, top, min, top / (max - min));
  let least = missed(n, bestScale, bestDepth, absolute);
  for (let i = 0; i <= tries; i++) {
    tryCodes(n, top, -bestDepth, (first + 0.1 * i + top) / (max + bestDepth));
    // The weighted least-squares line through the codes; through zero where it would start above.
    const sq = sums[Q]!;
    const sqq = sums[QQ]!;
    const sxq = sums[XQ]!;
    const d = sw * sqq - sq * sq;
    if (!(d > 0)) continue;
    const offset = (sqq * sx - sq * sxq) / d;
    const scale = offset > 0 ? sxq / sqq : (sw * sxq - sx * sq) / d;
    const depth = offset > 0 ? 0 : -offset;
    const error = missed(n, scale, depth, absolute);
    if (error >= least) continue;
    least = error;
    bestScale = scale;
    bestDepth = depth;
  }
  return { scale: f(bestScale), depth: f(bestDepth) };
}
