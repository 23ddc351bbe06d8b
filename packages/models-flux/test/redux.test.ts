// Redux against diffusers, alone and as further text tokens of dev.
import { LazyModel } from "@wick/diffusion";
import { type SiglipConfig, siglipSo400m } from "@wick/encoders";
import { load, namedParameters } from "@wick/nn";
import { cat, cpu, hold, scope, torchCpu } from "@wick/tensor";
import { relativeL2 } from "@wick/testing";
import { randomWeights } from "@wick/testing/memory-weights";
import { goldenInput, readModuleGolden } from "@wick/testing/module-golden";
import { describe, expect, test } from "vitest";
import { Flux, type FluxRequest, flux1Redux, flux1ReduxPrior, Redux, type ReduxPicture, ReduxPrior } from "../src/index.ts";
import { configOf, goldenUrl, inputsOf, openGolden, tensorOf, weightsOf } from "./parity-cases.ts";
import { comparePipeline } from "./pipeline-parity.ts";
import { pictureOf, readPipelineGolden, tinyFlux, tinyRedux } from "./tiny-flux.ts";

test("names and shapes are the released file's", () => {
  expect(Object.fromEntries([...namedParameters(new Redux(flux1Redux))].map(([n, p]) => [n, p.shape]))).toEqual({
    "redux_up.weight": [12_288, 1152],
    "redux_up.bias": [12_288],
    "redux_down.weight": [4096, 12_288],
    "redux_down.bias": [4096],
  });
});

test("both networks of FLUX.1-Redux-dev are 477 M parameters, and are refused when one does not fit the other", () => {
  const prior = [...namedParameters(new ReduxPrior(flux1ReduxPrior))];
  expect(prior.reduce((sum, [, p]) => sum + p.size, 0)).toBe(412_987_248 + 64_503_808);
  const embedder = { featureWidth: 768, textWidth: 4096 };
  expect(() => new ReduxPrior({ ...flux1ReduxPrior, embedder })).toThrowErrorMatchingInlineSnapshot(
    `[UnsupportedError: ReduxPrior: the encoder's features are 1152 wide, the embedder reads 768]`,
  );
});

describe("a picture's tokens", () => {
  test("are diffusers', and so is what dev makes of them", async () => {
    using device = cpu();
    const golden = await readModuleGolden(goldenUrl("flux1-redux"));
    const dev = await openGolden("dev");
    using redux = new Redux({ featureWidth: 12, textWidth: 24 });
    await load(redux, golden.weights, device);
    using model = new Flux(configOf(dev));
    await load(model, await weightsOf(dev, "black-forest-labs"), device);
    using features = hold(tensorOf(device, goldenInput(golden, "features")));
    using tokens = hold(redux.forward(features.value));
    expect(relativeL2((await tokens.value.toArray()) as Float32Array, golden.outputs.get("tokens")!.values)).toBeLessThan(1e-6);
    const inputs = inputsOf(device, golden);
    using given = hold([inputs.img, inputs.txt, inputs.y]);
    const txtPositions = Array.from({ length: inputs.txt.dim(1) + tokens.value.dim(1) }, () => [0, 0, 0]);
    using out = hold(scope(() => model.forward({ ...inputs, txt: cat([given.value[1]!, tokens.value], 1), txtPositions })));
    expect(relativeL2((await out.value.toArray()) as Float32Array, golden.outputs.get("output")!.values)).toBeLessThan(1e-5);
  });

  test("follow the text of a request", async () => {
    using device = cpu();
    using pipe = await tinyFlux(device, "dev");
    using text = device.randn([1, 5, 24], torchCpu(1));
    using pooled = device.randn([1, 20], torchCpu(2));
    using imageTokens = device.randn([1, 6, 24], torchCpu(3));
    using joined = hold(scope(() => cat([text, imageTokens], 1).copy()));
    const request = { steps: 1, seed: 4 };
    const picture = await pipe.generate({ ...request, embeddings: { text, pooled }, imageTokens });
    expect(picture.rgb).toEqual((await pipe.generate({ ...request, embeddings: { text: joined.value, pooled } })).rgb);
    expect(picture.rgb).not.toEqual((await pipe.generate({ ...request, embeddings: { text, pooled } })).rgb);
    expect(pipe.check({ ...request, embeddings: { text, pooled }, imageTokens }).textTokens.positive).toBe(11);
    await expect(
      pipe.generate({ ...request, embeddings: { text, pooled }, imageTokens: pooled }),
    ).rejects.toThrowErrorMatchingInlineSnapshot(`[ShapeError: generate: imageTokens is [1, l, 24]: randn f32 [1, 20]]`);
  });
});

