// Fused multiply-add in double precision, which JavaScript lacks: a*b + c rounded once. Exact while nothing overflows or underflows.
// S. Boldo, G. Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd" (2008).

const SPLIT = 134217729;
const value = new Float64Array(1);
const words = new Uint32Array(value.buffer);

/** x + y rounded to odd: when inexact, the neighbour whose last bit is 1. */
function addToOdd(x: number, y: number): number {
  const sum = x + y;
  const back = sum - x;
  const lost = x - (sum - back) + (y - back);
  if (lost === 0) return sum;
  value[0] = sum;
  if (words[0]! & 1) return sum;
  if (lost > 0 === sum > 0) words[0]! += 1;
  else if (words[0] !== 0) words[0]! -= 1;
  else {
    words[0] = 0xffffffff;
    words[1]! -= 1;
  }
  return value[0]!;
}

/** a*b + c rounded once to f64. */
export function fma64(a: number, b: number, c: number): number {
  const product = a * b;
  let t = SPLIT * a;
  const aHigh = t - (t - a);
  const aLow = a - aHigh;
  t = SPLIT * b;
  const bHigh = t - (t - b);
  const bLow = b - bHigh;
  const productLow = aLow * bLow - (product - aHigh * bHigh - aLow * bHigh - aHigh * bLow);
  const lowSum = c + productLow;
  let back = lowSum - c;
  const lowest = c - (lowSum - back) + (productLow - back);
  const sum = product + lowSum;
  back = sum - product;
  const rest = product - (sum - back) + (lowSum - back);
  return sum + addToOdd(rest, lowest);
}
