// Redux against diffusers, alone and as further text tokens of dev.
import { load, namedParameters } from "@wick/nn";
import { cat, cpu, hold, scope, torchCpu } from "@wick/tensor";
import { relativeL2 } from "@wick/testing";
import { goldenInput, readModuleGolden } from "@wick/testing/module-golden";
import { describe, expect, test } from "vitest";
import { Flux, flux1Redux, Redux } from "../src/index.ts";
import { configOf, goldenUrl, inputsOf, openGolden, tensorOf, weightsOf } from "./parity-cases.ts";
import { tinyFlux } from "./tiny-flux.ts";

test("names and shapes are the released file's", () => {
  expect(Object.fromEntries([...namedParameters(new Redux(flux1Redux))].map(([n, p]) => [n, p.shape]))).toEqual({
    "redux_up.weight": [12_288, 1152],
    "redux_up.bias": [12_288],
    "redux_down.weight": [4096, 12_288],
    "redux_down.bias": [4096],
  });
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
