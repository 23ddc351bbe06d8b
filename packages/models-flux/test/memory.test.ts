// Memory: what is predicted, what is refused, and models that are larger than the room for them.
import type { MemoryError, MemoryLimits, MemoryStage } from "@wick/diffusion";
import { cpu, type Device, torchCpu } from "@wick/tensor";
import { describe, expect, test } from "vitest";
import type { FluxPipeline, FluxRequest } from "../src/index.ts";
import { deepFlux, limitFor } from "./deep-flux.ts";
import type { FluxGolden } from "./parity-cases.ts";
import { type TinyOptions, tinyFlux, tinyRedux } from "./tiny-flux.ts";

const image = { width: 80, height: 48, rgb: Uint8Array.from({ length: 3 * 80 * 48 }, (_, i) => (i * 37) % 256) };
const mask = { ...image, rgb: image.rgb.map((_, i) => (i % 240 < 120 ? 255 : 0)) };

interface Kind {
  readonly network: FluxGolden;
  readonly request: Partial<FluxRequest>;
}
const kinds: Readonly<Record<string, Kind>> = {
  prompt: { network: "dev", request: {} },
  cfg: { network: "dev", request: { trueCfg: 2 } },
  picture: { network: "dev", request: { image, mask, strength: 1 } },
  kontext: { network: "kontext", request: { image, fitReference: false } },
  fill: { network: "fill", request: { image, mask } },
  redux: { network: "dev", request: { redux: [{ image }, { image: mask, scale: 0.5 }] } },
};

/** A device with embeddings on it; at the end only they are left. */
async function withRequest(kind: Kind, use: (device: Device, request: FluxRequest, given: number) => Promise<void>): Promise<void> {
  using device = cpu();
  {
    using text = device.randn([1, 5, 24], torchCpu(1));
    using pooled = device.randn([1, 20], torchCpu(2));
    const negativeEmbeddings = kind.request.trueCfg ? { text, pooled } : undefined;
    const given = device.liveBytes;
    await use(device, { embeddings: { text, pooled }, negativeEmbeddings, steps: 2, ...kind.request }, given);
    expect(device.liveBytes).toBe(given);
  }
}

const stageBytes = async (pipe: FluxPipeline, request: FluxRequest, stage: MemoryStage) =>
  (await pipe.plan(request)).memory.stages.find((s) => s.stage === stage)?.peakBytes ?? 0;

describe("the prediction", () => {
  test.each([
    ["prompt", false, false],
    ["cfg", true, false],
    ["cfg", false, true],
    ["picture", false, false],
    ["kontext", false, false],
    ["fill", true, true],
    ["redux", false, false],
    ["redux", false, true],
  ])("is what a run takes: %s, modulations made ahead: %s, weights kept: %s", async (name, precomputeModulation, keepLoaded) => {
    const kind = kinds[name]!;
    await withRequest(kind, async (device, request, given) => {
      const redux = kind.request.redux && (await tinyRedux());
      using pipe = await tinyFlux(device, kind.network, { keepLoaded, precomputeModulation, redux });
      if (keepLoaded) await pipe.generate({ ...request, steps: 1 });
      const before = ["encodeRedux", "encodePicture", "modulate", "denoise"] as const;
      const predicted = { loop: 0, decode: await stageBytes(pipe, request, "decode") };
      for (const stage of before) predicted.loop = Math.max(predicted.loop, await stageBytes(pipe, request, stage));
      let loop = 0;
      device.resetPeak();
      const latentsOut = () => {
        loop = device.peakBytes - given;
        device.resetPeak();
      };
      await pipe.generate({ ...request, latentsOut });
      for (const ratio of [predicted.loop / loop, predicted.decode / (device.peakBytes - given)]) {
        expect(ratio).toBeGreaterThanOrEqual(1);
        expect(ratio).toBeLessThan(1.1);
      }
    });
  });
});

