// The encoders on WebGPU: every module against transformers, and narrow weights with activations beyond f16's range.
import { type Device, webgpu } from "@wick/tensor";
import { tolerances } from "@wick/testing";
import { afterAll, beforeAll, expect, test } from "vitest";
import { clipParity, qwen3Parity, siglipParity, t5Parity } from "../parity-cases.ts";
import { qwen3LargeActivations, t5LargeActivations } from "../precision-cases.ts";

let device: Device;
beforeAll(async () => {
  device = await webgpu();
});
afterAll(() => device.destroy());

test("every module agrees with transformers", { timeout: 180_000 }, async () => {
  expect((await t5Parity(device)).length).toBe(19);
  expect((await clipParity(device)).length).toBe(39);
  expect((await qwen3Parity(device)).length).toBe(63);
  expect((await siglipParity(device)).length).toBe(27);
  expect(device.liveBytes).toBe(0);
});

test("a wrong constant is noticed", { timeout: 180_000 }, async () => {
  await expect(t5Parity(device, { maxDistance: 127 })).rejects.toThrow(
    /first to diverge is encoder\.block\.0\.layer\.0\.SelfAttention\.relative_attention_bias: /,
  );
  await expect(clipParity(device, { eps: 1e-6 })).rejects.toThrow(/first to diverge is text_model\.encoder\.layers\.0\.layer_norm1: /);
  await expect(siglipParity(device, { eps: 1e-5 })).rejects.toThrow(/first to diverge is vision_model\.encoder\.layers\.0\.layer_norm1: /);
  await expect(qwen3Parity(device, { ropeTheta: 5e5 })).rejects.toThrow(/first to diverge is model\.layers\.0\.self_attn/);
});

test.each(["f16", "bf16"] as const)("%s weights do not overflow", { timeout: 180_000 }, async (dtype) => {
  for (const measure of [t5LargeActivations, qwen3LargeActivations]) {
    const { peakResidual, peakInner, moved, error, cosine } = await measure(device, dtype);
    expect(Math.min(peakResidual, peakInner)).toBeGreaterThan(65_504);
    expect(moved).toBeLessThan(1e-5);
    expect(error).toBeLessThan(tolerances.textEncoder[dtype]);
    expect(cosine).toBeGreaterThan(0.999);
  }
  expect(device.liveBytes).toBe(0);
});
