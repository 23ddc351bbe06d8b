// The one way results are compared: relative L2 error, with the largest absolute error and where it is. Sums run in f64.

/** Numbers of any kind: arrays and all typed arrays of numbers. */
export type Numbers = ArrayLike<number>;

/** Throws RangeError when the lengths differ: a comparison of different sizes is a mistake, not a distance. */
function checkLengths(name: string, actual: Numbers, expected: Numbers): void {
  if (actual.length !== expected.length) {
    throw new RangeError(`${name}: lengths differ: actual has ${actual.length} elements, expected has ${expected.length}`);
  }
}

/**
 * |actual - expected| / |expected|, Euclidean norms. 0 for two empty or equal arrays; Infinity when only `expected` is all zero;
 * NaN when either holds NaN where the other does not. Equal infinities and matching NaNs count as equal and do not enter the norm.
 * Throws RangeError when the lengths differ.
 */
export function relativeL2(actual: Numbers, expected: Numbers): number {
  checkLengths("relativeL2", actual, expected);
  let errorSquared = 0;
  let normSquared = 0;
  for (let i = 0; i < expected.length; i++) {
    const [a, e] = [actual[i] ?? Number.NaN, expected[i] ?? Number.NaN];
    if (a === e || (Number.isNaN(a) && Number.isNaN(e))) {
      if (Number.isFinite(e)) normSquared += e * e;
      continue;
    }
    errorSquared += (a - e) ** 2;
    normSquared += e * e;
  }
  if (Number.isNaN(errorSquared)) return Number.NaN;
  if (errorSquared === 0) return 0;
  return errorSquared === Infinity ? Infinity : Math.sqrt(errorSquared / normSquared);
}

/** Largest |actual[i] - expected[i]| and its index; { value: 0, index: -1 } when all are equal. NaN wins over every number. Throws RangeError when the lengths differ. */
export function maxAbs(actual: Numbers, expected: Numbers): { readonly value: number; readonly index: number } {
  checkLengths("maxAbs", actual, expected);
  let worst = { value: 0, index: -1 };
  for (let i = 0; i < expected.length; i++) {
    const [a, e] = [actual[i] ?? Number.NaN, expected[i] ?? Number.NaN];
    if (Object.is(a, e)) continue;
    const value = Math.abs(a - e);
    if (Number.isNaN(value)) return { value, index: i };
    if (value > worst.value) worst = { value, index: i };
  }
  return worst;
}

/**
 * Null when relativeL2(actual, expected) is at most `tolerance` (NaN is not), else one sentence with both measures and the
 * worst element. Throws RangeError when the lengths differ.
 */
export function explainDifference(actual: Numbers, expected: Numbers, tolerance: number): string | null {
  const error = relativeL2(actual, expected);
  if (error <= tolerance) return null;
  const { value, index } = maxAbs(actual, expected);
  return (
    `relative L2 error ${error.toExponential(3)} exceeds ${tolerance.toExponential(1)}; ` +
    `largest difference ${value.toExponential(3)} at [${index}]: ${actual[index]} instead of ${expected[index]}`
  );
}

/** Peak signal-to-noise ratio in dB of two pictures whose values span `range` (255 for bytes, 2 for -1..1). Throws RangeError when the lengths differ. */
export function psnrDb(actual: Numbers, expected: Numbers, range: number): number {
  checkLengths("psnrDb", actual, expected);
  let sum = 0;
  for (let i = 0; i < expected.length; i++) sum += ((actual[i] ?? Number.NaN) - (expected[i] ?? Number.NaN)) ** 2;
  return sum === 0 ? Infinity : 10 * Math.log10((range * range * expected.length) / sum);
}
