// Generated filters of images, and images read at places, against the plain loops.
import { afterAll, describe, expect, it } from "vitest";
import { compare, labs, storeTolerance } from "./compare.ts";
import { type Lab, values } from "./lab.ts";

afterAll(() => labs.forEach((lab) => void lab.backend.destroy()));

/** Tables of `taps` neighbours a result, those beyond an edge brought to it. */
const tables = (lab: Lab, from: number, to: number, taps: number) => {
  const at = Array.from({ length: taps * to }, (_, n) => Math.floor(((n % to) * from) / to) - 1 + Math.floor(n / to));
  const index = at.map((i) => Math.min(from - 1, Math.max(0, i)));
  return { index: lab.view([taps, to], index, "i32"), weight: lab.random([taps, to], "f32", 5) };
};

describe("filters", () => {
  it.each([
    ["columns, four taps", 3, [2, 3, 5, 21], 42, 4, "f32"],
    ["columns, two windows", 3, [1, 2, 70, 300], 151, 5, "f32"],
    ["columns, five windows, bf16", 3, [1, 1, 3, 40], 13, 18, "bf16"],
    ["rows", 2, [2, 3, 9, 23], 31, 4, "f32"],
    ["rows of a few columns, f16", 2, [1, 2, 40, 3], 17, 6, "f16"],
  ] as const)("%s", async (_name, dim, shape, to, taps, dtype) => {
    const out = shape.map((n, i) => (i === dim ? to : n));
    await compare(
      out,
      dtype,
      (lab, { filter }, result) => filter(result, { x: lab.random(shape, dtype), ...tables(lab, shape[dim], to, taps) }, { dim }),
      storeTolerance[dtype],
    );
  });

  it("leave infinities beside their windows alone, and rows shorter than a window to the plain loops", async () => {
    for (const width of [8, 3]) {
      const results: number[][] = [];
      for (const lab of labs) {
        const out = lab.out([1, 1, 1, 4], "f32");
        const x = lab.view([1, 1, 1, width], [1, 2, Number.POSITIVE_INFINITY, 4, 5, 6, Number.NaN, 8].slice(0, width));
        lab.backend.kernels.filter(
          out,
          { x, index: lab.view([1, 4], [0, 1, 2, 1], "i32"), weight: lab.view([1, 4], [1, 2, 3, 4]) },
          { dim: 3 },
        );
        results.push(await lab.numbers(out));
      }
      expect(results[0]).toEqual([1, 4, Number.POSITIVE_INFINITY, 8]);
      expect(results[1]).toEqual(results[0]);
      expect(results[2]).toEqual(results[0]);
    }
  });
});

describe.each(["bilinear", "bicubic"] as const)("%s places", (mode) => {
  /** Places inside and around the picture, exact in f32. */
  const around = (count: number): number[] => values(2 * count, 3).map((v) => v * 0.8125);

  it.each(["zeros", "border", "reflection"] as const)("%s", async (paddingMode) => {
    for (const alignCorners of [false, true])
      for (const [shape, [rows, columns], dtype] of [
        [[2, 3, 9, 21], [15, 33], "f32"],
        [[1, 2, 1, 4], [3, 7], "f32"],
        [[1, 5, 30, 5], [20, 30], "bf16"],
      ] as const)
        await compare(
          [...shape.slice(0, 2), rows, columns],
          dtype,
          (lab, { gridSample }, out) => {
            const grid = lab.view([shape[0], rows, columns, 2], around(shape[0] * rows * columns));
            gridSample(out, { x: lab.random(shape, dtype), grid }, { mode, paddingMode, alignCorners });
          },
          storeTolerance[dtype],
        );
  });

  it("that are no numbers or far away, and pixels that are not finite beside the places", async () => {
    const [nan, far] = [Number.NaN, 3e38];
    const grid = [nan, 0, 0, nan, far, 0, 0, -far, far, far, -1, -1, 1, 1, -0.875, 0, 0.625, 0.25, -1.125, 0.75, 0.5, 1.0625];
    for (const paddingMode of ["zeros", "border"] as const) {
      const results: number[][] = [];
      for (const lab of labs) {
        const out = lab.out([1, 1, 1, grid.length / 2], "f32");
        const x = lab.view([1, 1, 2, 8], [1, 2, 3, 4, Number.POSITIVE_INFINITY, 6, 7, 8, 9, nan, 11, 12, 13, 14, 15, 16]);
        const inputs = { x, grid: lab.view([1, 1, grid.length / 2, 2], grid) };
        lab.backend.kernels.gridSample(out, inputs, { mode, paddingMode, alignCorners: false });
        results.push(await lab.numbers(out));
      }
      expect(results[0]!.filter(Number.isFinite).length).toBeGreaterThan(5);
      expect(results[1]).toEqual(results[0]);
      expect(results[2]).toEqual(results[0]);
    }
  });
});
