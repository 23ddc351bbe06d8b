// The Z-Image pipelines against diffusers, and how they behave.
import { DecodeError, type HostLatents, latentsOn } from "@wick/diffusion";
import { fromPixels } from "@wick/image";
import type { ZImageRequest } from "@wick/models-zimage";
import type { BlockRun } from "@wick/nn";
import { cpu, hold, type WeightSource } from "@wick/tensor";
import { relativeL2 } from "@wick/testing";
import { latentPreview } from "@wick/vae";
import { describe, expect, test } from "vitest";
import { openGolden } from "./parity-cases.ts";
import { comparePipeline, requestOf, tinyPipeline } from "./tiny-pipeline.ts";

describe("against diffusers, from the same latents", () => {
  test.each([
    ["turbo", 8],
    ["cfg", 8],
    ["cfg-truncation", 8],
    ["cfg-normalization", 8],
    ["img2img", 6],
    ["inpaint", 8],
  ] as const)("%s", async (name, count) => {
    using device = cpu();
    const { steps, sigmas, image } = await comparePipeline(device, name);
    expect(steps).toHaveLength(count);
    expect(sigmas).toBeLessThan(1e-7);
    expect(Math.max(...steps)).toBeLessThan(1e-4);
    expect(image).toBeLessThan(1e-4);
    expect(device.liveBytes).toBe(0);
  });

  test.each([
    ["cfg", { guidance: 4.02 }],
    ["cfg-truncation", { guidanceTruncation: 0.6 }],
    ["cfg-normalization", { guidanceNormalization: 1.01 }],
    ["img2img", { posterior: "mean" }],
    ["img2img", { seed: 6 }],
    ["inpaint", { mask: undefined, strength: 1 }],
  ] as const)("%s notices %o", async (name, changes) => {
    using device = cpu();
    const { steps } = await comparePipeline(device, name, changes);
    expect(Math.max(...steps)).toBeGreaterThan(5e-4);
  });
});

