// Softmax, norms and rope against the CPU backend.
import { afterAll, beforeAll, describe, it } from "vitest";
import type { PlainDType } from "../../src/dtype.ts";
import { expandLayout, type Layout, permuteLayout } from "../../src/layout.ts";
import { binaryNode, inputNode, unaryNode } from "../../src/ops/expr.ts";
import { Pair, parameterVariants, roundingTolerance } from "./pair.ts";

const floats: PlainDType[] = ["f32", "f16", "bf16"];

describe.each(parameterVariants)("%s", (_name, options) => {
  let pair: Pair;
  beforeAll(async () => {
    pair = await Pair.open(options);
  });
  afterAll(() => pair.close());

  it.each([
    [5, 1],
    [3, 7],
    [1, 64],
    [4, 1000],
    [33, 130],
    [2, 2052],
  ])("softmax and log-softmax of %i rows of %i", async (rows, width) => {
    for (const dtype of floats) {
      for (const log of [false, true]) {
        await pair.expectSame(
          "softmax",
          pair.output([rows, width], dtype),
          { x: pair.tensor([rows, width], dtype) },
          { log },
          roundingTolerance[dtype],
        );
      }
    }
  });

  it("softmax carries NaN, infinities and rows of -inf", async () => {
    const inf = Infinity;
    const x = pair.tensor([4, 3], "f32", [1, -inf, 2, -inf, -inf, -inf, Number.NaN, 1, 2, inf, 1, 2]);
    await pair.expectSame("softmax", pair.output([4, 3], "f32"), { x }, { log: false });
  });

  it("softmax of a permuted view", async () => {
    const x = pair.tensor([4, 6, 20], "f16", undefined, (l) => permuteLayout(l, [1, 0, 2]));
    await pair.expectSame("softmax", pair.output([6, 4, 20], "f16"), { x }, { log: false }, roundingTolerance["f16"]);
  });

  it.each([
    [5, 3],
    [3, 64],
    [17, 100],
    [2, 3072],
  ])("norms of %i rows of %i with weight, bias and epilogue", async (rows, width) => {
    for (const kind of ["layer", "rms"] as const) {
      for (const dtype of floats) {
        const x = pair.tensor([rows, width], dtype);
        const scale = pair.tensor([1, width], "f32", undefined, (l) => expandLayout("t", l, [rows, width]));
        const shift = pair.tensor([rows, 1], dtype, undefined, (l) => expandLayout("t", l, [rows, width]));
        const epilogue = binaryNode("add", binaryNode("mul", inputNode(0, "f32"), inputNode(1, "f32")), inputNode(2, "f32"));
        const weight = pair.tensor([width], dtype);
        const bias = pair.tensor([width], "f32");
        const out = pair.output([rows, width], dtype);
        await pair.expectSame(
          "norm",
          out,
          { x, weight, bias, operands: [scale, shift] },
          { kind, eps: 1e-5, epilogue },
          roundingTolerance[dtype],
        );
      }
      await pair.expectSame("norm", pair.output([rows, width], "f32"), { x: pair.tensor([rows, width]) }, { kind, eps: 1e-3 });
    }
  });

  it("norm of a large mean keeps its digits", async () => {
    const values = Float32Array.from({ length: 4 * 512 }, (_, i) => 1000 + Math.sin(i));
    await pair.expectSame(
      "norm",
      pair.output([4, 512], "f32"),
      { x: pair.tensor([4, 512], "f32", values) },
      { kind: "layer", eps: 1e-6 },
      1e-4,
    );
  });

  const expandHeads = (l: Layout): Layout =>
    expandLayout("t", { shape: [1, 5, 1, l.shape[1]!], strides: [0, l.strides[0]!, 0, 1], offset: 0 }, [2, 5, 3, l.shape[1]!]);
  it.each([2, 6, 8, 64])("rope of width %i, both pairings", async (width) => {
    for (const interleaved of [true, false]) {
      for (const dtype of floats) {
        const x = pair.tensor([2, 3, 5, width], dtype, undefined, (l) => permuteLayout(l, [0, 2, 1, 3]));
        const [cos, sin] = [1, 2].map(() => pair.tensor([5, width / 2], "f32", undefined, expandHeads));
        await pair.expectSame(
          "rope",
          pair.output([2, 5, 3, width], dtype),
          { x, cos: cos!, sin: sin! },
          { interleaved },
          roundingTolerance[dtype],
        );
      }
    }
  });

  // Heads of projections beside others, written into a part of a longer sequence; 6 and an odd place go step by step.
  it.each([
    [128, 0],
    [72, 0],
    [16, 0],
    [6, 0],
    [64, 3],
  ])("norm and rope of heads of width %i, both pairings (%i elements in)", async (width, skip) => {
    const [b, l, n, all] = [2, 5, 3, 7];
    const columns = 2 * n * width + skip;
    for (const interleaved of [true, false]) {
      for (const dtype of floats) {
        const x = pair.tensor([b, l, columns], dtype, undefined, (layout) => ({
          shape: [b, l, n, width],
          strides: [...layout.strides.slice(0, 2), width, 1],
          offset: n * width + skip,
        }));
        const [cos, sin] = [1, 2].map(() =>
          pair.tensor([all, width / 2], "f32", undefined, () => ({
            shape: [b, l, n, width / 2],
            strides: [0, width / 2, 0, 1],
            offset: width,
          })),
        );
        const part = { shape: [b, l, n, width], strides: [n * all * width, width, all * width, 1], offset: 2 * width };
        const out = pair.output([b, n, all, width], dtype);
        const [cpu, gpu] = [out.cpu, out.gpu].map((view) => ({ ...view, layout: part }));
        await pair.expectSame(
          "qkNormRope",
          { cpu: cpu!, gpu: gpu! },
          { x, weight: pair.tensor([width], "bf16"), cos: cos!, sin: sin! },
          { eps: 1e-3, interleaved },
          roundingTolerance[dtype],
        );
      }
    }
  });

  it("epilogue with an activation", async () => {
    const epilogue = unaryNode("silu", inputNode(0, "f32"));
    await pair.expectSame(
      "norm",
      pair.output([6, 32], "bf16"),
      { x: pair.tensor([6, 32]) },
      { kind: "rms", eps: 1e-6, epilogue },
      roundingTolerance["bf16"],
    );
  });
});
