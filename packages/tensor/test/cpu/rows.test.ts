// Row kernels (reduce, scan, softmax, norms, rope, argsort) against plain f64 loops.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createCpuBackend } from "../../src/backends/cpu/index.ts";
import type { DType } from "../../src/dtype.ts";
import { expandLayout } from "../../src/layout.ts";
import { binaryNode, inputNode, unaryNode } from "../../src/ops/expr.ts";
import type { ReduceKind } from "../../src/ops/table.ts";
import type { View } from "../../src/view.ts";
import { expectClose, Lab, looks, variants } from "./lab.ts";

let lab: Lab;
describe.each(variants)("%s", (_name, options) => {
  beforeEach(() => {
    lab = new Lab(createCpuBackend(options));
  });
  afterEach(() => lab.backend.destroy());

  const [inf, nan] = [Number.POSITIVE_INFINITY, Number.NaN];
  const sum = (v: number[]): number => v.reduce((a, b) => a + b, 0);
  const mean = (v: number[]): number => sum(v) / v.length;

  /** Rows of a view's last dimension. */
  async function rowsOf(view: View): Promise<number[][]> {
    const all = await lab.numbers(view);
    const width = view.layout.shape.at(-1)!;
    return Array.from({ length: width === 0 ? 0 : all.length / width }, (_, i) => all.slice(i * width, (i + 1) * width));
  }

  /** The looks whose last stride is 1. */
  const rowLooks = looks.filter(([name]) => ["contiguous", "offset slice", "row broadcast", "size 0"].includes(name));

  describe("reduce", () => {
    const kinds: [ReduceKind, (v: number[]) => number, DType][] = [
      ["sum", sum, "f32"],
      ["mean", mean, "f32"],
      ["prod", (v) => v.reduce((a, b) => a * b, 1), "f32"],
      ["max", (v) => Math.max(...v), "f32"],
      ["min", (v) => Math.min(...v), "f32"],
      ["argmax", (v) => v.indexOf(Math.max(...v)), "i32"],
      ["argmin", (v) => v.indexOf(Math.min(...v)), "i32"],
      ["var", (v) => sum(v.map((a) => (a - mean(v)) ** 2)) / Math.max(0, v.length - 1), "f32"],
      ["logSumExp", (v) => Math.log(sum(v.map(Math.exp))), "f32"],
      ["norm", (v) => sum(v.map((a) => Math.abs(a) ** 3)) ** (1 / 3), "f32"],
      ["any", (v) => (v.some((a) => a !== 0) ? 1 : 0), "u8"],
      ["all", (v) => (v.every((a) => a !== 0) ? 1 : 0), "u8"],
    ];
    for (const [kind, reference, dtype] of kinds) {
      it(`${kind} over one and all dimensions of every layout`, async () => {
        for (const [, look] of looks) {
          const x = look(lab.random([5, 7]));
          for (const reduceRank of [1, 2]) {
            const out = lab.out(x.layout.shape.slice(0, 2 - reduceRank), dtype);
            lab.backend.kernels.reduce(out, { x }, { kind, reduceRank, correction: 1, p: 3 });
            const groups = reduceRank === 1 ? await rowsOf(x) : [await lab.numbers(x)];
            if (reduceRank === 2 && groups[0]!.length === 0) continue;
            expectClose(await lab.numbers(out), groups.map(reference), 2e-7);
          }
        }
      });
    }

    it("gives the identity over nothing and lets NaN win", async () => {
      const empty = lab.view([1, 0], []);
      const over: [ReduceKind, number][] = [
        ["sum", 0],
        ["mean", nan],
        ["prod", 1],
        ["max", -inf],
        ["min", inf],
        ["logSumExp", -inf],
        ["norm", 0],
      ];
      for (const [kind, expected] of over) {
        const out = lab.out([1]);
        lab.backend.kernels.reduce(out, { x: empty }, { kind, reduceRank: 1, correction: 1, p: 2 });
        expect(await lab.numbers(out)).toEqual([expected]);
      }
      const x = lab.view([1, 4], [1, nan, inf, nan]);
      for (const [kind, expected, dtype] of [
        ["max", nan, "f32"],
        ["min", nan, "f32"],
        ["argmax", 1, "i32"],
        ["argmin", 1, "i32"],
      ] as [ReduceKind, number, DType][]) {
        const out = lab.out([1], dtype);
        lab.backend.kernels.reduce(out, { x }, { kind, reduceRank: 1, correction: 1, p: 2 });
        expect(await lab.numbers(out)).toEqual([expected]);
      }
    });

    it("wraps integer sums and compares u32 without sign", async () => {
      const x = lab.view([2], [0x7fffffff, 2], "i32");
      const out = lab.out([], "i32");
      lab.backend.kernels.reduce(out, { x }, { kind: "sum", reduceRank: 1, correction: 1, p: 2 });
      expect(await lab.numbers(out)).toEqual([-2147483647]);
      const top = lab.out([], "u32");
      lab.backend.kernels.reduce(top, { x: lab.view([2], [0xffffffff, 2], "u32") }, { kind: "max", reduceRank: 1, correction: 1, p: 2 });
      expect(await lab.numbers(top)).toEqual([0xffffffff]);
    });

    it("keeps precision over many values", async () => {
      const x = lab.view(
        [100_003],
        Array.from({ length: 100_003 }, () => 0.1),
      );
      const out = lab.out([]);
      lab.backend.kernels.reduce(out, { x }, { kind: "sum", reduceRank: 1, correction: 1, p: 2 });
      expectClose(await lab.numbers(out), [100_003 * Math.fround(0.1)], 1e-7);
    });
  });

  describe("scan, softmax, argsort", () => {
    it("run along rows of every layout", async () => {
      for (const [, look] of rowLooks) {
        const x = look(lab.random([5, 7]));
        const rows = await rowsOf(x);
        const check = async (run: (out: View) => void, reference: (v: number[]) => number[], dtype: DType = "f32") => {
          const out = lab.out(x.layout.shape, dtype);
          run(out);
          expectClose(await lab.numbers(out), rows.flatMap(reference), 2e-7);
        };
        let t = 0;
        const running = (v: number[], f: (a: number, b: number) => number) => v.map((a, i) => (t = i === 0 ? a : f(t, a)));
        const { scan, softmax, argsort } = lab.backend.kernels;
        await check(
          (out) => scan(out, { x }, { kind: "sum" }),
          (v) => running(v, (a, b) => a + b),
        );
        await check(
          (out) => scan(out, { x }, { kind: "prod" }),
          (v) => running(v, (a, b) => a * b),
        );
        await check(
          (out) => softmax(out, { x }, { log: false }),
          (v) => v.map((a) => Math.exp(a) / sum(v.map(Math.exp))),
        );
        await check(
          (out) => softmax(out, { x }, { log: true }),
          (v) => v.map((a) => a - Math.log(sum(v.map(Math.exp)))),
        );
        const order = (v: number[], sign: number) => v.map((_, i) => i).sort((a, b) => sign * (v[a]! - v[b]!));
        await check(
          (out) => argsort(out, { x }, { descending: false }),
          (v) => order(v, 1),
          "i32",
        );
        await check(
          (out) => argsort(out, { x }, { descending: true }),
          (v) => order(v, -1),
          "i32",
        );
      }
    });

    it("treat infinities and NaN as torch", async () => {
      const x = lab.view([3, 3], [-inf, -inf, -inf, 1, -inf, 1, nan, 1, 2]);
      const out = lab.out([3, 3]);
      lab.backend.kernels.softmax(out, { x }, { log: false });
      expect(await lab.numbers(out)).toEqual([nan, nan, nan, 0.5, 0, 0.5, nan, nan, nan]);
      const order = lab.out([1, 5], "i32");
      lab.backend.kernels.argsort(order, { x: lab.view([1, 5], [2, nan, -inf, 2, inf]) }, { descending: true });
      expect(await lab.numbers(order)).toEqual([1, 4, 0, 3, 2]);
      lab.backend.kernels.argsort(order, { x: lab.view([1, 5], [16777217, 16777216, -1, 5, 5], "i32") }, { descending: false });
      expect(await lab.numbers(order)).toEqual([2, 3, 4, 1, 0]);
    });
  });

  describe("norms and rope", () => {
    it("layer and RMS norm with weight, bias and epilogue", async () => {
      for (const [, look] of rowLooks) {
        for (const kind of ["layer", "rms"] as const) {
          const x = look(lab.random([5, 7]));
          const width = x.layout.shape[1]!;
          const weight = lab.random([width], "bf16", 2);
          const bias = lab.random([width], "f32", 3);
          const scale = lab.random([width], "f32", 4);
          const operand = { ...scale, layout: expandLayout("t", scale.layout, x.layout.shape) };
          const out = lab.out(x.layout.shape);
          const epilogue = unaryNode("neg", binaryNode("mul", inputNode(0, "f32"), inputNode(1, "f32")));
          lab.backend.kernels.norm(out, { x, weight, bias, operands: [operand] }, { kind, eps: 0.01, epilogue });
          const [w, b, s] = [await lab.numbers(weight), await lab.numbers(bias), await lab.numbers(scale)];
          const expected = (await rowsOf(x)).flatMap((row) => {
            const center = kind === "layer" ? mean(row) : 0;
            const r = 1 / Math.sqrt(mean(row.map((v) => (v - center) ** 2)) + 0.01);
            return row.map((v, i) => -((v - center) * r * w[i]! + b[i]!) * s[i]!);
          });
          expectClose(await lab.numbers(out), expected, 2e-7);
        }
      }
    });

    it("group norm", async () => {
      const x = lab.random([2, 6, 3, 2], "f16");
      const [weight, bias] = [lab.random([6], "f32", 2), lab.random([6], "f32", 3)];
      const out = lab.out([2, 6, 3, 2]);
      lab.backend.kernels.groupNorm(out, { x, weight, bias }, { groups: 3, eps: 0.01 });
      const [v, w, b] = [await lab.numbers(x), await lab.numbers(weight), await lab.numbers(bias)];
      const expected = v.map((a, i) => {
        const group = v.slice(Math.floor(i / 12) * 12, Math.floor(i / 12) * 12 + 12);
        const channel = Math.floor(i / 6) % 6;
        return ((a - mean(group)) / Math.sqrt(mean(group.map((g) => (g - mean(group)) ** 2)) + 0.01)) * w[channel]! + b[channel]!;
      });
      expectClose(await lab.numbers(out), expected, 2e-7);
    });

    it("rope turns interleaved pairs or halves", async () => {
      const [heads, tokens, width] = [3, 4, 6];
      const x = lab.random([heads, tokens, width]);
      const table = (seed: number): View => {
        const v = lab.random([tokens, width / 2], "f32", seed);
        return { ...v, layout: expandLayout("t", v.layout, [heads, tokens, width / 2]) };
      };
      const [cos, sin] = [table(2), table(3)];
      const [v, c, s] = [await lab.numbers(x), await lab.numbers(cos), await lab.numbers(sin)];
      for (const interleaved of [true, false]) {
        const out = lab.out([heads, tokens, width]);
        lab.backend.kernels.rope(out, { x, cos, sin }, { interleaved });
        const expected = new Array<number>(v.length);
        for (let i = 0; i < v.length / 2; i++) {
          const [row, pair] = [Math.floor(i / 3) * width, i % 3];
          const [a, b] = interleaved ? [row + 2 * pair, row + 2 * pair + 1] : [row + pair, row + pair + 3];
          expected[a] = v[a]! * c[i]! - v[b]! * s[i]!;
          expected[b] = v[b]! * c[i]! + v[a]! * s[i]!;
        }
        expectClose(await lab.numbers(out), expected, 2e-7);
      }
    });
  });
});
