// Memory: what is predicted, what is refused, and models that are larger than the room for them.
import type { MemoryError, MemoryLimits } from "@wick/diffusion";
import type { ZImageRequest } from "@wick/models-zimage";
import { cpu, type Device, hold } from "@wick/tensor";
import { describe, expect, test } from "vitest";
import { openGolden } from "./parity-cases.ts";
import { limitFor, requestOf, tinyPipeline } from "./tiny-pipeline.ts";

const givenBy = async (device: Device, name: string) => hold(requestOf(device, await openGolden(`pipeline-${name}`)));

describe("the prediction", () => {
  test.each(["turbo", "cfg", "img2img", "inpaint"])("is what a run takes: %s", async (name) => {
    using device = cpu();
    using request = await givenBy(device, name);
    const given = device.liveBytes;
    for (const keepLoaded of [false, true]) {
      using pipe = await tinyPipeline(device, { keepLoaded });
      const { memory } = await pipe.plan(request.value);
      if (keepLoaded) await pipe.generate({ ...request.value, steps: 1 });
      const stages: Record<string, number> = {};
      const measure = (stage: string) => {
        stages[stage] = Math.max(stages[stage] ?? 0, device.peakBytes - given);
        device.resetPeak();
      };
      device.resetPeak();
      await pipe.generate({
        ...request.value,
        steps: 3,
        strength: name === "turbo" || name === "cfg" ? undefined : 1,
        latentsOut: () => measure("denoise"),
      });
      measure("decode");
      const predicted = (stage: string) => memory.stages.find((s) => s.stage === stage)!.peakBytes;
      const before = Math.max(predicted("denoise"), request.value.image ? predicted("encodePicture") : 0);
      for (const [want, got] of [
        [before, stages["denoise"]!],
        [predicted("decode"), stages["decode"]!],
      ] as const) {
        expect(want / got).toBeGreaterThanOrEqual(1);
        expect(want / got).toBeLessThan(1.1);
      }
    }
    expect(device.liveBytes).toBe(given);
  });
});

describe("a limit", () => {
  test.each([0, 0.5, 0.99])("that leaves %f of the room streams blocks, with the same bytes", async (part) => {
    using device = cpu();
    using request = await givenBy(device, "cfg");
    const given = device.liveBytes;
    const whole = { latents: undefined as Float32Array | undefined, streamed: undefined as Float32Array | undefined };
    using plain = await tinyPipeline(device, { keepLoaded: false });
    await plain.generate({ ...request.value, steps: 2, latentsOut: ({ values }) => void (whole.latents = values) });
    const maxGpuBytes = await limitFor(device, request.value, part);
    using pipe = await tinyPipeline(device, { keepLoaded: false, memory: { maxGpuBytes } });
    device.resetPeak();
    let blocks = 0;
    const run = pipe.steps({ ...request.value, steps: 2 });
    let step = await run.next();
    for (; !step.done; step = await run.next()) blocks = pipe.parts.transformer.streamedBlocks;
    whole.streamed = (await step.value.toArray()) as Float32Array;
    step.value.dispose();
    expect(blocks).toBeGreaterThan(0);
    expect(device.peakBytes - given).toBeLessThanOrEqual(maxGpuBytes);
    expect(whole.streamed).toEqual(whole.latents);
    expect(device.liveBytes).toBe(given);
  });

  test("with room for everything streams nothing", async () => {
    using device = cpu();
    using request = await givenBy(device, "turbo");
    const maxGpuBytes = await limitFor(device, request.value, 1);
    using pipe = await tinyPipeline(device, { keepLoaded: true, memory: { maxGpuBytes: 4 * maxGpuBytes } });
    await pipe.generate({ ...request.value, steps: 1 });
    expect(pipe.parts.transformer.isLoaded).toBe(true);
    expect(pipe.parts.transformer.streamedBlocks).toBe(0);
  });

  test("leaves nothing when a run is aborted while blocks stream", async () => {
    using device = cpu();
    using request = await givenBy(device, "cfg");
    const maxGpuBytes = await limitFor(device, request.value, 0.2);
    using pipe = await tinyPipeline(device, { keepLoaded: false, memory: { maxGpuBytes } });
    const before = device.liveBytes;
    const stop = new AbortController();
    let blocks = 0;
    const onProgress: ZImageRequest["onProgress"] = (p) => {
      if (p.stage === "block" && ++blocks === 6) stop.abort();
    };
    await expect(pipe.generate({ ...request.value, signal: stop.signal, onProgress })).rejects.toThrow(/abort/i);
    expect(blocks).toBe(6);
    expect(device.liveBytes).toBe(before);
  });

  test("that is too small is named before anything is loaded, with what would help", async () => {
    using device = cpu();
    using request = await givenBy(device, "cfg");
    const before = device.liveBytes;
    const refused = async (memory: MemoryLimits, changes: Partial<ZImageRequest> = {}): Promise<MemoryError> => {
      using pipe = await tinyPipeline(device, { keepLoaded: false, memory });
      device.resetPeak();
      const error = await pipe.generate({ ...request.value, ...changes }).catch((e: unknown) => e as MemoryError);
      expect(device.peakBytes).toBe(before);
      return error as MemoryError;
    };
    const error = await refused({ maxGpuBytes: 300_000 });
    expect(String(error)).toMatchInlineSnapshot(
      `"MemoryError: plan: denoise needs 2.8 MiB, maxGpuBytes is 0.3 MiB: weights 1.4 MiB of 2.0 MiB, everything else 1.4 MiB; use a smaller dtype (q8_0, q4_K), or a smaller picture, or fewer pictures at once, or maxGpuBytes of 2918480"`,
    );
    const enough = (await limitFor(device, request.value, 0)) - 1;
    expect((await refused({ maxGpuBytes: enough })).needsBytes).toBe(enough + 1);
    expect(String(await refused({ maxGpuBytes: enough + 100, stream: false }))).toMatchInlineSnapshot(
      `"MemoryError: plan: denoise needs 3.4 MiB, maxGpuBytes is 2.8 MiB: weights 2.0 MiB of 2.0 MiB, everything else 1.4 MiB; use stream: true, or a smaller dtype (q8_0, q4_K), or a smaller picture, or fewer pictures at once, or maxGpuBytes of 3588816"`,
    );
  });
});
