// The CLIP text encoder module by module against transformers.
import { cpu } from "@wick/tensor";
import { expect, test } from "vitest";

import { clipParity } from "./parity-cases.ts";

test("every module agrees with transformers", async () => {
  using device = cpu();
  const compared = await clipParity(device);
  expect(compared.length).toBe(39);
  expect(device.liveBytes).toBe(0);
});

test("a wrong constant is noticed, and the first module it spoils is named", async () => {
  using device = cpu();
  await expect(clipParity(device, { eps: 1e-6 })).rejects.toThrow(/first to diverge is text_model\.encoder\.layers\.0\.layer_norm1: /);
  await expect(clipParity(device, { heads: 6 })).rejects.toThrow(/first to diverge is text_model\.encoder\.layers\.0\.self_attn/);
  expect(device.liveBytes).toBe(0);
});
