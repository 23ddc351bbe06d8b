// map, copy and fill: every operation, layout and dtype against scalar loops with PyTorch's special values.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createCpuBackend } from "../../src/backends/cpu/index.ts";
import type { DType } from "../../src/dtype.ts";
import { narrowLayout, stepLayout } from "../../src/layout.ts";
import {
  type BinaryOp,
  binaryNode,
  castNode,
  constNode,
  type ExprNode,
  inputNode,
  type UnaryOp,
  unaryNode,
  whereNode,
} from "../../src/ops/expr.ts";
import { expectClose, Lab, looks, variants } from "./lab.ts";

let lab: Lab;
describe.each(variants)("%s", (_name, options) => {
  beforeEach(() => {
    lab = new Lab(createCpuBackend(options));
  });
  afterEach(() => lab.backend.destroy());

  const [inf, nan] = [Number.POSITIVE_INFINITY, Number.NaN];
  const x = inputNode(0, "f32");
  const y = inputNode(1, "f32");

  async function unary(op: UnaryOp, values: number[]): Promise<number[]> {
    const expr = unaryNode(op, x);
    const out = lab.out([values.length], expr.type === "bool" ? "u8" : "f32");
    lab.backend.kernels.map(out, { inputs: [lab.view([values.length], values)] }, { expr });
    return lab.numbers(out);
  }

  async function binary(op: BinaryOp, a: number[], b: number[], dtype: DType = "f32"): Promise<number[]> {
    const type = dtype === "f32" ? "f32" : dtype === "i32" ? "i32" : "u32";
    const expr = binaryNode(op, inputNode(0, type), inputNode(1, type));
    const out = lab.out([a.length], expr.type === "bool" ? "u8" : dtype);
    lab.backend.kernels.map(out, { inputs: [lab.view([a.length], a, dtype), lab.view([b.length], b, dtype)] }, { expr });
    return lab.numbers(out);
  }

  describe("map", () => {
    it("agrees with torch on ordinary values", async () => {
      // torch 2.13, f64, at [-1.5, -0.25, 0.3, 2].
      const at = [-1.5, -0.25, 0.3, 2];
      const torch: Partial<Record<UnaryOp, number[]>> = {
        gelu: [-0.10042842302, -0.1003246493, 0.18537092354, 1.95459769409],
        geluErf: [-0.1002108019, -0.10032341858, 0.18537342666, 1.9544997361],
        geluQuick: [-0.10833780155, -0.0988003501, 0.18748413538, 1.93565862314],
        silu: [-0.27363828571, -0.10945587478, 0.17233275504, 1.76159415596],
        softplus: [0.20141327798, 0.57593941988, 0.85435524447, 2.12692801104],
        erf: [-0.96610514648, -0.27632639017, 0.32862675946, 0.99532226502],
        expm1: [-0.77686983985, -0.22119921693, 0.34985880758, 6.38905609893],
        square: [2.25, 0.0625, 0.09, 4],
      };
      for (const [op, expected] of Object.entries(torch)) expectClose(await unary(op as UnaryOp, at), expected, 3e-7);
    });

    it("handles special values as torch", async () => {
      expect(await unary("round", [0.5, 1.5, 2.5, -0.5, -1.5, 3.2, nan])).toEqual([0, 2, 2, -0, -2, Math.fround(3), nan]);
      expect(await unary("sign", [-3, 0, 5, nan, -inf])).toEqual([-1, 0, 1, 0, -1]);
      expect(await unary("relu", [-1, nan, inf, -inf])).toEqual([0, nan, inf, 0]);
      expect(await unary("silu", [-inf, inf])).toEqual([nan, inf]);
      expect(await unary("softplus", [-200, 25, inf])).toEqual([0, 25, inf]);
      expect(await unary("rsqrt", [0, -1, 4])).toEqual([inf, nan, 0.5]);
      expect(await unary("isNan", [nan, inf, 1])).toEqual([1, 0, 0]);
      expect(await unary("isFinite", [nan, inf, 1])).toEqual([0, 0, 1]);
      expect(await binary("min", [1, nan, 2], [nan, 1, -inf])).toEqual([nan, nan, -inf]);
      expect(await binary("div", [1, -1, 0], [0, 0, 0])).toEqual([inf, -inf, nan]);
      expect(await binary("rem", [5, -5, 5, -5, 1, nan], [3, 3, -3, -3, 0, 1])).toEqual([2, 1, -1, -2, nan, nan]);
      expect(await binary("floorDiv", [5, -5, 5, -0.5, 1], [3, 3, -3, 0.25, 0])).toEqual([1, -2, -2, -2, inf]);
      expect(await binary("pow", [1, -1, 2, 0, -8], [nan, inf, -1, 0, 1 / 3])).toEqual([1, 1, 0.5, 1, nan]);
      expect(await binary("le", [1, nan, 2], [1, nan, 1])).toEqual([1, 0, 0]);
    });

    it("wraps integers", async () => {
      expect(await binary("mul", [0x7fffffff, -3, 65537], [2, 5, 65537], "i32")).toEqual([-2, -15, 131073]);
      expect(await binary("add", [0xffffffff, 7], [2, 1], "u32")).toEqual([1, 8]);
      expect(await binary("lt", [0xffffffff, 1], [1, 2], "u32")).toEqual([0, 1]);
      expect(await binary("add", [250, 7], [10, 1], "u8")).toEqual([4, 8]);
      expect(await binary("sub", [1, 7], [2, 1], "u8")).toEqual([255, 6]);
      expect(await binary("rem", [-7, 7, 5], [3, -3, 0], "i32")).toEqual([2, -2, 0]);
      expect(await binary("floorDiv", [-7, 7, 5], [2, -2, 0], "i32")).toEqual([-4, -4, 0]);
      expect(await binary("pow", [3, -2, 2], [4, 31, -1], "i32")).toEqual([81, -2147483648, 0]);
      expect(await binary("and", [12, 255], [10, 15], "i32")).toEqual([8, 15]);
    });

    it("casts between all formats", async () => {
      const cases: [DType, number[], ExprNode, DType, number[]][] = [
        ["f32", [2.7, -2.7, nan, 1e20], castNode(x, "i32"), "i32", [2, -2, 0, 2147483647]],
        ["f32", [300.5, -1, 7], castNode(x, "u32"), "u8", [44, 255, 7]],
        ["f32", [0, -0.5, nan], castNode(x, "bool"), "u8", [0, 1, 1]],
        ["i64", [-5, 7], castNode(inputNode(0, "i32"), "f32"), "f32", [-5, 7]],
        ["u32", [0xffffffff], castNode(inputNode(0, "u32"), "f32"), "f32", [4294967296]],
        ["i32", [-5, 7], inputNode(0, "i32"), "i64", [-5, 7]],
        ["f8e4m3", [1.75, -448], x, "bf16", [1.75, -448]],
        ["f32", [1.06, 1000, -1e9], x, "f8e4m3", [1, 448, -448]],
        ["f16", [1.5, 0.1], { kind: "roundTo", dtype: "bf16", x, type: "f32" }, "f32", [1.5, 0.10009765625]],
      ];
      for (const [from, numbers, expr, to, expected] of cases) {
        const out = lab.out([numbers.length], to);
        lab.backend.kernels.map(out, { inputs: [lab.view([numbers.length], numbers, from)] }, { expr });
        if (to === "f8e4m3") expect((await lab.numbers(out))[0]).toBeCloseTo(expected[0]!, 0);
        else if (expr.kind === "roundTo") expectClose(await lab.numbers(out), expected, 1e-9);
        else expect(await lab.numbers(out)).toEqual(expected);
      }
    });

    for (const dtype of ["f32", "f16", "bf16"] as DType[]) {
      it(`reads every layout in ${dtype}`, async () => {
        for (const [, look] of looks) {
          const a = look(lab.random([4, 6], dtype));
          const out = lab.out(a.layout.shape, dtype);
          const bias = lab.view([1], [0.5]);
          const scalar = { ...bias, layout: { shape: a.layout.shape, strides: a.layout.shape.map(() => 0), offset: 0 } };
          const expr = whereNode(binaryNode("gt", x, constNode(0, "f32")), binaryNode("add", x, y), unaryNode("neg", x));
          lab.backend.kernels.map(out, { inputs: [a, scalar] }, { expr });
          expect(await lab.numbers(out)).toEqual((await lab.numbers(a)).map((v) => (v > 0 ? v + 0.5 : -v)));
        }
      });
    }

    it("crosses block boundaries", async () => {
      const a = lab.random([37, 101]);
      const out = lab.out([101, 37]);
      const flipped = { ...a, layout: { shape: [101, 37], strides: [1, 101], offset: 0 } };
      lab.backend.kernels.map(out, { inputs: [flipped] }, { expr: unaryNode("square", x) });
      expect(await lab.numbers(out)).toEqual((await lab.numbers(flipped)).map((v) => v * v));
    });
  });

  describe("copy and fill", () => {
    for (const dtype of ["f32", "bf16", "u8", "i64"] as DType[]) {
      it(`move ${dtype} between layouts`, async () => {
        for (const [, look] of looks) {
          const a = look(lab.random([4, 6], dtype));
          const whole = lab.random([a.layout.shape[0]! + 2, 2 * a.layout.shape[1]! + 3], dtype, 9);
          const part = narrowLayout(stepLayout(whole.layout, 1, 2), 1, 1, a.layout.shape[1]!);
          const out = { ...whole, layout: narrowLayout(part, 0, 1, a.layout.shape[0]!) };
          const before = await lab.numbers(whole);
          lab.backend.kernels.copy(out, { x: a }, {});
          expect(await lab.numbers(out)).toEqual(await lab.numbers(a));
          lab.backend.kernels.fill(out, {}, { value: 7 });
          const after = await lab.numbers(whole);
          expect(await lab.numbers(out)).toEqual((await lab.numbers(a)).map(() => 7));
          expect(after.filter((v, i) => v !== before[i]).length).toBeLessThanOrEqual(a.layout.shape[0]! * a.layout.shape[1]!);
        }
      });
    }

    it("moves rows of blocks", async () => {
      const bytes = Uint8Array.from({ length: 6 * 34 }, (_, i) => i);
      const [from, to] = [lab.backend.allocate(bytes.length, "q"), lab.backend.allocate(2 * 34, "q")];
      lab.backend.write(from, 0, bytes);
      const layout = { shape: [2, 32], strides: [64, 1], offset: 32 };
      const out = { shape: [2, 32], strides: [32, 1], offset: 0 };
      lab.backend.kernels.copy({ buffer: to, dtype: "q8_0", layout: out }, { x: { buffer: from, dtype: "q8_0", layout } }, {});
      expect(await lab.backend.read(to, 0, 68)).toEqual(Uint8Array.of(...bytes.subarray(34, 68), ...bytes.subarray(102, 136)));
    });
  });
});
