// FLUX.1 on WebGPU: every module against the authors' class, whole pipelines against diffusers, storage formats against their own values.
import { type Device, webgpu } from "@wick/tensor";
import { relativeL2 } from "@wick/testing";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { blockErrors, type FluxGolden, fluxOutput, fluxParity } from "../parity-cases.ts";
import { comparePipeline } from "../pipeline-parity.ts";

// A software driver takes minutes to compile the first kernels.
vi.setConfig({ testTimeout: 300_000 });

let device: Device;
beforeAll(async () => {
  device = await webgpu();
});
afterAll(() => device.destroy());

const goldens: readonly FluxGolden[] = ["dev", "schnell", "kontext", "fill", "control"];

describe("the transformer", () => {
  test.each(goldens)("every module of %s", async (name) => {
    const compared = await fluxParity(device, name);
    expect(Math.max(...blockErrors(compared))).toBeLessThan(1e-5);
    expect(device.liveBytes).toBe(0);
  });

  test.each([
    ["bf16", 2e-2],
    ["f16", 1e-2],
  ] as const)("%s weights stay within %f of the f32 reference", async (dtype, limit) => {
    const { actual, expected } = await fluxOutput(device, "dev", dtype);
    const error = relativeL2(actual, expected);
    expect(error).toBeLessThan(limit);
    expect(error).toBeGreaterThan(1e-6);
  });
});

describe("pipelines", () => {
  const drawn = { noiseDType: "f32", posterior: "sample" } as const;
  test.each([
    ["dev", "dev", {}],
    ["dev-cfg", "dev", { trueCfg: 2 }],
    ["schnell", "schnell", {}],
    ["img2img", "dev", drawn],
    ["inpaint", "dev", drawn],
    ["kontext", "kontext", { noiseDType: "f32", fitReference: false }],
    ["fill", "fill", drawn],
    ["control", "control", drawn],
  ] as const)("%s", async (name, network, request) => {
    const { steps, image } = await comparePipeline(device, name, network, request, { precomputeModulation: name === "dev" });
    expect(Math.max(...steps)).toBeLessThan(1e-4);
    expect(image).toBeLessThan(1e-4);
    expect(device.liveBytes).toBe(0);
  });
});