describe("pictures of a request", () => {
  test("become diffusers' latents and picture, mixed by their scales", async () => {
    for (const keepLoaded of [false, true]) {
      using device = cpu();
      {
        using redux = await tinyRedux();
        const { steps, sigmas, image } = await comparePipeline(device, "redux", "dev", {}, { redux, keepLoaded });
        expect(steps).toHaveLength(4);
        expect(sigmas).toBeLessThan(1e-7);
        expect(Math.max(...steps, image)).toBeLessThan(1e-4);
      }
      expect(device.liveBytes).toBe(0);
    }
  });

  test("at other scales are other latents", async () => {
    using device = cpu();
    using redux = await tinyRedux();
    const golden = await readPipelineGolden("redux");
    const image = (i: number) => pictureOf(goldenInput(golden, `picture.${i}`));
    const first = { image: image(0), scale: 0.75, pooledScale: 0.25 };
    const second = { image: image(1), scale: 0.5, pooledScale: 0.5, strength: 1.25 };
    const error = async (...pictures: ReduxPicture[]) =>
      Math.max(...(await comparePipeline(device, "redux", "dev", { redux: pictures }, { redux })).steps);
    expect(await error(first, second)).toBeLessThan(1e-4);
    expect(await error(first, { ...second, scale: 0.51 })).toBeGreaterThan(1e-3);
    expect(await error(first, { ...second, pooledScale: 0.51 })).toBeGreaterThan(1e-3);
    expect(await error(first, { ...second, strength: 1.3 })).toBeGreaterThan(1e-3);
    expect(await error(first)).toBeGreaterThan(1e-2);
  });

  test("go without a prompt: zeros stand where its tokens would, as in diffusers' prior without text encoders", async () => {
    using device = cpu();
    {
      using pipe = await tinyFlux(device, "dev", { redux: await tinyRedux(), keepLoaded: false });
      const redux = [{ image: image() }];
      expect(pipe.check({ redux }).textTokens).toEqual({ positive: 512 + 16, negative: undefined });
      using text = device.zeros([1, 512, 24]);
      using pooled = device.zeros([1, 20]);
      using imageTokens = await pipe.reduxTokens(redux);
      expect(imageTokens.shape).toEqual([1, 16, 24]);
      const picture = await pipe.generate({ redux, steps: 1 });
      expect(picture.rgb).toEqual((await pipe.generate({ embeddings: { text, pooled }, imageTokens, steps: 1 })).rgb);
    }
    expect(device.liveBytes).toBe(0);
  });

  test("that are wrong are refused before anything is loaded", async () => {
    using device = cpu();
    using pipe = await tinyFlux(device, "dev", { redux: await tinyRedux() });
    const refused = (redux: unknown, more: object = {}) => pipe.generate({ redux, ...more } as FluxRequest);
    await expect(refused([])).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RequestError: generate: redux is a list of pictures, such as [{ image }]]`,
    );
    await expect(refused({ image: image() })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RequestError: generate: redux is a list of pictures, such as [{ image }]]`,
    );
    await expect(refused([{}])).rejects.toThrowErrorMatchingInlineSnapshot(`[RequestError: generate: a picture of redux has an image]`);
    await expect(refused([{ image: image(), weight: 1 }])).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RequestError: generate: unknown option "weight"; known are image, strength, scale, pooledScale]`,
    );
    await expect(refused([{ image: image(), scale: Number.NaN }])).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RequestError: generate: scale of a picture of redux is a number, got NaN]`,
    );
    await expect(refused([{ image: image() }], { trueCfg: 2 })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RequestError: generate: this pipeline has no text encoders; pass embeddings, and negativeEmbeddings for trueCfg]`,
    );
    using plain = await tinyFlux(device, "dev");
    await expect(plain.generate({ redux: [{ image: image() }] })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RequestError: generate: this pipeline has no Redux; open it with redux: huggingFace("black-forest-labs/FLUX.1-Redux-dev"), or pass imageTokens made elsewhere]`,
    );
    await expect(plain.reduxTokens([{ image: image() }])).rejects.toThrow("this pipeline has no Redux");
    expect(device.liveBytes).toBe(0);
  });

  test("are in the memory plan, and their encoder streams within a limit, to the same picture", async () => {
    using device = cpu();
    const encoder: SiglipConfig = { ...siglipSo400m, imageSize: 28, patchSize: 7, width: 128, ffnWidth: 512, layers: 10, heads: 2 };
    const model = new ReduxPrior({ encoder, embedder: { featureWidth: 128, textWidth: 24 } });
    const weights = randomWeights(model, 3);
    const deep = () => new LazyModel({ name: "redux", model, open: async () => weights, blocks: model.image_encoder.encoder.layers });
    const request: FluxRequest = { redux: [{ image: image() }, { image: image(), scale: 0.5 }], steps: 1, width: 32, height: 32 };
    const opened = (maxGpuBytes?: number) => tinyFlux(device, "dev", { redux: deep(), keepLoaded: false, memory: { maxGpuBytes } });
    using whole = await opened();
    const planned = (await whole.plan(request)).memory.stages;
    expect(planned.map((s) => s.stage)).toEqual(["encodeRedux", "denoise", "decode"]);
    const picture = await whole.generate(request);
    const ratio = planned[0]!.peakBytes / device.peakBytes;
    expect(ratio).toBeGreaterThanOrEqual(1);
    expect(ratio).toBeLessThan(1.1);
    const maxGpuBytes = Math.round(0.5 * planned[0]!.peakBytes);
    using pipe = await opened(maxGpuBytes);
    let streamed = 0;
    const onProgress: FluxRequest["onProgress"] = ({ stage }) => {
      if (stage === "encode") streamed = pipe.parts.redux!.streamedBlocks;
    };
    device.resetPeak();
    expect((await pipe.generate({ ...request, onProgress })).rgb).toEqual(picture.rgb);
    expect(streamed).toBeGreaterThan(0);
    expect(device.peakBytes).toBeLessThanOrEqual(maxGpuBytes);
    expect(device.liveBytes).toBe(0);
  });

  test("leave nothing behind when they are aborted while they are read", async () => {
    using device = cpu();
    using pipe = await tinyFlux(device, "dev", { redux: await tinyRedux(), keepLoaded: false });
    const abort = new AbortController();
    let pictures = 0;
    const onProgress: FluxRequest["onProgress"] = ({ stage }) => {
      if (stage === "encode" && ++pictures === 2) abort.abort(new Error("enough"));
    };
    const redux = [{ image: image() }, { image: image() }, { image: image() }];
    await expect(pipe.generate({ redux, signal: abort.signal, onProgress })).rejects.toThrow("enough");
    expect(pictures).toBe(2);
    expect(device.liveBytes).toBe(0);
  });
});

const image = () => ({ width: 9, height: 7, rgb: Uint8Array.from({ length: 3 * 9 * 7 }, (_, i) => (i * 37) % 256) });
