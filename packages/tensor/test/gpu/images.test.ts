// Convolutions, group norm, pooling and resampling against the CPU backend.
import { afterAll, beforeAll, describe, it } from "vitest";
import type { PlainDType } from "../../src/dtype.ts";
import { expandLayout } from "../../src/layout.ts";
import { binaryNode, inputNode, unaryNode } from "../../src/ops/expr.ts";
import { Pair, roundingTolerance, variants } from "./pair.ts";

interface ConvCase {
  b?: number;
  c: number;
  o: number;
  h: number;
  w: number;
  k: [number, number];
  stride?: [number, number];
  padding?: [number, number];
  dilation?: [number, number];
  groups?: number;
  dtype?: PlainDType;
}
const cases: [string, ConvCase][] = [
  ["3x3", { c: 5, o: 7, h: 9, w: 8, k: [3, 3], padding: [1, 1] }],
  ["3x3 of a batch, bf16", { b: 2, c: 8, o: 8, h: 12, w: 12, k: [3, 3], padding: [1, 1], dtype: "bf16" }],
  ["1x1", { c: 16, o: 12, h: 5, w: 7, k: [1, 1] }],
  ["stride 2, uneven", { c: 4, o: 8, h: 11, w: 13, k: [3, 3], stride: [2, 2], padding: [0, 1] }],
  ["dilated", { c: 3, o: 4, h: 12, w: 10, k: [3, 2], dilation: [2, 3], padding: [2, 2] }],
  ["grouped", { c: 8, o: 12, h: 6, w: 6, k: [3, 3], padding: [1, 1], groups: 4 }],
  ["depthwise", { c: 6, o: 6, h: 7, w: 9, k: [3, 3], padding: [1, 1], groups: 6 }],
  ["one row", { c: 4, o: 6, h: 1, w: 30, k: [1, 5], padding: [0, 2] }],
  ["stride 2 as a product, f16", { c: 16, o: 32, h: 60, w: 40, k: [3, 3], stride: [2, 2], padding: [1, 1], dtype: "f16" }],
  ["32 channels, as subgroup matrices stage them", { c: 32, o: 20, h: 9, w: 20, k: [3, 3], padding: [1, 1] }],
  ["16 channels, dilated, f16", { c: 16, o: 24, h: 8, w: 19, k: [3, 2], dilation: [2, 3], padding: [3, 2], dtype: "f16" }],
  ["larger than a small binding", { c: 12, o: 16, h: 40, w: 40, k: [3, 3], padding: [1, 1] }],
];

