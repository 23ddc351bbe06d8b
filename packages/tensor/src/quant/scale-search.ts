// Least-squares searches for the scale (and minimum) of a group of values, as ggml's reference quantizer looks for them
// (ggml: src/ggml-quants.c, make_qx_quants, make_q3_quants, make_qkx2_quants, quantize_row_iq4_nl_impl). Sums are in f64.
import { iq4Values } from "./layout.ts";

/** Values this small count as zero, as in ggml. */
const TINY = 1e-15;
const f = Math.fround;

/** To the nearest whole number, ties to even. */
export const roundEven = (x: number): number => x + 6755399441055744 - 6755399441055744;

export const clamp = (x: number, low: number, high: number): number => (x < low ? low : x > high ? high : x);

/** The value of largest magnitude among x[o…o+n-1]. */
function extreme(x: Float32Array, o: number, n: number): number {
  let best = 0;
  for (let i = 0; i < n; i++) if (Math.abs(x[o + i]!) > Math.abs(best)) best = x[o + i]!;
  return best;
}

/** A weighted fit of codes times a scale: Σ w·x·q and Σ w·q². */
interface Fit {
  xq: number;
  qq: number;
}

/** Codes by `code(iscale * x)`, weighted by x². */
function fitCodes(x: Float32Array, o: number, n: number, iscale: number, code: (v: number) => number, fit: Fit): void {
  let xq = 0;
  let qq = 0;
  for (let i = 0; i < n; i++) {
    const v = x[o + i]!;
    const q = code(iscale * v);
    const w = v * v;
    xq += w * v * q;
    qq += w * q * q;
  }
  fit.xq = xq;
  fit.qq = qq;
}

const fit: Fit = { xq: 0, qq: 0 };

/** The best of several inverse scales by the share of Σ w·x² that its codes explain; 0 for a group of zeros. */
function bestScale(
  x: Float32Array,
  o: number,
  n: number,
  candidates: (extreme: number) => Iterable<number>,
  code: (v: number) => number,
): number {
  const largest = extreme(x, o, n);
  if (Math.abs(largest) < TINY) return 0;
  let scale = 0;
  let best = 0;
  for (const iscale of candidates(largest)) {
    fitCodes(x, o, n, iscale, code, fit);
    if (fit.qq > 0 && fit.xq * fit.xq > best * fit.qq) {
      scale = fit.xq / fit.qq;
      best = scale * fit.xq;
    }
  }
  return f(scale);
}

const code6 = (v: number): number => clamp(roundEven(v), -32, 31);

function* steps6(largest: number): Iterable<number> {
  yield -32 / largest;
  for (let i = -9; i <= 9; i++) if (i !== 0) yield -(32 + 0.1 * i) / largest;
}

/** Signed scale for codes -32…31 of 16 values. */
export const scaleQ6 = (x: Float32Array, o: number): number => bestScale(x, o, 16, steps6, code6);

/** Index of the non-linear level nearest to `v`. */
export function nearestIq4(v: number): number {
  if (v <= -127) return 0;
  if (v >= 113) return 15;
  let low = 0;
  let high = 15;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (v < iq4Values[middle]!) high = middle;
    else low = middle;
  }
  return v - iq4Values[low]! < iq4Values[high]! - v ? low : high;
}

const levelIq4 = (v: number): number => iq4Values[nearestIq4(v)]!;

function* stepsIq4(largest: number): Iterable<number> {
  yield 127 / largest;
  for (let i = -7; i <= 7; i++) yield (i - 127) / largest;
}

/** Signed scale for the non-linear levels of 32 values. */
export const scaleIq4 = (x: Float32Array, o: number): number => bestScale(x, o, 32, stepsIq4, levelIq4);

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

const trial = new Float64Array(32);

/** Σ of a weighted least-squares line value ≈ scale·q + min through the codes of one inverse scale. */
function fitLine(x: Float32Array, o: number, n: number, w: Float64Array, top: number, min: number, iscale: number): ScaleMin | undefined {
  let [sw, sx, sq, sqq, sxq] = [0, 0, 0, 0, 0];
  for (let i = 0; i < n; i++) {
    const v = x[o + i]!;
    const q = clamp(roundEven(iscale * (v - min)), 0, top);
    trial[i] = q;
    sw += w[i]!;
    sx += w[i]! * v;
    sq += w[i]! * q;
    sqq += w[i]! * q * q;
    sxq += w[i]! * q * v;
  }
  const d = sw * sqq - sq * sq;
  if (!(d > 0)) return undefined;
  const offset = (sqq * sx - sq * sxq) / d;
  return offset > 0 ? { scale: sxq / sqq, depth: 0 } : { scale: (sw * sxq - sx * sq) / d, depth: -offset };
}

function lineError(x: Float32Array, o: number, n: number, w: Float64Array, line: ScaleMin, absolute: boolean): number {
  let error = 0;
  for (let i = 0; i < n; i++) {
    const miss = line.scale * trial[i]! - line.depth - x[o + i]!;
    error += w[i]! * (absolute ? Math.abs(miss) : miss * miss);
  }
  return error;
}

/** Scale and minimum of x[o…o+n-1] under weights `w`; starts from the full range, and goes on from the best line so far. */
export function scaleMin(x: Float32Array, o: number, n: number, w: Float64Array, search: ScaleMinSearch): ScaleMin {
  let min = 0;
  let max = x[o]!;
  for (let i = 0; i < n; i++) {
    const v = x[o + i]!;
    if (v < min) min = v;
    if (v > max) max = v;
  }
  if (max === min) return { scale: 0, depth: -min };
  const range = max - min;
  let best: ScaleMin = { scale: range / search.top, depth: -min };
  for (let i = 0; i < n; i++) trial[i] = clamp(roundEven((search.top / range) * (x[o + i]! - min)), 0, search.top);
  let least = lineError(x, o, n, w, best, search.absolute);
  for (let i = 0; i <= search.tries; i++) {
    const line = fitLine(x, o, n, w, search.top, -best.depth, (search.first + 0.1 * i + search.top) / (max + best.depth));
    if (!line) continue;
    const error = lineError(x, o, n, w, line, search.absolute);
    if (error >= least) continue;
    least = error;
    best = line;
  }
  return { scale: f(best.scale), depth: f(best.depth) };
}