describe("a run", () => {
  const broken = (source: WeightSource): WeightSource => ({
    ...source,
    entries: source.entries,
    metadata: source.metadata,
    stream: () => {
      throw new Error("the disk is gone");
    },
    close: () => source.close(),
  });

  test("of two prompts gives each what it gets alone", async () => {
    using device = cpu();
    const golden = await openGolden("pipeline-cfg");
    using pipe = await tinyPipeline(device);
    using request = hold(requestOf(device, golden));
    const { promptEmbeds, negativePromptEmbeds, latents, guidance } = request.value;
    const both = await pipe.generateAll({ ...request.value, steps: 2 });
    for (const i of [0, 1]) {
      using start = hold(latents!.narrow(0, i, 1).copy());
      const one = { promptEmbeds: [promptEmbeds[i]!], negativePromptEmbeds: [negativePromptEmbeds![i]!], latents: start.value };
      const alone = await pipe.generate({ ...one, guidance, steps: 2 });
      expect(Math.max(...alone.rgb.map((v, k) => Math.abs(v - both[i]!.rgb[k]!)))).toBeLessThanOrEqual(1);
    }
  });

  test("keeps the latents when decoding fails", async () => {
    using device = cpu();
    using pipe = await tinyPipeline(device, { decorateVae: broken });
    using fine = await tinyPipeline(device);
    using request = hold(requestOf(device, await openGolden("pipeline-turbo")));
    const seen: HostLatents[] = [];
    const failure = await pipe.generate({ ...request.value, steps: 1, latentsOut: (l) => seen.push(l) }).catch((e: unknown) => e);
    expect(failure).toBeInstanceOf(DecodeError);
    expect(String(failure)).toMatchInlineSnapshot(
      `"DecodeError: decode: the disk is gone: latents [1, 16, 6, 10]; they are kept in this error: decode(latentsOn(device, error.latents))"`,
    );
    const { latents } = failure as DecodeError;
    expect(seen).toEqual([latents]);
    using again = hold(latentsOn(device, latents));
    const [image] = await fine.decode(again.value);
    expect(image!.rgb).toEqual((await fine.generate({ ...request.value, steps: 1 })).rgb);
  });

  test("stops before decoding when the latents are not numbers", async () => {
    using device = cpu();
    using pipe = await tinyPipeline(device, { decorateVae: broken });
    using request = hold(requestOf(device, await openGolden("pipeline-turbo")));
    using bad = hold(device.full([1, 16, 6, 10], Number.NaN));
    const { promptEmbeds } = request.value;
    await expect(pipe.generate({ promptEmbeds, latents: bad.value })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[NumericsError: denoise: NaN or infinite values in the latents after step 1 of 8: add f32 [1, 16, 6, 10]; use bf16 or f32 weights, or lower the guidance]`,
    );
    await expect(pipe.decode(bad.value)).rejects.toThrow(/NumericsError|NaN/);
  });

  test("that is left early releases everything", async () => {
    using device = cpu();
    using pipe = await tinyPipeline(device, { keepLoaded: false });
    using request = hold(requestOf(device, await openGolden("pipeline-turbo")));
    const before = device.liveBytes;
    for await (const step of pipe.steps(request.value)) if (step.index === 1) break;
    expect(device.liveBytes).toBe(before);
  });

  test("that is aborted, wherever it is, stops there and releases everything", async () => {
    using device = cpu();
    using pipe = await tinyPipeline(device, { keepLoaded: false });
    using request = hold(requestOf(device, await openGolden("pipeline-inpaint")));
    const given = device.liveBytes;
    const events: string[] = [];
    const run = (signal?: AbortSignal, onEvent: () => void = () => {}) => {
      events.length = 0;
      const onProgress: ZImageRequest["onProgress"] = (p) => {
        events.push(p.stage === "load" ? `load ${p.model}` : p.stage);
        onEvent();
      };
      return pipe.generate({ ...request.value, steps: 1, signal, onProgress });
    };
    await run();
    const all = [...events];
    // The first and the last event of every kind, of each of its series.
    const edges = all.flatMap((e, i) => (e !== all[i - 1] || e !== all[i + 1] ? [i + 1] : []));
    expect(edges.length).toBeGreaterThan(8);
    for (const at of edges) {
      const stop = new AbortController();
      await expect(run(stop.signal, () => events.length === at && stop.abort(new Error("enough")))).rejects.toThrow("enough");
      expect(events.length - at, `after ${all[at - 1]}`).toBe(0);
      expect(device.liveBytes).toBe(given);
    }
    await expect(run(AbortSignal.abort(new Error("enough")))).rejects.toThrow("enough");
    expect(device.liveBytes).toBe(given);
  });

  test.each(["decode", "encode"] as const)("that is aborted within the autoencoder (%s) stops at its next block", async (half) => {
    using device = cpu();
    using pipe = await tinyPipeline(device, { keepLoaded: false });
    using request = hold(requestOf(device, await openGolden("pipeline-img2img")));
    const given = device.liveBytes;
    const { model } = pipe.parts.vae;
    const stop = new AbortController();
    let entered = 0;
    function* watched<T>(run: BlockRun<T>): BlockRun<T> {
      using _ = { [Symbol.dispose]: () => void run.return(undefined as T) };
      for (let step = run.next(); ; step = run.next()) {
        if (step.done) return step.value;
        if (++entered === 3) stop.abort(new Error("enough"));
        yield step.value;
      }
    }
    const [runDecode, runEncode] = [model.runDecode.bind(model), model.runEncode.bind(model)];
    if (half === "decode") model.runDecode = (...args) => watched(runDecode(...args));
    else model.runEncode = (...args) => watched(runEncode(...args));
    await expect(pipe.generate({ ...request.value, steps: 1, strength: 1, signal: stop.signal })).rejects.toThrow("enough");
    expect(entered).toBe(3);
    expect(device.liveBytes).toBe(given);
  });

  test("beside another on the same device gives what it gives alone", async () => {
    using device = cpu();
    using first = await tinyPipeline(device, { keepLoaded: false });
    using second = await tinyPipeline(device);
    using turbo = hold(requestOf(device, await openGolden("pipeline-turbo")));
    using guided = hold(requestOf(device, await openGolden("pipeline-cfg")));
    const runs = [() => first.generateAll({ ...turbo.value, steps: 2 }), () => second.generateAll({ ...guided.value, steps: 2 })];
    const alone = [await runs[0]!(), await runs[1]!()];
    expect(await Promise.all(runs.map((run) => run()))).toEqual(alone);
  });

  test("shows the picture so far: decoded, or rough without weights", async () => {
    using device = cpu();
    using pipe = await tinyPipeline(device, { keepLoaded: false });
    using request = hold(requestOf(device, await openGolden("pipeline-turbo")));
    const loaded: string[] = [];
    const onProgress: ZImageRequest["onProgress"] = (p) => void (p.stage === "load" && loaded.push(p.model));
    for await (const step of pipe.steps({ ...request.value, steps: 1, onProgress })) {
      loaded.length = 0;
      const [rough] = await step.preview({ rough: true });
      expect(loaded).toEqual([]);
      using expected = hold(latentPreview(step.latents));
      expect(rough).toEqual(fromPixels((await expected.value.toArray()) as Float32Array, 10, 6));
      expect((await step.preview())[0]).toMatchObject({ width: 80, height: 48 });
      expect(new Set(loaded)).toEqual(new Set(["vae"]));
    }
  });

  test("paints into the hole and keeps the rest", async () => {
    using device = cpu();
    using pipe = await tinyPipeline(device);
    using request = hold(requestOf(device, await openGolden("pipeline-inpaint")));
    const { image, mask } = request.value;
    const kept: HostLatents[] = [];
    const latentsOut = (l: HostLatents) => kept.push(l);
    const black = { ...mask!, rgb: mask!.rgb.map(() => 0) };
    await pipe.generate({ ...request.value, posterior: "mean", mask: black, latentsOut });
    const vae = await pipe.parts.vae.ensure(device);
    using pixels = hold(device.tensor((await import("@wick/image")).toPixels(image!), [1, 3, 48, 80]));
    using clean = hold(vae.encode(pixels.value));
    expect(relativeL2(kept[0]!.values, (await clean.value.toArray()) as Float32Array)).toBe(0);
  });
});

describe("requests that do not fit", () => {
  const blank = { width: 80, height: 48, rgb: new Uint8Array(80 * 48 * 3) };
  test.each([
    ["nothing", {}],
    ["text without an encoder", { prompt: "a cat" }],
    ["no embeddings", { promptEmbeds: [] }],
    ["guidance without the other side", { guidance: 2 }],
    ["strength without a picture", { strength: 0.5 }],
    ["a mask without a picture", { mask: blank }],
    ["too much strength", { image: blank, strength: 2 }],
    ["a side beyond the positions", { width: 1024 }],
    ["truncation that is no number", { guidanceTruncation: Number.NaN }],
  ])("%s", async (_, changes) => {
    using device = cpu();
    const opened: string[] = [];
    using pipe = await tinyPipeline(device, {
      decorate: (s) => {
        opened.push("transformer");
        return s;
      },
    });
    using request = hold(requestOf(device, await openGolden("pipeline-turbo")));
    const { promptEmbeds } = request.value;
    const base = Object.keys(changes).length === 0 || "prompt" in changes ? {} : { promptEmbeds };
    await expect(pipe.generate({ ...base, ...changes })).rejects.toThrowErrorMatchingSnapshot();
    expect(opened).toEqual([]);
  });
});
