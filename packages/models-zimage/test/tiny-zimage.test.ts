// The trained tiny model end to end against PyTorch: same noise in, the same latents after every step, the same picture.

import type { ZImagePipeline } from "@wick/models-zimage";
import { cpu, torchCpu } from "@wick/tensor";
import { relativeL2 } from "@wick/testing";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { compareWithReference, fileName, openTiny, readReference, references } from "./tiny-model.ts";

let device = cpu();
let pipe: ZImagePipeline;
beforeAll(async () => {
  device = cpu();
  pipe = await openTiny(device);
});
afterAll(() => {
  pipe[Symbol.dispose]();
  expect(device.liveBytes).toBe(0);
  device.destroy();
});

describe("against PyTorch", () => {
  test.each(references)("$prompt, seed $seed, guidance $guidance", async (reference) => {
    const { steps, image } = await compareWithReference(pipe, reference);
    expect(steps.length).toBe(12);
    expect(Math.max(...steps)).toBeLessThan(1e-5);
    expect(image).toBeLessThan(1e-4);
  });

  test("token ids and hidden states", async () => {
    const read = await readReference(fileName(references[0]!));
    const ids = await read("token_ids");
    const expected = Array.from(new BigInt64Array(ids.bytes.buffer, ids.bytes.byteOffset, ids.bytes.byteLength / 8), Number);
    expect(Array.from(pipe.parts.text!.tokenizer.encodePrompt("a red apple").ids)).toEqual(expected);
    using hidden = await pipe.encode("a red apple");
    expect(relativeL2((await hidden.toArray()) as Float32Array, (await read("text_hidden")).values)).toBeLessThan(1e-5);
  });

  test("seeded noise is PyTorch's, bit for bit", async () => {
    const { values } = await (await readReference(fileName({ prompt: "fox", seed: 1, guidance: 0 })))("noise");
    expect(torchCpu(1).randn(values.length)).toEqual(values);
  });
});

describe("a run", () => {
  test("gives the same bytes twice, and leaves nothing behind", async () => {
    const request = { prompt: "fox", seed: 7, steps: 3 };
    const first = await pipe.generate(request);
    const before = device.liveBytes;
    const second = await pipe.generate(request);
    expect(second.rgb).toEqual(first.rgb);
    expect(device.liveBytes).toBe(before);
  });

  test("stops within a block when aborted, and releases what it held", async () => {
    await pipe.generate({ prompt: "fox", steps: 1 });
    const before = device.liveBytes;
    const stop = new AbortController();
    const blocks: number[] = [];
    const run = pipe.generate({
      prompt: "fox",
      steps: 4,
      signal: stop.signal,
      onProgress: (p) => {
        if (p.stage === "block" && blocks.push(p.block) === 5) stop.abort();
      },
    });
    await expect(run).rejects.toThrow(/abort/i);
    expect(blocks.length).toBe(5);
    expect(device.liveBytes).toBe(before);
  });

  test("a picture batch equals single pictures from the same latents", async () => {
    using noise = device.randn([2, 16, 8, 8], torchCpu(3));
    const both = await pipe.generateAll({ prompt: "fox", steps: 2, count: 2, latents: noise });
    using second = noise.narrow(0, 1, 1);
    const alone = await pipe.generate({ prompt: "fox", steps: 2, latents: second });
    const off = alone.rgb.reduce((most, v, i) => Math.max(most, Math.abs(v - both[1]!.rgb[i]!)), 0);
    expect(off).toBeLessThanOrEqual(1);
  });
});

describe("requests", () => {
  const message = async (request: object): Promise<string> => {
    try {
      await pipe.generate({ prompt: "fox", ...request });
    } catch (error) {
      return String(error);
    }
    throw new Error("nothing was thrown");
  };

  test("that do not fit name the limit", async () => {
    expect(await message({ width: 100 })).toMatchInlineSnapshot(`"RequestError: generate: width is a multiple of 16, got 100; try 96"`);
    expect(await message({ steps: 0 })).toMatchInlineSnapshot(`"RequestError: generate: steps is a whole number in 1…1000, got 0"`);
    expect(await message({ guidance: -1 })).toMatchInlineSnapshot(`"RequestError: generate: guidance is a number of at least 0, got -1"`);
    expect(await message({ solver: "ddim" })).toMatchInlineSnapshot(
      `"RequestError: generate: unknown solver "ddim"; known are euler, heun, dpmpp-2m, dpmpp-2m-k, euler-a, euler-stochastic"`,
    );
    expect(await message({ cfg: 3 })).toMatchInlineSnapshot(
      `"RequestError: generate: unknown option "cfg"; known are prompt, negativePrompt, promptEmbeds, negativePromptEmbeds, guidance, guidanceTruncation, guidanceNormalization, guidanceRule, image, strength, mask, posterior, width, height, steps, seed, rng, count, latents, latentsOut, sigmas, solver, signal, onProgress"`,
    );
    expect(await message({ sigmas: [0.2, 0.9] })).toMatchInlineSnapshot(
      `"RequestError: generate: sigmas decrease within 1…0, got [0.2, 0.9]"`,
    );
    expect(await message({ width: 4096 })).toMatchInlineSnapshot(
      `"ShapeError: ZImage.context: the model has positions for 64 columns of image tokens, 256 are needed; use a narrower picture"`,
    );
    expect(await message({ prompt: "fox ".repeat(600) })).toMatchInlineSnapshot(
      `"RequestError: generate: the prompt has 1209 tokens, 512 at most; shorten it"`,
    );
    expect(await message({ prompt: 7 })).toMatchInlineSnapshot(`"RequestError: generate: prompt is a text or a list of texts"`);
  });
});
