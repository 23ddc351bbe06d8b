// Generated moves against the plain loops: transposes, rows, and values by index.
import { afterAll, describe, expect, it } from "vitest";
import type { View } from "../../src/backends/backend.ts";
import type { DType } from "../../src/dtype.ts";
import { contiguousLayout, permuteLayout } from "../../src/layout.ts";
import { labs } from "./compare.ts";
import type { Lab } from "./lab.ts";

afterAll(() => labs.forEach((lab) => void lab.backend.destroy()));

describe("copies", () => {
  const moved = (lab: Lab, shape: readonly number[], order: readonly number[], dtype: DType): View => ({
    ...lab.random(shape, dtype),
    layout: permuteLayout(contiguousLayout(shape), order),
  });
  it("transposes and moves rows of every size", async () => {
    for (const [shape, order, dtype] of [
      [[37, 70], [1, 0], "f32"],
      [[3, 33, 18], [0, 2, 1], "i32"],
      [[4, 2, 19, 17], [0, 3, 1, 2], "f32"],
      [[2, 9, 5, 40], [0, 2, 1, 3], "bf16"],
      [[2, 3, 4, 5, 6], [4, 0, 2, 1, 3], "f32"],
      [[5, 4, 3, 2, 70], [3, 2, 1, 0, 4], "u8"],
      [[150, 97], [1, 0], "bf16"],
      [[2, 70, 130], [0, 2, 1], "f32"],
      [[1050, 530], [1, 0], "f32"],
    ] as [number[], number[], DType][]) {
      const results: number[][] = [];
      for (const lab of labs) {
        const out = lab.out(
          order.map((i) => shape[i]!),
          dtype,
        );
        lab.backend.kernels.copy(out, { x: moved(lab, shape, order, dtype) }, {});
        results.push(await lab.numbers(out));
      }
      expect(results[1]).toEqual(results[0]);
      expect(results[2]).toEqual(results[0]);
    }
  });

  it("picks rows by index, zeros where there is none", async () => {
    for (const [shape, dim, dtype] of [
      [[9, 40], 0, "f32"],
      [[3, 9, 5, 8], 1, "bf16"],
      [[9, 300], 0, "i32"],
    ] as [number[], number, DType][]) {
      const index = [8, 0, 3, 3, 9, -1, 7];
      const results: number[][] = [];
      for (const lab of labs) {
        const out = lab.out(shape.toSpliced(dim, 1, index.length), dtype);
        lab.backend.kernels.indexSelect(out, { x: lab.random(shape, dtype), index: lab.view([7], index, "i32") }, { dim });
        results.push(await lab.numbers(out));
      }
      expect(results[1]).toEqual(results[0]);
      expect(results[2]).toEqual(results[0]);
    }
  });

  it("turns rows around and writes into a part of a larger tensor", async () => {
    for (const columns of [70, 3]) {
      const results: number[][] = [];
      for (const lab of labs) {
        const [whole, x] = [lab.out([40, 100]), lab.random([columns, 40])];
        const part = { ...whole, layout: { shape: [40, columns], strides: [100, 1], offset: 7 } };
        lab.backend.kernels.copy(part, { x: { ...x, layout: permuteLayout(x.layout, [1, 0]) } }, {});
        const flipped = { shape: [40, columns], strides: [-columns, 1], offset: 39 * columns };
        lab.backend.kernels.copy({ ...part, layout: { ...part.layout, offset: 20 } }, { x: { ...x, layout: flipped } }, {});
        results.push(await lab.numbers(whole));
      }
      expect(results[1]).toEqual(results[0]);
      expect(results[2]).toEqual(results[0]);
    }
  });
});
