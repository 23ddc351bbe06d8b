// How FLUX.1 pipelines behave: what they refuse, what they release, what they report.
import { DecodeError, LazyModel, latentsOn, type PipelineProgress } from "@wick/diffusion";
import { namedParameters } from "@wick/nn";
import { cpu, type Device, type Tensor, torchCpu, type WeightSource } from "@wick/tensor";
import { describe, expect, test } from "vitest";
import {
  type FluxEmbeddings,
  FluxPipeline,
  type FluxRequest,
  fluxVariants,
  kontextSize,
  splitModulation,
  type TextStage,
} from "../src/index.ts";
import type { FluxGolden } from "./parity-cases.ts";
import { comparePipeline } from "./pipeline-parity.ts";
import { type TinyOptions, tinyFlux } from "./tiny-flux.ts";

const image = (width: number, height: number) => ({
  width,
  height,
  rgb: Uint8Array.from({ length: 3 * width * height }, (_, i) => (i * 37) % 256),
});

/** A device, a pipeline on it and embeddings; at the end everything must be gone. */
async function withPipeline(
  use: (pipe: FluxPipeline, embeddings: FluxEmbeddings, device: Device) => Promise<void>,
  { network = "dev", ...options }: TinyOptions & { network?: FluxGolden } = {},
): Promise<void> {
  using device = cpu();
  {
    using pipe = await tinyFlux(device, network, options);
    using text = device.randn([1, 5, 24], torchCpu(1));
    using pooled = device.randn([1, 20], torchCpu(2));
    await use(pipe, { text, pooled }, device);
  }
  expect(device.liveBytes).toBe(0);
}
const values = async (t: Tensor) => (await t.toArray()) as Float32Array;
const latentsOf = async (pipe: FluxPipeline, request: FluxRequest): Promise<Float32Array> => {
  const run = pipe.steps(request);
  for (;;) {
    const step = await run.next();
    if (!step.done) continue;
    using latents = step.value;
    return await values(latents);
  }
};

