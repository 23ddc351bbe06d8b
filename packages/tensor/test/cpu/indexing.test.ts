// gather, scatter, indexSelect, indexAdd, dequantize, pool and resample against small loops and PyTorch's numbers.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createCpuBackend } from "../../src/backends/cpu/index.ts";
import type { DType, QuantDType } from "../../src/dtype.ts";
import { bytesOf } from "../../src/dtype.ts";
import { contiguousLayout, permuteLayout } from "../../src/layout.ts";
import { dequantizeInto } from "../../src/quant/decode.ts";
import { expectClose, Lab, variants } from "./lab.ts";

let lab: Lab;
describe.each(variants)("%s", (_name, options) => {
  beforeEach(() => {
    lab = new Lab(createCpuBackend(options));
  });
  afterEach(() => lab.backend.destroy());

  describe("indexing", () => {
    it("gathers along any dimension of a strided view", async () => {
      for (const dtype of ["f32", "bf16", "u8", "i64"] as DType[]) {
        const whole = lab.random([4, 3, 5], dtype);
        const x = { ...whole, layout: permuteLayout(whole.layout, [2, 0, 1]) };
        const v = await lab.numbers(x);
        for (const dim of [0, 1, 2]) {
          const shape = [2, 3, 3].map((d, i) => (i === dim ? 2 : d));
          const size = x.layout.shape[dim]!;
          const indices = Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) => (i * 7) % size);
          const out = lab.out(shape, dtype);
          lab.backend.kernels.gather(out, { x, index: lab.view(shape, indices, "i32") }, { dim });
          const expected = indices.map((at, i) => {
            const p = [Math.floor(i / (shape[1]! * shape[2]!)), Math.floor(i / shape[2]!) % shape[1]!, i % shape[2]!];
            p[dim] = at;
            return v[(p[0]! * 4 + p[1]!) * 3 + p[2]!];
          });
          expect(await lab.numbers(out)).toEqual(expected);
        }
      }
    });

    it("scatters and adds in order", async () => {
      const x = lab.view([2, 4], [0, 1, 2, 3, 4, 5, 6, 7]);
      const index = lab.view([2, 3], [1, 1, 3, 0, 2, 2], "i32");
      const src = lab.view([2, 3], [10, 20, 30, 40, 50, 60]);
      const out = lab.out([2, 4]);
      lab.backend.kernels.scatter(out, { x, index, src }, { dim: 1, add: false });
      expect(await lab.numbers(out)).toEqual([0, 20, 2, 30, 40, 5, 60, 7]);
      lab.backend.kernels.scatter(out, { x, index, src }, { dim: 1, add: true });
      expect(await lab.numbers(out)).toEqual([0, 31, 2, 33, 44, 5, 116, 7]);
      lab.backend.kernels.scatter(
        out,
        { x, index: lab.view([1, 4], [1, 0, 1, 1], "i32"), src: lab.view([1, 4], [1, 2, 3, 4]) },
        { dim: 0, add: true },
      );
      expect(await lab.numbers(out)).toEqual([0, 3, 2, 3, 5, 5, 9, 11]);
    });

    it("selects and adds whole slices", async () => {
      const x = lab.view([2, 3, 2], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], "f16");
      const out = lab.out([2, 4, 2], "f16");
      lab.backend.kernels.indexSelect(out, { x, index: lab.view([4], [2, 0, 2, 9], "u32") }, { dim: 1 });
      expect(await lab.numbers(out)).toEqual([4, 5, 0, 1, 4, 5, 0, 0, 10, 11, 6, 7, 10, 11, 0, 0]);
      const sum = lab.out([2, 3, 2], "f16");
      const src = lab.view([2, 2, 2], [1, 2, 3, 4, 5, 6, 7, 8], "f16");
      lab.backend.kernels.indexAdd(sum, { x, index: lab.view([2], [1, 1], "i32"), src }, { dim: 1 });
      expect(await lab.numbers(sum)).toEqual([0, 1, 6, 9, 4, 5, 6, 7, 20, 23, 10, 11]);
    });

    it("expands f8 and quantized rows", async () => {
      const table = lab.view([3, 4], [1, 2, 3, 4, -1, -2, -3, -4, 0.5, 448, 0, -0.125], "f8e4m3");
      const picked = lab.out([2, 4], "bf16");
      lab.backend.kernels.indexSelect(picked, { x: table, index: lab.view([2], [2, 0], "i32") }, { dim: 0 });
      expect(await lab.numbers(picked)).toEqual([0.5, 448, 0, -0.125, 1, 2, 3, 4]);
      for (const dtype of ["q8_0", "q5_1", "q4_K", "iq4_xs"] as QuantDType[]) {
        const [rows, width] = [5, 768];
        const bytes = Uint8Array.from({ length: bytesOf(dtype, rows * width) }, (_, i) => (i * 29) & 0x3f);
        const buffer = lab.backend.allocate(bytes.length, "q");
        lab.backend.write(buffer, 0, bytes);
        const x = { buffer, dtype, layout: contiguousLayout([rows, width]) };
        const wide = new Float32Array(rows * width);
        dequantizeInto(dtype, bytes, 0, wide, 0, wide.length);
        const all = lab.out([rows, width]);
        lab.backend.kernels.dequantize(all, { x }, {});
        expect(await lab.numbers(all)).toEqual([...wide]);
        const some = lab.out([2, width]);
        lab.backend.kernels.indexSelect(some, { x, index: lab.view([2], [4, 1], "i32") }, { dim: 0 });
        expect(await lab.numbers(some)).toEqual([...wide.subarray(4 * width), ...wide.subarray(width, 2 * width)]);
      }
    });
  });

  describe("pool and resample", () => {
    // Expected numbers: torch.nn.functional of torch 2.13 on arange(12).reshape(1, 1, 3, 4).
    const attrs = { kernel: [2, 2], stride: [2, 2], padding: [1, 1], countPad: true } as const;
    it("pools with padding", async () => {
      const x = lab.view(
        [1, 1, 3, 4],
        Array.from({ length: 12 }, (_, i) => i),
      );
      const out = lab.out([1, 1, 2, 3]);
      lab.backend.kernels.pool(out, { x }, { ...attrs, kind: "max" });
      expect(await lab.numbers(out)).toEqual([0, 2, 3, 8, 10, 11]);
      lab.backend.kernels.pool(out, { x }, { ...attrs, kind: "avg" });
      expect(await lab.numbers(out)).toEqual([0, 0.75, 0.75, 3, 7.5, 4.5]);
      lab.backend.kernels.pool(out, { x }, { ...attrs, kind: "avg", countPad: false });
      expect(await lab.numbers(out)).toEqual([0, 1.5, 3, 6, 7.5, 9]);
    });

    it("resamples", async () => {
      const x = lab.view([1, 1, 2, 2], [0, 1, 2, 3]);
      const nearest = lab.out([1, 1, 3, 5]);
      lab.backend.kernels.resample(nearest, { x }, { mode: "nearest", alignCorners: false });
      expect(await lab.numbers(nearest)).toEqual([0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 2, 2, 2, 3, 3]);
      const linear = lab.out([1, 1, 2, 4]);
      lab.backend.kernels.resample(linear, { x }, { mode: "bilinear", alignCorners: false });
      expect(await lab.numbers(linear)).toEqual([0, 0.25, 0.75, 1, 2, 2.25, 2.75, 3]);
      lab.backend.kernels.resample(linear, { x }, { mode: "bilinear", alignCorners: true });
      expectClose(await lab.numbers(linear), [0, 1 / 3, 2 / 3, 1, 2, 7 / 3, 8 / 3, 3], 1e-7);
    });
  });
});
