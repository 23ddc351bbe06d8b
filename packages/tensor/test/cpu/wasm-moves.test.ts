// Generated moves against the plain loops: transposes, rows, and values by index.
import { afterAll, describe, expect, it } from "vitest";
import type { DType } from "../../src/dtype.ts";
import { contiguousLayout, permuteLayout } from "../../src/layout.ts";
import type { View } from "../../src/view.ts";
import { compare, labs, storeTolerance } from "./compare.ts";
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
      [[560_003], [0], "f32"],
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

/** Indices of which some are out of range. */
const places = (count: number, size: number): number[] => Array.from({ length: count }, (_, i) => ((i * 7919) % (size + 2)) - 1);

describe("values by index", () => {
  it("gathers from strided views along any dimension", async () => {
    for (const [shape, order, picked, dim, dtype] of [
      [[40, 30], [0, 1], [40, 17], 1, "f32"],
      [[40, 30], [1, 0], [25, 40], 0, "bf16"],
      [[4, 5, 6, 30], [2, 0, 1, 3], [6, 4, 9, 30], 2, "i32"],
      [[3, 4, 5, 6, 7], [0, 3, 2, 1, 4], [3, 6, 2, 4, 7], 2, "f16"],
      [[3000], [0], [3001], 0, "f32"],
    ] as [number[], number[], number[], number, "f32"][])
      await compare(
        picked,
        dtype,
        (lab, { gather }, out) => {
          const x = { ...lab.random(shape, dtype), layout: permuteLayout(contiguousLayout(shape), order) };
          const size = x.layout.shape[dim]!;
          const count = picked.reduce((n, d) => n * d, 1);
          gather(out, { x, index: lab.view(picked, places(count, size), "i32") }, { dim });
        },
        0,
      );
  });

  it("scatters lines into lines, and adds in order", async () => {
    for (const add of [false, true])
      for (const [shape, from, dim, dtype] of [
        [[40, 30], [40, 50], 1, "f32"],
        [[40, 300], [90, 300], 0, "f32"],
        [[7, 40, 30], [7, 50, 30], 1, "bf16"],
        [[7, 40, 30], [7, 50, 30], 1, "i32"],
        [[5, 6, 7, 8], [4, 5, 9, 8], 2, "f16"],
        [[5, 6, 7], [3, 9, 7], 1, "f32"],
      ] as [number[], number[], number, "f32" | "f16" | "bf16"][]) {
        const count = from.reduce((n, d) => n * d, 1);
        await compare(
          shape,
          dtype,
          (lab, { scatter }, out) => {
            const index = lab.view(from, places(count, shape[dim]!), "i32");
            scatter(out, { x: lab.random(shape, dtype), index, src: lab.random(from, dtype, 2) }, { dim, add });
          },
          storeTolerance[dtype] ?? 0,
        );
      }
  });

  it("adds whole lines, to some more than once", async () => {
    for (const [shape, count, dim, dtype] of [
      [[40, 30], 50, 1, "f32"],
      [[40, 301], 90, 0, "f32"],
      [[7, 40, 30], 50, 1, "bf16"],
    ] as [number[], number, number, "f32" | "bf16"][])
      await compare(
        shape,
        dtype,
        (lab, { indexAdd }, out) => {
          const index = lab.view([count], places(count, shape[dim]!), "i32");
          indexAdd(out, { x: lab.random(shape, dtype), index, src: lab.random(shape.toSpliced(dim, 1, count), dtype, 2) }, { dim });
        },
        storeTolerance[dtype],
      );
  });
});

describe("resampling", () => {
  it("takes the nearest, doubled columns and others", async () => {
    for (const [shape, [h, w], dtype] of [
      [[1, 3, 9, 21], [18, 42], "f32"],
      [[2, 3, 9, 21], [18, 42], "bf16"],
      [[1, 3, 9, 21], [5, 50], "f32"],
      [[1, 2, 9, 21], [9, 10], "f16"],
    ] as [number[], [number, number], "f32" | "f16" | "bf16"][])
      await compare(
        [...shape.slice(0, 2), h, w],
        dtype,
        (lab, { resample }, out) => resample(out, { x: lab.random(shape, dtype) }, { mode: "nearest", alignCorners: false }),
        0,
      );
  });

  it("mixes neighbours", async () => {
    for (const alignCorners of [false, true])
      for (const [[h, w], dtype] of [
        [[18, 42], "f32"],
        [[30, 7], "f32"],
        [[18, 42], "bf16"],
      ] as [[number, number], "f32" | "bf16"][])
        await compare(
          [2, 3, h, w],
          dtype,
          (lab, { resample }, out) => resample(out, { x: lab.random([2, 3, 9, 21], dtype) }, { mode: "bilinear", alignCorners }),
          storeTolerance[dtype],
        );
  });
});
