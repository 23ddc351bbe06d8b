// The kernels that real GPUs run (workgroup tiles, one workgroup per row), on whatever driver there is. Few cases: software drivers
// compile them slowly.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createWebGpuBackend } from "../../src/backends/webgpu/index.ts";
import { matmulFailure } from "../../src/backends/webgpu/self-test.ts";
import { tiers } from "../../src/backends/webgpu/tier.ts";
import { productClasses } from "../../src/backends/webgpu/tuning.ts";
import { expandLayout, permuteLayout } from "../../src/layout.ts";
import { binaryNode, inputNode } from "../../src/ops/expr.ts";
import type { View } from "../../src/view.ts";
import { Pair } from "./pair.ts";

describe("kernels for hardware", () => {
  let pair: Pair;
  beforeAll(async () => {
    pair = await Pair.open({ tier: "plain", software: false });
  });
  afterAll(() => pair.close());

  it.each([
    [70, 50, 68],
    [65, 33, 7],
    [3, 260, 36],
  ])("matmul %i x %i x %i", async (m, k, n) => {
    const weight = pair.tensor([n, k], "bf16", undefined, (l) => permuteLayout(l, [1, 0]));
    const bias = pair.tensor([n], "f32", undefined, (l) => expandLayout("t", l, [m, n]));
    const epilogue = binaryNode("add", inputNode(0, "f32"), inputNode(1, "f32"));
    await pair.expectSame("matmul", pair.output([m, n], "f32"), { a: pair.tensor([m, k]), b: weight, operands: [bias] }, { epilogue });
    await pair.expectSame(
      "matmul",
      pair.output([m, n], "f32"),
      { a: pair.tensor([k, m], "f32", undefined, (l) => permuteLayout(l, [1, 0])), b: pair.tensor([k, n]) },
      {},
    );
  });

  it("norm and softmax of long rows", async () => {
    await pair.expectSame(
      "norm",
      pair.output([3, 1028], "f32"),
      { x: pair.tensor([3, 1028]), weight: pair.tensor([1028]) },
      { kind: "layer", eps: 1e-5 },
    );
    await pair.expectSame("softmax", pair.output([3, 300], "f32"), { x: pair.tensor([3, 300]) }, { log: false });
  });

  it("reductions of long rows", async () => {
    const attrs = { reduceRank: 1, correction: 1, p: 2 } as const;
    await pair.expectSame("reduce", pair.output([3], "f32"), { x: pair.tensor([3, 5000]) }, { ...attrs, kind: "var" }, 3e-6);
    await pair.expectSame("reduce", pair.output([3], "i32"), { x: pair.tensor([3, 5000]) }, { ...attrs, kind: "argmax" }, 0);
  });

  it("attention, grouped and causal", async () => {
    const inputs = { q: pair.tensor([1, 4, 40, 64]), k: pair.tensor([1, 2, 70, 64]), v: pair.tensor([1, 2, 70, 64]) };
    await pair.expectSame("attention", pair.output([1, 4, 40, 64], "f32"), inputs, { scale: 0.125, causal: true });
  });

  it("attention of one wide head with lengths and an additive mask", async () => {
    const mask = pair.tensor([9, 50], "f32", undefined, (l) => expandLayout("t", l, [2, 1, 9, 50]));
    const inputs = {
      q: pair.tensor([2, 1, 9, 160]),
      k: pair.tensor([2, 1, 50, 160]),
      v: pair.tensor([2, 1, 50, 160]),
      mask,
      lengths: pair.tensor([2], "i32", [33, 0]),
    };
    await pair.expectSame("attention", pair.output([2, 1, 9, 160], "f32"), inputs, { scale: 0.08, causal: false });
  });

  it.each([
    ["odd width", 17, 20, 9, [1, 1]],
    ["stride 2", 8, 70, 16, [2, 2]],
  ] as const)("convolution as a product, %s", async (_n, c, o, w, stride) => {
    const ow = Math.floor((w - 1) / stride[1]) + 1;
    const oh = Math.floor(9 / stride[0]) + 1;
    const x = pair.tensor([2, c, 10, w], "bf16");
    const bias = pair.tensor([o, 1, 1], "f32", undefined, (l) => expandLayout("t", l, [2, o, oh, ow]));
    const epilogue = binaryNode("add", inputNode(0, "f32"), inputNode(1, "f32"));
    const attrs = { stride, padding: [1, 1], dilation: [1, 1], groups: 1, epilogue } as const;
    await pair.expectSame("conv", pair.output([2, o, oh, ow], "f32"), { x, weight: pair.tensor([o, c, 3, 3]), operands: [bias] }, attrs);
  });

  it("says which kernels it chose", () => expect(pair.gpu.capabilities.tier).toBe("plain"));
});

// The variants that no software driver takes by itself; those of subgroup matrices where the driver executes them (tools/matrix-driver.sh).
describe("variants for hardware", () => {
  it.for(["workgroup 128x64", "broadcast 32", "matrix 2x2", "matrix 4x2", "matrix 4x4", "matrix 2x2 ahead"] as const)(
    "%s",
    { timeout: 300_000 },
    async (variant, { skip }) => {
      const tier = variant.startsWith("matrix") ? "matrix" : "subgroups";
      const probe = await createWebGpuBackend({ software: false });
      const { adapterName, offeredTier } = probe.capabilities;
      probe.destroy();
      skip(tiers.indexOf(tier) > tiers.indexOf(offeredTier), `the driver has no ${tier} tier`);
      const variants = Object.fromEntries(productClasses.map((c) => [c, variant]));
      const backend = await createWebGpuBackend({ software: false, tier, tuning: [{ adapter: adapterName, tier, variants }] });
      const made: View[] = [];
      expect(await matmulFailure(backend, made)).toBeUndefined();
      expect(backend.sources().map((s) => s.label)).toContainEqual(expect.stringMatching(`matmul ${variant}`));
      backend.destroy();
    },
  );
});

describe("kernels for hardware with subgroups", () => {
  let pair: Pair;
  beforeAll(async () => {
    pair = await Pair.open({ tier: "subgroups", software: false });
  });
  afterAll(() => pair.close());

  it("norm and softmax: a subgroup per row, several per row, more subgroups than rows", async () => {
    for (const [rows, width] of [
      [19, 300],
      [3, 1028],
    ] as const) {
      const inputs = { x: pair.tensor([rows, width]), weight: pair.tensor([width]) };
      await pair.expectSame("norm", pair.output([rows, width], "f32"), inputs, { kind: "layer", eps: 1e-5 });
      await pair.expectSame("softmax", pair.output([rows, width], "f32"), { x: pair.tensor([rows, width]) }, { log: false });
    }
  });
});