describe("wrong requests are refused before anything is computed", () => {
  const refused = (request: Partial<FluxRequest>, options: TinyOptions & { network?: FluxGolden } = {}) =>
    withPipeline(async (pipe, embeddings, device) => {
      const before = device.liveBytes;
      const error = await pipe.generate({ embeddings, ...request }).catch((e: Error) => e);
      expect(device.liveBytes).toBe(before);
      throw error;
    }, options);

  test("sizes, counts, schedules", async () => {
    await expect(refused({ width: 100 })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RequestError: generate: width is a multiple of 16, got 100; try 96]`,
    );
    await expect(refused({ height: 16_384 })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RequestError: generate: height is a whole number in 16…8192, got 16384]`,
    );
    await expect(refused({ steps: 0 })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RequestError: generate: steps is a whole number in 1…1000, got 0]`,
    );
    await expect(refused({ count: 0 })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RequestError: generate: count is a whole number in 1…64, got 0]`,
    );
    await expect(refused({ sigmas: [0.5, 0.9] })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RequestError: generate: sigmas decrease within 1…0, got [0.5, 0.9]]`,
    );
    await expect(refused({ solver: "ddim" })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RequestError: generate: unknown solver "ddim"; known are euler, heun, dpmpp-2m, dpmpp-2m-k, euler-a, euler-stochastic]`,
    );
  });

  test("options", async () => {
    await expect(refused({ cfg: 3 } as FluxRequest)).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RequestError: generate: unknown option "cfg"; known are prompt, embeddings, redux, imageTokens, negativePrompt, negativeEmbeddings, guidance, trueCfg, guidanceRule, image, strength, mask, fitReference, posterior, noiseDType, width, height, steps, seed, rng, count, latents, latentsOut, sigmas, solver, signal, onProgress]`,
    );
    await expect(refused({ guidance: Number.NaN })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RequestError: generate: guidance is a number of at least 0, got NaN]`,
    );
    await expect(refused({ guidance: 3.5 }, { network: "schnell" })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RequestError: generate: schnell takes no guidance number, got 3.5; use trueCfg]`,
    );
    await expect(refused({ trueCfg: 0.5 })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RequestError: generate: trueCfg is a number of at least 1 (off), got 0.5]`,
    );
    await expect(refused({ negativePrompt: "blur" })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RequestError: generate: a negative prompt needs trueCfg above 1]`,
    );
    await expect(refused({ trueCfg: 2 })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RequestError: generate: this pipeline has no text encoders; pass embeddings, and negativeEmbeddings for trueCfg]`,
    );
    await expect(refused({ prompt: "a fox" })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RequestError: generate: give either prompt or embeddings]`,
    );
  });

  test("noise", async () => {
    await expect(refused({ seed: 1.5 })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RequestError: generate: seed is a whole number, got 1.5; beyond 2^53 pass a bigint]`,
    );
    await expect(refused({ rng: "cuda" as never })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RequestError: generate: rng is "torch-cpu" or "torch-cpu-legacy", got cuda]`,
    );
    await expect(refused({ noiseDType: "f61" as never })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RequestError: generate: noiseDType is "bf16" or "f16" or "f32", got f61]`,
    );
  });

  test("pictures", async () => {
    const map = image(80, 48);
    await expect(refused({ mask: map })).rejects.toThrowErrorMatchingInlineSnapshot(`[RequestError: generate: mask needs image]`);
    await expect(refused({ strength: 0.5 })).rejects.toThrowErrorMatchingInlineSnapshot(`[RequestError: generate: strength needs image]`);
    await expect(refused({ image: map, strength: 0 })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RequestError: generate: strength lies in 0…1 (0 excluded), got 0]`,
    );
    await expect(refused({ image: map, posterior: "median" as never })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RequestError: generate: posterior is "mean" or "sample", got median]`,
    );
    await expect(refused({ image: map }, { network: "fill" })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RequestError: generate: fill-dev needs image and mask]`,
    );
    await expect(refused({}, { network: "control" })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RequestError: generate: canny-dev needs image: the map to follow]`,
    );
    await expect(refused({ image: map, mask: map }, { network: "kontext" })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RequestError: generate: kontext-dev takes no mask]`,
    );
    await expect(refused({ image: map, fitReference: true })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RequestError: generate: dev takes no fitReference]`,
    );
  });

  test("tensors", async () => {
    using device = cpu();
    using narrow = device.zeros([1, 5, 23]);
    using pooled = device.zeros([1, 20]);
    await expect(refused({ embeddings: { text: narrow, pooled } })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[ShapeError: generate: embeddings.text is [1, l, 24]: full f32 [1, 5, 23]]`,
    );
    using text = device.zeros([1, 5, 24]);
    await expect(refused({ embeddings: { text, pooled: narrow } })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[ShapeError: generate: embeddings.pooled is [1, 20]: full f32 [1, 5, 23]]`,
    );
    await expect(refused({ latents: text })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[ShapeError: generate: latents must be [1, 16, 6, 10] for this size and count: full f32 [1, 5, 24]]`,
    );
  });
});

describe("lifetime", () => {
  test.each([
    [true, false],
    [false, false],
    [true, true],
    [false, true],
  ])(
    "an abort at any block or stage leaves what there was (keepLoaded %s, precomputeModulation %s)",
    async (keepLoaded, precomputeModulation) => {
      await withPipeline(
        async (pipe, embeddings, device) => {
          const request = { embeddings, steps: 2, image: image(80, 48), strength: 1, seed: 3 };
          await pipe.generate(request);
          const before = device.liveBytes;
          for (const stop of [0, 1, 5, 8, 9]) {
            const abort = new AbortController();
            let blocks = 0;
            const onProgress = ({ stage }: PipelineProgress) => {
              if (stage === "block" && ++blocks >= stop) abort.abort(new Error("enough"));
              if (stop === 0 && stage === "load") abort.abort(new Error("enough"));
              if (stop === 9 && stage === "decode") abort.abort(new Error("enough"));
            };
            if (stop === 0 && keepLoaded) abort.abort(new Error("enough"));
            await expect(pipe.generate({ ...request, signal: abort.signal, onProgress })).rejects.toThrow("enough");
            if (stop > 0 && stop < 9) expect(blocks).toBe(stop);
            expect(device.liveBytes).toBe(before);
          }
        },
        { keepLoaded, precomputeModulation },
      );
    },
  );

  test("leaving the iteration early releases everything", async () => {
    await withPipeline(
      async (pipe, embeddings, device) => {
        const before = device.liveBytes;
        for await (const step of pipe.steps({ embeddings, steps: 3 })) {
          expect(step.index).toBe(0);
          expect(await step.preview()).toHaveLength(1);
          break;
        }
        expect(device.liveBytes).toBe(before);
      },
      { keepLoaded: false },
    );
  });

  test("encoders leave before the transformer comes, and it leaves before the decoder comes", async () => {
    using device = cpu();
    const loaded: string[] = [];
    let prompts = 0;
    const stage = (name: string, shape: readonly number[]): TextStage => ({
      encoder: {
        tokens: () => [],
        encode: async () => {
          prompts++;
          return device.zeros(shape);
        },
      },
      weights: { isLoaded: false, ensure: async () => void loaded.push(`+${name}`), release: () => void loaded.push(`-${name}`) },
    });
    const text = { t5: stage("t5", [1, 5, 24]), clip: stage("clip", [1, 20]) };
    using pipe = await tinyFlux(device, "dev", { keepLoaded: false, text });
    const onProgress = (p: PipelineProgress) => {
      if (p.stage === "load" && p.progress.index === 0) loaded.push(`+${p.model}`);
    };
    await pipe.generate({ prompt: "a fox", negativePrompt: "blur", trueCfg: 2, steps: 1, onProgress });
    expect(prompts).toBe(4);
    expect([...new Set(loaded)]).toEqual(["+clip", "-clip", "+t5", "-t5", "+transformer", "+vae"]);
    expect(device.liveBytes).toBe(0);
  });

  test("modulation made ahead lowers what is on the device by the weights that made it", async () => {
    const mostDuringBlocks = async (precomputeModulation: boolean) => {
      let most = 0;
      await withPipeline(
        async (pipe, embeddings, device) => {
          const onProgress = ({ stage }: PipelineProgress) => {
            if (stage === "block") most = Math.max(most, device.liveBytes);
          };
          await pipe.generate({ embeddings, steps: 1, onProgress });
        },
        { keepLoaded: false, precomputeModulation },
      );
      return most;
    };
    let weightBytes = 0;
    await withPipeline(async (pipe) => {
      for (const [, p] of namedParameters(splitModulation(pipe.parts.transformer.model).modulation)) weightBytes += 4 * p.size;
    });
    const saved = (await mostDuringBlocks(false)) - (await mostDuringBlocks(true));
    // The modulations themselves stay: 4 blocks x 6 or 3 vectors of 48.
    expect(saved).toBeGreaterThan(weightBytes - 4 * 48 * (2 * 12 + 2 * 3 + 1) - 1024);
  });

  test("two pipelines on one device do not disturb each other", async () => {
    await withPipeline(async (first, embeddings, device) => {
      using second = await tinyFlux(device, "schnell");
      const alone = [await latentsOf(first, { embeddings, steps: 3, seed: 1 }), await latentsOf(second, { embeddings, steps: 2, seed: 2 })];
      const together = await Promise.all([
        latentsOf(first, { embeddings, steps: 3, seed: 1 }),
        latentsOf(second, { embeddings, steps: 2, seed: 2 }),
      ]);
      expect(together).toEqual(alone);
    });
  });
});

describe("numbers", () => {
  test("a spoiled weight stops the run at the step it spoils", async () => {
    const spoiled = (source: WeightSource): WeightSource => ({
      ...source,
      async *stream(name, options) {
        for await (const piece of source.stream(name, options)) yield name === "final_layer.linear.bias" ? piece.map(() => 0xff) : piece;
      },
    });
    await expect(
      withPipeline(async (pipe, embeddings) => void (await pipe.generate({ embeddings, steps: 2 })), { decorate: spoiled }),
    ).rejects.toThrowErrorMatchingInlineSnapshot(
      `[NumericsError: denoise: NaN or infinite values in the latents after step 1 of 2: add f32 [1, 16, 6, 10]; use bf16 or f32 weights, or lower the guidance]`,
    );
  });

  test("latents outlive a decoder that fails", async () => {
    await withPipeline(async (pipe, embeddings, device) => {
      const { vae } = pipe.parts;
      const broken = new FluxPipeline(device, {
        ...pipe.parts,
        vae: new LazyModel({ name: "vae", model: vae.model, open: () => Promise.reject(new Error("the disk is gone")) }),
      });
      const error = await broken.generate({ embeddings, steps: 1, seed: 8 }).catch((e: unknown) => e);
      expect(error).toBeInstanceOf(DecodeError);
      using again = latentsOn(device, (error as DecodeError).latents);
      const [image] = await pipe.decode(again);
      expect(image!.rgb).toEqual((await pipe.generate({ embeddings, steps: 1, seed: 8 })).rgb);
    });
  });

  test("the noise is drawn in bf16 unless told otherwise", async () => {
    await withPipeline(async (pipe, embeddings, device) => {
      const request = { embeddings, steps: 1, seed: 11 };
      const count = 16 * 6 * 10;
      const bits = torchCpu(11).randn(count, "bf16");
      using given = device.tensor(
        Float32Array.from(bits, (b) => new Float32Array(new Uint32Array([b << 16]).buffer)[0]!),
        [1, 16, 6, 10],
      );
      using wide = device.tensor(torchCpu(11).randn(count), [1, 16, 6, 10]);
      expect(await latentsOf(pipe, request)).toEqual(await latentsOf(pipe, { ...request, latents: given }));
      expect(await latentsOf(pipe, { ...request, noiseDType: "f32" })).toEqual(await latentsOf(pipe, { ...request, latents: wide }));
    });
  });

  test("several pictures of one request are those of their noise", async () => {
    await withPipeline(async (pipe, embeddings, device) => {
      const both = await latentsOf(pipe, { embeddings, steps: 2, seed: 4, count: 2 });
      const bits = torchCpu(4)
        .randn(2 * 960, "bf16")
        .subarray(960);
      using second = device.tensor(
        Float32Array.from(bits, (b) => new Float32Array(new Uint32Array([b << 16]).buffer)[0]!),
        [1, 16, 6, 10],
      );
      const alone = await latentsOf(pipe, { embeddings, steps: 2, latents: second });
      const worst = Math.max(...alone.map((v, i) => Math.abs(v - both[960 + i]!)));
      expect(worst).toBeLessThan(1e-4);
      expect(await pipe.generateAll({ embeddings, steps: 1, count: 2 })).toHaveLength(2);
    });
  });

  test("wrong schedules, guidance and masks are noticed", async () => {
    const off = async (...args: Parameters<typeof comparePipeline>) => Math.max(...(await comparePipeline(...args)).steps);
    using device = cpu();
    expect(await off(device, "dev", "dev", { guidance: 3.6 })).toBeGreaterThan(5e-4);
    expect(await off(device, "dev-cfg", "dev", { trueCfg: 2.02 })).toBeGreaterThan(5e-4);
    expect(await off(device, "dev", "dev", {}, { variant: { ...fluxVariants["dev"]!, shift: { kind: "none" } } })).toBeGreaterThan(5e-4);
    const drawn = { noiseDType: "f32", posterior: "sample" } as const;
    expect(await off(device, "inpaint", "dev", { ...drawn, noiseDType: "bf16" })).toBeGreaterThan(5e-4);
    expect(await off(device, "img2img", "dev", { ...drawn, posterior: "mean" })).toBeGreaterThan(5e-4);
    expect(await off(device, "fill", "fill", { ...drawn, mask: image(80, 48) })).toBeGreaterThan(5e-4);
    expect(
      await off(device, "kontext", "kontext", { noiseDType: "f32", fitReference: false }, { changes: { ropeAxes: [2, 8, 6] } }),
    ).toBeGreaterThan(5e-4);
  });

  test("Kontext sees a picture in the size it was trained with", () => {
    expect(kontextSize({ width: 1000, height: 1000 }, true)).toEqual({ width: 1024, height: 1024 });
    expect(kontextSize({ width: 1920, height: 1080 }, true)).toEqual({ width: 1392, height: 752 });
    expect(kontextSize({ width: 300, height: 900 }, true)).toEqual({ width: 672, height: 1568 });
    expect(kontextSize({ width: 1921, height: 1081 }, false)).toEqual({ width: 1920, height: 1072 });
  });
});
