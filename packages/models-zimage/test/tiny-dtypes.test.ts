// The trained tiny model with narrower weights, and with less memory than it takes.
import { cpu } from "@wick/tensor";
import { expect, test } from "vitest";
import { compareWithReference, openTiny } from "./tiny-model.ts";

const reference = { prompt: "fox", seed: 0, guidance: 0 };

// The checkpoint holds bf16 values that f16 holds exactly too; q8_0 was measured at 3.5e-3. Rows are too short for q4_K.
test.each([
  ["bf16", 1e-5],
  ["f16", 1e-5],
  ["q8_0", 1e-2],
] as const)("a transformer in %s stays near PyTorch's f32", async (dtype, tolerance) => {
  using device = cpu();
  using pipe = await openTiny(device, { dtype });
  const { steps } = await compareWithReference(pipe, reference);
  expect(Math.max(...steps)).toBeLessThan(tolerance);
});

test("encoder and transformer stream within a limit and draw the same picture", async () => {
  using device = cpu();
  using whole = await openTiny(device, { keepLoaded: false });
  const request = { prompt: "fox", seed: 3, steps: 2 };
  const { memory } = await whole.plan(request);
  const wanted = await whole.generate(request);
  const weights = Math.max(...memory.stages.map((s) => s.weightBytes));
  using pipe = await openTiny(device, { maxGpuBytes: memory.peakBytes - Math.floor(weights / 8) });
  device.resetPeak();
  expect((await pipe.generate(request)).rgb).toEqual(wanted.rgb);
  expect(device.peakBytes).toBeLessThanOrEqual(memory.peakBytes - Math.floor(weights / 8));
  expect(device.liveBytes).toBe(0);
});
