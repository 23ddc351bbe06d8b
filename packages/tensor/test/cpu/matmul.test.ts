// matmul, attention, conv against plain f64 loops.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createCpuBackend } from "../../src/backends/cpu/index.ts";
import type { DType, QuantDType } from "../../src/dtype.ts";
import { bytesOf } from "../../src/dtype.ts";
import { contiguousLayout, expandLayout, permuteLayout } from "../../src/layout.ts";
import { binaryNode, inputNode, unaryNode } from "../../src/ops/expr.ts";
import { dequantizeInto } from "../../src/quant/decode.ts";
import type { View } from "../../src/view.ts";
import { expectClose, Lab, variants } from "./lab.ts";

let lab: Lab;
describe.each(variants)("%s", (_name, options) => {
  beforeEach(() => {
    lab = new Lab(createCpuBackend(options));
  });
  afterEach(() => lab.backend.destroy());

  const transposed = (v: View): View => {
    const order = v.layout.shape.map((_, i) => i);
    order.push(...order.splice(-2).reverse());
    return { ...v, layout: permuteLayout(v.layout, order) };
  };

  function reference(a: number[], b: number[], batch: number, m: number, n: number, k: number): number[] {
    const out: number[] = [];
    for (let t = 0; t < batch; t++) {
      for (let i = 0; i < m; i++) {
        for (let j = 0; j < n; j++) {
          let sum = 0;
          for (let p = 0; p < k; p++) sum += a[(t * m + i) * k + p]! * b[(t * k + p) * n + j]!;
          out.push(sum);
        }
      }
    }
    return out;
  }

  describe("matmul", () => {
    const sizes = [
      [1, 1, 1],
      [3, 5, 7],
      [13, 21, 40],
      [8, 64, 300],
      [2, 3, 0],
      [0, 3, 4],
    ] as const;
    for (const [m, n, k] of sizes) {
      it(`${m} x ${k} @ ${k} x ${n} in every layout and float dtype`, async () => {
        for (const [aT, bT] of [
          [false, false],
          [true, false],
          [false, true],
          [true, true],
        ]) {
          for (const [da, db, dout] of [
            ["f32", "f32", "f32"],
            ["f16", "bf16", "f32"],
            ["bf16", "f32", "bf16"],
          ] as [DType, DType, DType][]) {
            const a = aT ? transposed(lab.random([2, k, m], da, 1)) : lab.random([2, m, k], da, 1);
            const b = bT ? transposed(lab.random([2, n, k], db, 2)) : lab.random([2, k, n], db, 2);
            const out = lab.out([2, m, n], dout);
            lab.backend.kernels.matmul(out, { a, b }, {});
            const expected = reference(await lab.numbers(a), await lab.numbers(b), 2, m, n, k);
            expectClose(await lab.numbers(out), expected, dout === "bf16" ? 4e-3 : 1e-6);
          }
        }
      });
    }

    it("broadcasts batches and applies an epilogue to the f32 result", async () => {
      const [m, n, k] = [5, 70, 33];
      const a = lab.random([2, 3, m, k]);
      const one = lab.random([k, n], "f32", 2);
      const b = { ...one, layout: expandLayout("t", one.layout, [2, 3, k, n]) };
      const bias = lab.random([n], "bf16", 3);
      const operand = { ...bias, layout: expandLayout("t", bias.layout, [2, 3, m, n]) };
      const epilogue = unaryNode("relu", binaryNode("add", inputNode(0, "f32"), inputNode(1, "f32")));
      const out = lab.out([2, 3, m, n], "f16");
      lab.backend.kernels.matmul(out, { a, b, operands: [operand] }, { epilogue });
      const shift = await lab.numbers(bias);
      const plain = reference(await lab.numbers(a), await lab.numbers(b), 6, m, n, k);
      expectClose(
        await lab.numbers(out),
        plain.map((v, i) => Math.max(0, v + shift[i % n]!)),
        5e-4,
      );
    });

    for (const dtype of ["q8_0", "q4_0", "q4_K", "q6_K"] as QuantDType[]) {
      it(`expands ${dtype} weights`, async () => {
        const [m, n, k] = [3, 9, 512];
        const bytes = Uint8Array.from({ length: bytesOf(dtype, n * k) }, (_, i) => (i * 37 + (i >> 5)) & 0x3f);
        const buffer = lab.backend.allocate(bytes.length, "weight");
        lab.backend.write(buffer, 0, bytes);
        const wide = new Float32Array(n * k);
        dequantizeInto(dtype, bytes, 0, wide, 0, n * k);
        const b = transposed({ buffer, dtype, layout: contiguousLayout([n, k]) });
        const a = lab.random([m, k]);
        const out = lab.out([m, n]);
        lab.backend.kernels.matmul(out, { a, b }, {});
        const columns = Array.from({ length: k * n }, (_, i) => wide[(i % n) * k + Math.floor(i / n)]!);
        expectClose(await lab.numbers(out), reference(await lab.numbers(a), columns, 1, m, n, k));
      });
    }
  });

  describe("attention", () => {
    const shape = { b: 2, n: 4, m: 2, l: 5, s: 7, width: 8, valueWidth: 6 };

    async function check(options: { mask?: "u8" | "f32"; lengths?: number[]; causal?: boolean }): Promise<void> {
      const { b, n, m, l, s, width, valueWidth } = shape;
      const q = { ...lab.random([b, l, n, width]), layout: permuteLayout(contiguousLayout([b, l, n, width]), [0, 2, 1, 3]) };
      const k = lab.random([b, m, s, width], "f16", 2);
      const v = lab.random([b, m, s, valueWidth], "f32", 3);
      const kept = Array.from({ length: l * s }, (_, i) => (i % 3 === 0 || i < s ? 0 : 1));
      const small = options.mask === "u8" ? lab.view([l, s], kept, "u8") : lab.random([l, s], "f32", 4);
      const mask = options.mask ? { ...small, layout: expandLayout("t", small.layout, [b, n, l, s]) } : undefined;
      const lengths = options.lengths ? lab.view([b], options.lengths, "i32") : undefined;
      const out = lab.out([b, n, l, valueWidth]);
      const inputs = { q, k, v, ...(mask ? { mask } : {}), ...(lengths ? { lengths } : {}) };
      lab.backend.kernels.attention(out, inputs, { scale: 0.3, causal: options.causal ?? false });
      const [Q, K, V] = [await lab.numbers(q), await lab.numbers(k), await lab.numbers(v)];
      const M = mask ? await lab.numbers(mask) : undefined;
      const expected: number[] = [];
      for (let t = 0; t < b * n; t++) {
        const kv = Math.floor(t / n) * m + Math.floor((t % n) / (n / m));
        for (let i = 0; i < l; i++) {
          const weights = Array.from({ length: s }, (_, j) => {
            const seen = j < (options.lengths?.[Math.floor(t / n)] ?? s) && (!options.causal || j <= i);
            const bias = !M ? 0 : options.mask === "u8" ? (M[(t * l + i) * s + j] ? 0 : -Infinity) : M[(t * l + i) * s + j]!;
            let dot = 0;
            for (let d = 0; d < width; d++) dot += Q[(t * l + i) * width + d]! * K[(kv * s + j) * width + d]!;
            return seen ? Math.exp(0.3 * dot + bias) : 0;
          });
          const total = weights.reduce((x, y) => x + y, 0);
          for (let d = 0; d < valueWidth; d++) {
            expected.push(total === 0 ? 0 : weights.reduce((x, w, j) => x + w * V[(kv * s + j) * valueWidth + d]!, 0) / total);
          }
        }
      }
      expectClose(await lab.numbers(out), expected);
    }

    it("with grouped heads and a permuted query", () => check({}));
    it("with a boolean mask that hides whole rows", () => check({ mask: "u8" }));
    it("with an added mask", () => check({ mask: "f32" }));
    it("with lengths and causal", () => check({ lengths: [3, 0], causal: true }));
  });

  describe("conv", () => {
    for (const [stride, padding, dilation, groups] of [
      [1, 1, 1, 1],
      [2, 0, 1, 1],
      [1, 2, 2, 2],
      [3, 1, 1, 4],
    ] as const) {
      it(`stride ${stride}, padding ${padding}, dilation ${dilation}, groups ${groups}, and its transpose`, async () => {
        const [b, c, h, w, o, kh, kw] = [2, 4, 9, 7, 8, 3, 2];
        const attrs = { stride: [stride, stride], padding: [padding, padding], dilation: [dilation, dilation], groups } as const;
        const size = (n: number, k: number) => Math.floor((n + 2 * padding - dilation * (k - 1) - 1) / stride) + 1;
        const [oh, ow] = [size(h, kh), size(w, kw)];
        const x = lab.random([b, c, h, w]);
        const weight = lab.random([o, c / groups, kh, kw], "bf16", 2);
        const out = lab.out([b, o, oh, ow]);
        lab.backend.kernels.conv(out, { x, weight }, attrs);
        const [X, W] = [await lab.numbers(x), await lab.numbers(weight)];
        const each = c / groups;
        const expected = new Array<number>(b * o * oh * ow).fill(0);
        const back = new Array<number>(b * c * h * w).fill(0);
        const Y = await lab.numbers(lab.random([b, o, oh, ow], "f32", 5));
        expected.forEach((_, at) => {
          const [i, rest] = [Math.floor(at / (o * oh * ow)), at % (o * oh * ow)];
          const [j, y, z] = [Math.floor(rest / (oh * ow)), Math.floor((rest % (oh * ow)) / ow), rest % ow];
          for (let p = 0; p < each * kh * kw; p++) {
            const [ci, ky, kx] = [Math.floor(p / (kh * kw)), Math.floor((p % (kh * kw)) / kw), p % kw];
            const [sy, sx] = [y * stride - padding + ky * dilation, z * stride - padding + kx * dilation];
            if (sy < 0 || sx < 0 || sy >= h || sx >= w) continue;
            const from = ((i * c + Math.floor(j / (o / groups)) * each + ci) * h + sy) * w + sx;
            expected[at]! += X[from]! * W[j * each * kh * kw + p]!;
            back[from]! += Y[at]! * W[j * each * kh * kw + p]!;
          }
        });
        expectClose(await lab.numbers(out), expected);
        const outT = lab.out([b, c, h, w]);
        lab.backend.kernels.convTranspose(outT, { x: lab.view([b, o, oh, ow], Y), weight }, attrs);
        expectClose(await lab.numbers(outT), back);
      });
    }

    it("adds a bias per channel in the epilogue", async () => {
      const x = lab.random([1, 2, 3, 3]);
      const weight = lab.random([2, 2, 1, 1], "f32", 2);
      const attrs = { stride: [1, 1], padding: [0, 0], dilation: [1, 1], groups: 1 } as const;
      const [plain, shifted] = [lab.out([1, 2, 3, 3]), lab.out([1, 2, 3, 3])];
      lab.backend.kernels.conv(plain, { x, weight }, attrs);
      const bias = lab.view([2], [10, -20]);
      const operand = { ...bias, layout: { shape: [1, 2, 3, 3], strides: [0, 1, 0, 0], offset: 0 } };
      const epilogue = binaryNode("add", inputNode(0, "f32"), inputNode(1, "f32"));
      lab.backend.kernels.conv(shifted, { x, weight, operands: [operand] }, { ...attrs, epilogue });
      const before = await lab.numbers(plain);
      expect(await lab.numbers(shifted)).toEqual(before.map((v, i) => Math.fround(v + (i < 9 ? 10 : -20))));
    });
  });
});