describe("a limit", () => {
  test.each([
    ["cfg", 0, false],
    ["cfg", 0.5, true],
    ["fill", 0.3, true],
  ])(
    "streams blocks of %s within %f of the room, with the same bytes (modulations made ahead: %s)",
    async (name, part, precomputeModulation) => {
      const kind = kinds[name]!;
      await withRequest(kind, async (device, request, given) => {
        const latents: Float32Array[] = [];
        const latentsOut: FluxRequest["latentsOut"] = ({ values }) => void latents.push(values);
        using plain = await deepFlux(device, kind.network, { keepLoaded: false });
        await plain.generate({ ...request, latentsOut });
        const options = { keepLoaded: false, precomputeModulation };
        const maxGpuBytes = await limitFor(device, kind.network, request, options, part);
        using pipe = await deepFlux(device, kind.network, { ...options, memory: { maxGpuBytes } });
        const weights = precomputeModulation ? pipe.parts.transformer.trunk : pipe.parts.transformer.whole;
        let streamed = 0;
        const onProgress: FluxRequest["onProgress"] = ({ stage }) => {
          if (stage === "block") streamed = Math.max(streamed, weights.streamedBlocks);
        };
        device.resetPeak();
        let peak = 0;
        await pipe.generate({
          ...request,
          onProgress,
          latentsOut: (out) => {
            peak = device.peakBytes - given;
            latentsOut(out);
          },
        });
        expect(streamed).toBeGreaterThan(0);
        expect(peak).toBeLessThanOrEqual(maxGpuBytes);
        expect(latents[1]).toEqual(latents[0]);
      });
    },
  );

  test.each([false, true])(
    "leaves nothing when a run is aborted while blocks stream (modulations made ahead: %s)",
    async (precomputeModulation) => {
      const kind = kinds["cfg"]!;
      await withRequest(kind, async (device, request, given) => {
        const options = { keepLoaded: false, precomputeModulation };
        const maxGpuBytes = await limitFor(device, kind.network, request, options, 0.2);
        using pipe = await deepFlux(device, kind.network, { ...options, memory: { maxGpuBytes } });
        for (const stop of [1, 18]) {
          const abort = new AbortController();
          let blocks = 0;
          const onProgress: FluxRequest["onProgress"] = ({ stage }) => {
            if (stage === "block" && ++blocks === stop) abort.abort(new Error("enough"));
          };
          await expect(pipe.generate({ ...request, signal: abort.signal, onProgress })).rejects.toThrow("enough");
          expect(blocks).toBe(stop);
          expect(device.liveBytes).toBe(given);
        }
      });
    },
  );

  test("that is too small is named before anything is loaded, with what would help", async () => {
    const kind = kinds["cfg"]!;
    await withRequest(kind, async (device, request, given) => {
      const refused = async (memory: MemoryLimits, options: TinyOptions = {}): Promise<MemoryError> => {
        using pipe = await tinyFlux(device, kind.network, { keepLoaded: false, memory, ...options });
        device.resetPeak();
        const error = await pipe.generate(request).catch((e: unknown) => e as MemoryError);
        expect(device.peakBytes).toBe(given);
        return error as MemoryError;
      };
      expect(String(await refused({ maxGpuBytes: 200_000 }))).toMatchInlineSnapshot(
        `"MemoryError: plan: denoise needs 0.6 MiB, maxGpuBytes is 0.2 MiB: weights 0.5 MiB of 1.1 MiB, everything else 0.1 MiB; use precomputeModulation: true, or a smaller dtype (q8_0, q4_K), or a smaller picture, or maxGpuBytes of 1479116"`,
      );
      expect(String(await refused({ maxGpuBytes: 200_000 }, { precomputeModulation: true }))).toMatchInlineSnapshot(
        `"MemoryError: plan: modulate needs 0.3 MiB, maxGpuBytes is 0.2 MiB: weights 0.2 MiB of 0.4 MiB, everything else 0.0 MiB; use fewer steps, or a smaller dtype (q8_0, q4_K), or a smaller picture, or maxGpuBytes of 1479116"`,
      );
      const { needsBytes } = await refused({ maxGpuBytes: 200_000 });
      expect((await refused({ maxGpuBytes: needsBytes - 1 })).needsBytes).toBe(needsBytes);
      expect(String(await refused({ maxGpuBytes: 700_000, stream: false }))).toMatch(/use stream: true/);
    });
  });
});
