// The measures themselves, against values worked out by hand.
import { describe, expect, it } from "vitest";
import { explainDifference, maxAbs, psnrDb, relativeL2, tolerances } from "../src/index.ts";

describe("relativeL2", () => {
  it("is the norm of the difference over the norm of what was expected", () => {
    expect(relativeL2([3, 4], [3, 0])).toBeCloseTo(4 / 3, 15);
    expect(relativeL2(Float32Array.of(1, 1), [1, 1])).toBe(0);
    expect(relativeL2([], [])).toBe(0);
    expect(relativeL2([0, 0], [0, 0])).toBe(0);
    expect(relativeL2([1], [0])).toBe(Infinity);
  });

  it("takes matching infinities and NaNs as equal and others as wrong", () => {
    expect(relativeL2([Infinity, Number.NaN, 2], [Infinity, Number.NaN, 1])).toBe(1);
    expect(relativeL2([Number.NaN], [1])).toBeNaN();
    expect(relativeL2([1], [Number.NaN])).toBeNaN();
    expect(relativeL2([Infinity], [1])).toBe(Infinity);
    expect(relativeL2([1], [Infinity])).toBe(Infinity);
  });

  it("refuses different lengths", () => {
    expect(() => relativeL2([1], [1, 2])).toThrowErrorMatchingInlineSnapshot(
      `[RangeError: relativeL2: lengths differ: actual has 1 elements, expected has 2]`,
    );
  });
});

describe("maxAbs", () => {
  it("gives the largest difference and its index", () => {
    expect(maxAbs([1, 5, 2], [1, 2, 3])).toEqual({ value: 3, index: 1 });
    expect(maxAbs([1, Number.NaN], [1, Number.NaN])).toEqual({ value: 0, index: -1 });
    expect(maxAbs([9, Number.NaN], [0, 1])).toEqual({ value: Number.NaN, index: 1 });
  });
});

describe("explainDifference", () => {
  it("is null within the tolerance and a sentence beyond it", () => {
    expect(explainDifference([1.0000001, 2], [1, 2], tolerances.model.f32)).toBeNull();
    expect(explainDifference([1.5, 2], [1, 2], tolerances.model.f32)).toMatchInlineSnapshot(
      `"relative L2 error 2.236e-1 exceeds 1.0e-4; largest difference 5.000e-1 at [0]: 1.5 instead of 1"`,
    );
    expect(explainDifference([Number.NaN], [1], 1)).toMatchInlineSnapshot(
      `"relative L2 error NaN exceeds 1.0e+0; largest difference NaN at [0]: NaN instead of 1"`,
    );
  });
});

describe("psnrDb", () => {
  it("is 20 dB for an error of a tenth of the range", () => {
    expect(psnrDb([0.2, 0.2], [0, 0], 2)).toBeCloseTo(20, 10);
    expect(psnrDb([1], [1], 255)).toBe(Infinity);
  });
});
