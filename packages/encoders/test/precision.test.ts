// f16 and bf16 weights: no overflow, and no further from transformers than the dtype is.
import { cpu } from "@wick/tensor";
import { tolerances } from "@wick/testing";
import { expect, test } from "vitest";
import { qwen3LargeActivations, t5LargeActivations } from "./precision-cases.ts";

const cases = { T5: t5LargeActivations, Qwen3: qwen3LargeActivations };

test.each(Object.keys(cases) as (keyof typeof cases)[])("%s", async (name) => {
  using device = cpu();
  for (const dtype of ["f16", "bf16"] as const) {
    const measured = await cases[name](device, dtype);
    expect(measured.peakResidual).toBeGreaterThan(65_504);
    expect(measured.peakInner).toBeGreaterThan(65_504);
    expect(measured.moved).toBeLessThan(1e-6);
    expect(measured.error).toBeLessThan(tolerances.textEncoder[dtype]);
    expect(measured.cosine).toBeGreaterThan(0.999);
  }
  expect(device.liveBytes).toBe(0);
});
