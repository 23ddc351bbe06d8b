// Products with parts of a Linear layer give what the whole layer gives.
import { cpu, type Device, type DType, epilogue, hold, type Tensor, torchCpu } from "@wick/tensor";
import { relativeL2 } from "@wick/testing";
import { describe, expect, test } from "vitest";
import { Linear, linearJoined, linearRows, load } from "../src/index.ts";
import { f32Tensor, memoryWeights } from "./memory-weights.ts";

const [inWidth, outWidth] = [96, 64];

async function layerOf(device: Device, dtype: DType): Promise<Linear> {
  const layer = new Linear(inWidth, outWidth);
  const stream = torchCpu(3);
  const normal = (...shape: number[]) =>
    f32Tensor(
      shape,
      stream.randn(
        shape.reduce((a, b) => a * b, 1),
        "f32",
      ) as Float32Array,
    );
  await load(layer, await memoryWeights({ weight: normal(outWidth, inWidth), bias: normal(outWidth) }), device, { dtype });
  return layer;
}
const attachTo = (device: Device, layer: Linear): void => {
  const normal = (seed: number, ...shape: number[]) => hold(device.randn(shape, torchCpu(seed))).release();
  layer.attach({ name: "a", down: normal(4, 5, inWidth), up: normal(5, outWidth, 5), bias: normal(6, outWidth), scale: 0.5 });
  layer.attach({ name: "b", down: normal(7, 2, inWidth), up: normal(8, outWidth, 2), bias: undefined, scale: -1 });
};
const values = async (t: Tensor) => (await t.toArray()) as Float32Array;

describe.each(["f32", "bf16", "q8_0", "f8e4m3"] as const)("%s weights", (dtype) => {
  describe.each([false, true])("adapters: %s", (adapted) => {
    test("rows", async () => {
      using device = cpu();
      using layer = await layerOf(device, dtype);
      if (adapted) attachTo(device, layer);
      using x = device.randn([2, 7, inWidth], torchCpu(1));
      const doubled = epilogue((y) => y.mul(2));
      using whole = layer.forward(x, doubled);
      using part = linearRows(layer, x, 16, 40, doubled);
      using wanted = whole.narrow(-1, 16, 40);
      expect(part.shape).toEqual([2, 7, 40]);
      expect(relativeL2(await values(part), await values(wanted))).toBeLessThan(1e-6);
    });

    test.each([7, 1, 1030])("parts of %i tokens", async (tokens) => {
      using device = cpu();
      using layer = await layerOf(device, dtype);
      if (adapted) attachTo(device, layer);
      using x = device.randn([2, tokens, inWidth], torchCpu(1));
      using residual = device.randn([2, tokens, outWidth], torchCpu(2));
      using gate = device.randn([2, 1, outWidth], torchCpu(9));
      const gated = epilogue((y, g, r) => r.add(g.mul(y)), gate, residual);
      using whole = layer.forward(x, gated);
      using parts = hold(x.split([32, 64], -1));
      using joined = linearJoined(layer, parts.value, gated);
      expect(relativeL2(await values(joined), await values(whole))).toBeLessThan(1e-6);
    });
  });
});

test("widths that do not add up are refused, and nothing is left behind", async () => {
  using device = cpu();
  {
    using layer = await layerOf(device, "f32");
    using x = device.randn([1, 2, 32], torchCpu(1));
    expect(() => linearJoined(layer, [x, x])).toThrowErrorMatchingInlineSnapshot(
      `[ShapeError: linearJoined: widths do not add up to 96: randn f32 [1, 2, 32], randn f32 [1, 2, 32], weight weight f32 [64, 96]]`,
    );
    attachTo(device, layer);
    using y = linearJoined(layer, [x, x, x]);
    expect(y.shape).toEqual([1, 2, outWidth]);
  }
  expect(device.liveBytes).toBe(0);
});
