// Qwen3 module by module against transformers.
import { cpu } from "@wick/tensor";
import { expect, test } from "vitest";
import { qwen3Parity } from "./parity-cases.ts";

test("every module agrees with transformers", async () => {
  using device = cpu();
  const compared = await qwen3Parity(device);
  expect(compared.length).toBe(63);
  expect(device.liveBytes).toBe(0);
});

test("a wrong constant is noticed, and the first module it spoils is named", async () => {
  using device = cpu();
  await expect(qwen3Parity(device, { eps: 1e-5 })).rejects.toThrow(/first to diverge is model\.layers\.0\.input_layernorm: /);
  await expect(qwen3Parity(device, { ropeTheta: 5e5 })).rejects.toThrow(/first to diverge is model\.layers\.0\.self_attn/);
  expect(device.liveBytes).toBe(0);
});
