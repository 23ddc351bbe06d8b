// The trained tiny model end to end on WebGPU against PyTorch, from the same noise.
import { webgpu } from "@wick/tensor";
import { expect, test } from "vitest";
import { compareWithReference, openTiny, type Reference, references } from "../tiny-model.ts";

/** Each prompt once, with and without guidance; the CPU test runs all eight. */
const chosen = references.filter((r) => (r.prompt === "fox") === (r.guidance === 3) && r.seed === (r.guidance === 3 ? 1 : 0));

test.each<Reference>(chosen)("$prompt, seed $seed, guidance $guidance", { timeout: 600_000 }, async (reference) => {
  using device = await webgpu();
  {
    using pipe = await openTiny(device);
    const { steps, image } = await compareWithReference(pipe, reference);
    expect(steps.length).toBe(12);
    expect(Math.max(...steps)).toBeLessThan(1e-4);
    expect(image).toBeLessThan(1e-4);
  }
  expect(device.liveBytes).toBe(0);
});
