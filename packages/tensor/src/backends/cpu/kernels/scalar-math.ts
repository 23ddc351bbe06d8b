// The scalar functions behind elementwise expressions, in f64 with PyTorch's answers at infinities, NaN, zeros and ties.
import type { BinaryOp, UnaryOp } from "../../../ops/expr.ts";

/** Nearest whole number, ties to even. */
function roundHalfEven(x: number): number {
  const r = Math.round(x);
  return r - x === 0.5 && r % 2 !== 0 ? r - 1 : r;
}

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

const erfStep = 1 / 32;
const erfTerms = 8;

/** Taylor coefficients of erf around multiples of 1/32 from 0 to 6, by the Hermite recurrence of its derivatives. */
function erfCoefficients(): Float64Array {
  const nodes = 6 / erfStep + 1;
  const c = new Float64Array(nodes * erfTerms);
  for (let n = 0; n < nodes; n++) {
    const x = n * erfStep;
    const at = n * erfTerms;
    c[at] = erfSeries(x);
    let [before, d] = [0, (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x)];
    let factorial = 1;
    for (let k = 1; k < erfTerms; k++) {
      factorial *= k;
      c[at + k] = d / factorial;
      [before, d] = [d, -2 * x * d - 2 * (k - 1) * before];
    }
  }
  return c;
}

/** erf by its all-positive series: 2/√π · e^(-x²) · Σ 2ⁿ x^(2n+1) / (2n+1)!!. */
function erfSeries(x: number): number {
  let term = x;
  let sum = x;
  for (let n = 1; n < 200; n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return Math.min(1, (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum);
}

let erfTable: Float64Array | undefined;

/** The error function, to about 1e-15. */
export function erf(x: number): number {
  const a = Math.abs(x);
  if (!(a < 6)) return Number.isNaN(x) ? x : Math.sign(x);
  erfTable ??= erfCoefficients();
  const node = Math.round(a / erfStep);
  const h = a - node * erfStep;
  let sum = 0;
  for (let k = erfTerms - 1; k >= 0; k--) sum = sum * h + erfTable[node * erfTerms + k]!;
  return x < 0 ? -sum : sum;
}

/** C's pow, which differs from JavaScript's at ±1 with infinite or NaN exponents. */
function pow(x: number, y: number): number {
  if (x === 1) return 1;
  if (x === -1 && (y === Number.POSITIVE_INFINITY || y === Number.NEGATIVE_INFINITY)) return 1;
  return x ** y;
}

/** torch.remainder: the sign of the divisor. */
function rem(x: number, y: number): number {
  const m = x % y;
  return m !== 0 && m < 0 !== y < 0 ? m + y : m;
}

/** torch.floor_divide on floats: the floor of the exact quotient. */
function floorDiv(x: number, y: number): number {
  if (y === 0) return x / y;
  const m = x % y;
  let q = (x - m) / y;
  if (m !== 0 && m < 0 !== y < 0) q -= 1;
  const floor = Math.floor(q);
  return q - floor > 0.5 ? floor + 1 : floor;
}

/** Of f32 values; comparisons and tests give 1 or 0. */
export const floatUnary: Record<UnaryOp, (x: number) => number> = {
  neg: (x) => -x,
  abs: Math.abs,
  sign: (x) => (x > 0 ? 1 : x < 0 ? -1 : 0),
  exp: Math.exp,
  expm1: Math.expm1,
  log: Math.log,
  log1p: Math.log1p,
  log2: Math.log2,
  sqrt: Math.sqrt,
  rsqrt: (x) => 1 / Math.sqrt(x),
  square: (x) => x * x,
  recip: (x) => 1 / x,
  sin: Math.sin,
  cos: Math.cos,
  tan: Math.tan,
  asin: Math.asin,
  acos: Math.acos,
  atan: Math.atan,
  sinh: Math.sinh,
  cosh: Math.cosh,
  tanh: Math.tanh,
  sigmoid,
  silu: (x) => x / (1 + Math.exp(-x)),
  relu: (x) => (x < 0 ? 0 : x),
  gelu: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x * x * x))),
  geluErf: (x) => 0.5 * x * (1 + erf(x * Math.SQRT1_2)),
  geluQuick: (x) => x * sigmoid(1.702 * x),
  softplus: (x) => (x > 20 ? x : Math.log1p(Math.exp(x))),
  erf,
  floor: Math.floor,
  ceil: Math.ceil,
  round: roundHalfEven,
  trunc: Math.trunc,
  not: (x) => (x === 0 ? 1 : 0),
  isNan: (x) => (Number.isNaN(x) ? 1 : 0),
  isInf: (x) => (Math.abs(x) === Number.POSITIVE_INFINITY ? 1 : 0),
  isFinite: (x) => (Number.isFinite(x) ? 1 : 0),
};

/** Of integers; functions not listed here are computed in floats. */
export const intUnary: Partial<Record<UnaryOp, (x: number) => number>> = {
  neg: (x) => -x | 0,
  square: (x) => Math.imul(x, x),
  floor: (x) => x,
  ceil: (x) => x,
  round: (x) => x,
  trunc: (x) => x,
  isFinite: () => 1,
};

/** Of f32 values; "and", "or", "xor" are logical. */
export const floatBinary: Record<BinaryOp, (x: number, y: number) => number> = {
  add: (x, y) => x + y,
  sub: (x, y) => x - y,
  mul: (x, y) => x * y,
  div: (x, y) => x / y,
  floorDiv,
  rem,
  pow,
  min: Math.min,
  max: Math.max,
  atan2: Math.atan2,
  eq: (x, y) => (x === y ? 1 : 0),
  ne: (x, y) => (x !== y ? 1 : 0),
  lt: (x, y) => (x < y ? 1 : 0),
  le: (x, y) => (x <= y ? 1 : 0),
  gt: (x, y) => (x > y ? 1 : 0),
  ge: (x, y) => (x >= y ? 1 : 0),
  and: (x, y) => (x !== 0 && y !== 0 ? 1 : 0),
  or: (x, y) => (x !== 0 || y !== 0 ? 1 : 0),
  xor: (x, y) => ((x !== 0) !== (y !== 0) ? 1 : 0),
};

/** Whole power with 32-bit wrap; a negative exponent truncates towards zero. */
function intPow(x: number, y: number): number {
  if (y < 0) return x === 1 ? 1 : x === -1 ? (y % 2 === 0 ? 1 : -1) : 0;
  let r = 1;
  for (let b = x, e = y; e > 0; e = Math.floor(e / 2), b = Math.imul(b, b)) if (e % 2 === 1) r = Math.imul(r, b);
  return r;
}

/** Of integers, before wrapping to 32 bits. Dividing by zero gives 0. */
export const intBinary: Partial<Record<BinaryOp, (x: number, y: number) => number>> = {
  mul: Math.imul,
  floorDiv: (x, y) => (y === 0 ? 0 : Math.floor(x / y)),
  rem: (x, y) => (y === 0 ? 0 : rem(x, y)),
  pow: intPow,
  and: (x, y) => x & y,
  or: (x, y) => x | y,
  xor: (x, y) => x ^ y,
};