describe.each(variants)("%s", (_name, options) => {
  let pair: Pair;
  beforeAll(async () => {
    pair = await Pair.open(options);
  });
  afterAll(() => pair.close());

  it.each(cases)(
    "conv %s",
    async (_n, { b = 1, c, o, h, w, k, stride = [1, 1], padding = [0, 0], dilation = [1, 1], groups = 1, dtype = "f32" }) => {
      const size = (n: number, i: 0 | 1): number => Math.floor((n + 2 * padding[i] - dilation[i] * (k[i] - 1) - 1) / stride[i]) + 1;
      const shape = [b, o, size(h, 0), size(w, 1)];
      const bias = pair.tensor([o, 1, 1], "f32", undefined, (l) => expandLayout("t", l, shape));
      const epilogue = unaryNode("silu", binaryNode("add", inputNode(0, "f32"), inputNode(1, "f32")));
      const inputs = { x: pair.tensor([b, c, h, w], dtype), weight: pair.tensor([o, c / groups, ...k], dtype), operands: [bias] };
      await pair.expectSame(
        "conv",
        pair.output(shape, dtype),
        inputs,
        { stride, padding, dilation, groups, epilogue },
        roundingTolerance[dtype],
      );
    },
  );

  it.each([
    ["stride 2", 4, 6, 1],
    ["grouped", 4, 6, 2],
  ] as const)("transposed conv, %s", async (_n, c, o, groups) => {
    const out = pair.output([2, o, 11, 12], "f32");
    const inputs = { x: pair.tensor([2, c, 5, 6]), weight: pair.tensor([c, o / groups, 3, 3]) };
    await pair.expectSame("convTranspose", out, inputs, { stride: [2, 2], padding: [0, 1], dilation: [1, 1], groups }, 2e-6);
  });

  it("transposed conv larger than a small binding", async () => {
    const [dtype, groups] = ["f16", 2] as const;
    const shape = [2, 12, 65, 40];
    const bias = pair.tensor([12, 1, 1], "f32", undefined, (l) => expandLayout("t", l, shape));
    const epilogue = binaryNode("add", inputNode(0, "f32"), inputNode(1, "f32"));
    const inputs = { x: pair.tensor([2, 8, 32, 20], dtype), weight: pair.tensor([8, 12 / groups, 5, 2], dtype), operands: [bias] };
    const attrs = { stride: [2, 2], padding: [1, 0], dilation: [1, 1], groups, epilogue } as const;
    await pair.expectSame("convTranspose", pair.output(shape, dtype), inputs, attrs, roundingTolerance[dtype]);
  });

  it.each([
    [2, 8, 4, 5, 5],
    [1, 32, 8, 16, 16],
    [1, 6, 2, 70, 71],
  ])("group norm of [%i, %i] in %i groups, %i x %i", async (b, c, groups, h, w) => {
    for (const dtype of ["f32", "f16"] as const) {
      const x = pair.tensor([b, c, h, w], dtype);
      const epilogue = unaryNode("silu", inputNode(0, "f32"));
      const inputs = { x, weight: pair.tensor([c]), bias: pair.tensor([c], dtype) };
      await pair.expectSame(
        "groupNorm",
        pair.output([b, c, h, w], dtype),
        inputs,
        { groups, eps: 1e-6, epilogue },
        roundingTolerance[dtype],
      );
    }
    await pair.expectSame("groupNorm", pair.output([b, c, h, w], "f32"), { x: pair.tensor([b, c, h, w]) }, { groups, eps: 1e-3 });
  });

  it.each(["max", "avg"] as const)("%s pooling", async (kind) => {
    for (const countPad of [true, false]) {
      const attrs = { kind, kernel: [3, 2], stride: [2, 2], padding: [1, 1], countPad } as const;
      await pair.expectSame("pool", pair.output([2, 3, 4, 5], "f32"), { x: pair.tensor([2, 3, 7, 8]) }, attrs);
    }
  });

  it.each(["nearest", "bilinear"] as const)("%s resampling", async (mode) => {
    for (const dtype of ["f32", "f16"] as const) {
      for (const [oh, ow] of [
        [10, 14],
        [3, 4],
        [7, 5],
      ] as const) {
        for (const alignCorners of mode === "bilinear" ? [false, true] : [false]) {
          await pair.expectSame(
            "resample",
            pair.output([2, 3, oh, ow], dtype),
            { x: pair.tensor([2, 3, 5, 7], dtype) },
            { mode, alignCorners },
            roundingTolerance[dtype],
          );
        }
      }
    }
  });

  it("filtered rows and columns, and pictures read at places, planes apart where they do not fit a binding", async () => {
    for (const dtype of ["f32", "f16"] as const) {
      const picture = () => pair.tensor([2, 3, 44, 50], dtype);
      for (const dim of [2, 3] as const) {
        const size = dim === 2 ? 44 : 50;
        const index = pair.tensor(
          [3, 21],
          "i32",
          Int32Array.from({ length: 63 }, (_, i) => (i * 7) % size),
        );
        const out = pair.output(dim === 2 ? [2, 3, 21, 50] : [2, 3, 44, 21], dtype);
        await pair.expectSame("filter", out, { x: picture(), index, weight: pair.tensor([3, 21]) }, { dim }, roundingTolerance[dtype]);
      }
      const attrs = { mode: "bicubic", paddingMode: "reflection", alignCorners: false } as const;
      const grid = pair.tensor([2, 31, 29, 2]);
      await pair.expectSame("gridSample", pair.output([2, 3, 31, 29], dtype), { x: picture(), grid }, attrs, 4 * roundingTolerance[dtype]!);
    }
  });
});
