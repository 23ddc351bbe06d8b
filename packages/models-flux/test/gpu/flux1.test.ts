// FLUX.1 on WebGPU: every module against the authors' class, whole pipelines against diffusers, storage formats against their own values.
// A selection by default; WICK_PARITY=all runs every network, layout and pipeline and prints the errors, which takes minutes where the GPU is
// software.
import { type Device, torchCpu, webgpu } from "@wick/tensor";
import { relativeL2 } from "@wick/testing";
import { allParity, reportParity, streamedRun } from "@wick/testing/gpu-parity";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import type { FluxRequest } from "../../src/index.ts";
import { deepFlux, limitFor } from "../deep-flux.ts";
import { blockErrors, type FluxGolden, fluxOutput, fluxParity, type Layout } from "../parity-cases.ts";
import { comparePipeline } from "../pipeline-parity.ts";
import { tinyRedux } from "../tiny-flux.ts";

// A software driver takes minutes to compile the first kernels.
vi.setConfig({ testTimeout: 300_000 });

let device: Device;
beforeAll(async () => {
  device = await webgpu();
});
afterAll(() => device.destroy());

const report = (what: string, figures: object): void => reportParity(device, what, figures);

describe("the transformer", () => {
  const networks: readonly (readonly [FluxGolden, Layout])[] = [
    ["dev", "diffusers"],
    ["kontext", "black-forest-labs"],
    ["dev", "black-forest-labs"],
    ["schnell", "black-forest-labs"],
    ["fill", "black-forest-labs"],
    ["control", "black-forest-labs"],
  ];
  test.each(allParity ? networks : networks.slice(0, 2))("every module of %s in the layout of %s", async (name, layout) => {
    const compared = await fluxParity(device, name, { layout });
    const worst = Math.max(...blockErrors(compared));
    report(`FLUX.1 ${name}, ${layout}`, { modules: compared.length, worstBlock: worst });
    expect(worst).toBeLessThan(1e-5);
    expect(device.liveBytes).toBe(0);
  });

  test.each([
    ["bf16", 2e-2],
    ["f16", 1e-2],
  ] as const)("%s weights stay within %f of the f32 reference", async (dtype, limit) => {
    const { actual, expected } = await fluxOutput(device, "dev", dtype);
    const error = relativeL2(actual, expected);
    report(`FLUX.1 dev, ${dtype} weights`, { error });
    expect(error).toBeLessThan(limit);
    expect(error).toBeGreaterThan(1e-6);
  });
});

describe("pipelines", () => {
  const drawn = { noiseDType: "f32", posterior: "sample" } as const;
  const pipelines: readonly (readonly [name: string, FluxGolden, Partial<FluxRequest>])[] = [
    ["dev-cfg", "dev", { trueCfg: 2 }],
    ["inpaint", "dev", drawn],
    ["dev", "dev", {}],
    ["schnell", "schnell", {}],
    ["img2img", "dev", drawn],
    ["kontext", "kontext", { noiseDType: "f32", fitReference: false }],
    ["fill", "fill", drawn],
    ["control", "control", drawn],
    ["redux", "dev", {}],
  ];
  test.each(allParity ? pipelines : pipelines.slice(0, 2))("%s", async (name, network, request) => {
    const redux = name === "redux" ? await tinyRedux() : undefined;
    const { steps, image } = await comparePipeline(device, name, network, request, { precomputeModulation: name === "dev", redux });
    report(`FLUX.1 pipeline ${name}`, { steps: steps.length, worstStep: Math.max(...steps), image });
    expect(Math.max(...steps)).toBeLessThan(1e-4);
    expect(image).toBeLessThan(1e-4);
    expect(device.liveBytes).toBe(0);
  });

  test.each(allParity ? [false, true] : [true])(
    "streams blocks to the same bytes (modulations made ahead: %s)",
    async (precomputeModulation) => {
      using text = device.randn([1, 5, 24], torchCpu(1));
      using pooled = device.randn([1, 20], torchCpu(2));
      const given = device.liveBytes;
      const request: FluxRequest = { embeddings: { text, pooled }, steps: 2, seed: 3 };
      const options = { keepLoaded: false, precomputeModulation };
      const maxGpuBytes = await limitFor(device, "dev", request, options, 0.3);
      const open = (limit: number | undefined) => deepFlux(device, "dev", { ...options, memory: { maxGpuBytes: limit } });
      const { plain, streamed, peakBytes } = await streamedRun(device, open, request, maxGpuBytes);
      report(`FLUX.1 streamed, modulations ahead: ${precomputeModulation}`, { peakBytes, maxGpuBytes, sameBytes: true });
      expect(streamed).toEqual(plain);
      expect(peakBytes).toBeLessThanOrEqual(maxGpuBytes);
      expect(device.liveBytes).toBe(given);
    },
  );
});
