// The FLUX.1 pipelines against diffusers, and how they behave.
import type { GuidanceRule } from "@wick/diffusion";
import { cpu } from "@wick/tensor";
import { describe, expect, test } from "vitest";
import { comparePipeline } from "./pipeline-parity.ts";

describe("against diffusers, from the same latents", () => {
  test.each([
    ["dev", "dev", {}, 8],
    ["dev-cfg", "dev", { trueCfg: 2 }, 8],
    ["schnell", "schnell", {}, 4],
  ] as const)("%s", async (name, network, request, count) => {
    for (const precomputeModulation of [false, true]) {
      using device = cpu();
      const { steps, sigmas, image } = await comparePipeline(device, name, network, request, { precomputeModulation });
      expect(steps).toHaveLength(count);
      expect(sigmas).toBeLessThan(1e-7);
      expect(Math.max(...steps)).toBeLessThan(1e-4);
      expect(image).toBeLessThan(1e-4);
      expect(device.liveBytes).toBe(0);
    }
  });

  test("dev-cfg by a guidance rule of one's own", async () => {
    using device = cpu();
    const worst = async (guidanceRule: GuidanceRule) =>
      Math.max(...(await comparePipeline(device, "dev-cfg", "dev", { trueCfg: 2, guidanceRule })).steps);
    expect(await worst((p, n, { scale }) => p.add(p.sub(n).mul(scale)))).toBeLessThan(1e-4);
    expect(await worst((p) => p)).toBeGreaterThan(5e-4);
    expect(device.liveBytes).toBe(0);
  });

  const drawn = { noiseDType: "f32", posterior: "sample" } as const;
  test.each([
    ["img2img", "dev", drawn, 3],
    ["inpaint", "dev", drawn, 3],
    ["kontext", "kontext", { noiseDType: "f32", fitReference: false }, 5],
    ["fill", "fill", drawn, 5],
    ["control", "control", drawn, 5],
  ] as const)("%s, with diffusers' random draws", async (name, network, request, count) => {
    using device = cpu();
    const { steps, sigmas, image } = await comparePipeline(device, name, network, request, { keepLoaded: false });
    expect(steps).toHaveLength(count);
    expect(sigmas).toBeLessThan(1e-7);
    expect(Math.max(...steps)).toBeLessThan(1e-4);
    expect(image).toBeLessThan(1e-4);
    expect(device.liveBytes).toBe(0);
  });
});
