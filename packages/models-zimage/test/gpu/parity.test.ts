// Z-Image on WebGPU: every module and whole pipelines against diffusers at a tiny width. A selection by default; WICK_PARITY=all runs every
// pipeline and prints the errors, which takes minutes where the GPU is software.
import { type Device, hold, webgpu } from "@wick/tensor";
import { relativeL2 } from "@wick/testing";
import { allParity, reportParity, streamedRun } from "@wick/testing/gpu-parity";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { batchError, exactParity, openGolden } from "../parity-cases.ts";
import { comparePipeline, limitFor, requestOf, tinyPipeline } from "../tiny-pipeline.ts";

// A software driver takes minutes to compile the first kernels.
vi.setConfig({ testTimeout: 300_000 });

let device: Device;
beforeAll(async () => {
  device = await webgpu();
});
afterAll(() => device.destroy());

const report = (what: string, figures: object): void => reportParity(device, what, figures);

describe("the transformer", () => {
  test("every module agrees with diffusers", async () => {
    const compared = await exactParity(device);
    const blocks = compared.filter((c) => /^(output|(layers|noise_refiner|context_refiner)\.\d+)$/.test(c.path));
    const worst = Math.max(...blocks.map((c) => c.error));
    report("Z-Image", { modules: compared.length, blocks: blocks.length, worstBlock: worst });
    expect(blocks.length).toBeGreaterThan(4);
    expect(worst).toBeLessThan(1e-5);
    expect(device.liveBytes).toBe(0);
  });

  test("a batch of unequal prompts at an odd size agrees", async () => {
    const { got, want } = await batchError(device);
    report("Z-Image, unequal prompts", { error: relativeL2(got, want) });
    expect(relativeL2(got, want)).toBeLessThan(1e-5);
    expect(device.liveBytes).toBe(0);
  });
});

describe("pipelines", () => {
  test.each(["cfg", ...(allParity ? ["turbo", "cfg-truncation", "cfg-normalization", "img2img", "inpaint"] : [])])("%s", async (name) => {
    const { steps, image } = await comparePipeline(device, name);
    report(`Z-Image pipeline ${name}`, { steps: steps.length, worstStep: Math.max(...steps), image });
    expect(Math.max(...steps)).toBeLessThan(1e-4);
    expect(image).toBeLessThan(1e-4);
    expect(device.liveBytes).toBe(0);
  });

  test("streams blocks to the same bytes", async () => {
    using request = hold(requestOf(device, await openGolden("pipeline-cfg")));
    const given = device.liveBytes;
    const maxGpuBytes = await limitFor(device, request.value, 0.5);
    const open = (limit: number | undefined) => tinyPipeline(device, { keepLoaded: false, memory: { maxGpuBytes: limit } });
    const { plain, streamed, peakBytes, allocatedBytes } = await streamedRun(device, open, { ...request.value, steps: 2 }, maxGpuBytes);
    report("Z-Image streamed", { peakBytes, allocatedBytes, maxGpuBytes, sameBytes: true });
    expect(streamed).toEqual(plain);
    expect(peakBytes).toBeLessThanOrEqual(maxGpuBytes);
    // Buffers below 1 MiB, all of them here, are rounded up by an eighth or less.
    expect(allocatedBytes).toBeLessThanOrEqual(1.125 * maxGpuBytes);
    expect(device.liveBytes).toBe(given);
  });
});
