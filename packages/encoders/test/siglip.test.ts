// SigLIP: pictures as Pillow prepares them, and every module of the vision encoder against transformers.
import { cpu } from "@wick/tensor";
import { goldenInput } from "@wick/testing/module-golden";
import { fluxReduxConfigs } from "@wick/testing/released-configs";
import { describe, expect, test } from "vitest";
import { checkSiglipProcessor, SiglipVision, siglipConfigFromJson, siglipPatches, siglipPixels, siglipSo400m } from "../src/index.ts";
import { openGolden, siglipParity } from "./parity-cases.ts";

describe("pictures", () => {
  test("become the processor's numbers, bit for bit", async () => {
    using device = cpu();
    const golden = await openGolden("siglip");
    const expected = goldenInput(golden, "pixel_values").values as Float32Array;
    const size = expected.length / 2;
    for (const i of [0, 1]) {
      const { shape, values } = goldenInput(golden, `picture.${i}`);
      const image = { width: shape[1]!, height: shape[0]!, rgb: values as Uint8Array };
      using pixels = siglipPixels(device, image, { imageSize: 30 });
      expect(await pixels.toArray()).toEqual(expected.subarray(i * size, (i + 1) * size));
    }
  });

  test("prepared in another way are refused", () => {
    const released = fluxReduxConfigs.feature_extractor;
    checkSiglipProcessor(released, siglipSo400m);
    const refused = (change: object) => () => checkSiglipProcessor({ ...released, ...change }, siglipSo400m);
    expect(refused({ resample: 2 })).toThrowErrorMatchingInlineSnapshot(
      `[UnsupportedError: checkSiglipProcessor: "resample" is 2, pictures are prepared with 3]`,
    );
    expect(refused({ image_mean: [0.48, 0.46, 0.41] })).toThrowErrorMatchingInlineSnapshot(
      `[UnsupportedError: checkSiglipProcessor: "image_mean" is [0.48,0.46,0.41], pictures are prepared with [0.5,0.5,0.5]]`,
    );
    expect(refused({ size: { shortest_edge: 384 } })).toThrowErrorMatchingInlineSnapshot(
      `[UnsupportedError: checkSiglipProcessor: "size" is {"shortest_edge":384}, the model reads 384 x 384 pixels]`,
    );
    expect(() => checkSiglipProcessor([] as never, siglipSo400m)).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: checkSiglipProcessor: preprocessor_config.json is not an object]`,
    );
  });
});

describe("the vision encoder", () => {
  test("agrees with transformers, module by module", async () => {
    using device = cpu();
    const compared = await siglipParity(device);
    expect(compared.length).toBe(27);
    expect(Math.max(...compared.map((c) => c.error))).toBeLessThan(1e-5);
    expect(device.liveBytes).toBe(0);
  });

  test("notices a wrong constant, and the first module it spoils is named", async () => {
    using device = cpu();
    await expect(siglipParity(device, { eps: 1e-5 })).rejects.toThrow(
      /first to diverge is vision_model\.encoder\.layers\.0\.layer_norm1: /,
    );
    await expect(siglipParity(device, { heads: 4 })).rejects.toThrow(/first to diverge is vision_model\.encoder\.layers\.0\.self_attn/);
    expect(device.liveBytes).toBe(0);
  });

  test("refuses pixels of another size", () => {
    using device = cpu();
    using pixels = device.zeros([1, 3, 224, 224]);
    expect(() => new SiglipVision(siglipSo400m).forward(pixels)).toThrowErrorMatchingInlineSnapshot(
      `[ShapeError: SiglipVision: pixels are [b, 3, 384, 384]: full f32 [1, 3, 224, 224]; siglipPixels makes them of a picture]`,
    );
  });

  test("sees 729 patches at the released size", () => {
    expect(siglipPatches(siglipSo400m)).toBe(729);
  });
});

describe("config.json", () => {
  const released = fluxReduxConfigs.image_encoder;
  const refused = (change: object) => () => siglipConfigFromJson({ ...released, ...change });

  test("of Redux and of google/siglip-so400m-patch14-384 are our constants", () => {
    expect(siglipConfigFromJson(released)).toEqual(siglipSo400m);
    const { hidden_size, image_size, intermediate_size, model_type, num_attention_heads, num_hidden_layers, patch_size } = released;
    const vision_config = { hidden_size, image_size, intermediate_size, model_type, num_attention_heads, num_hidden_layers, patch_size };
    expect(siglipConfigFromJson({ model_type: "siglip", text_config: {}, vision_config })).toEqual(siglipSo400m);
  });

  test("of other networks are refused by key", () => {
    expect(refused({ hidden_act: "gelu" })).toThrowErrorMatchingInlineSnapshot(
      `[UnsupportedError: siglipConfigFromJson: "hidden_act" is "gelu", this network has "gelu_pytorch_tanh"]`,
    );
    expect(refused({ model_type: "clip_vision_model" })).toThrowErrorMatchingInlineSnapshot(
      `[UnsupportedError: siglipConfigFromJson: "model_type" is "clip_vision_model", this network has "siglip_vision_model"]`,
    );
    expect(refused({ image_size: [384, 256] })).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: siglipConfigFromJson: "image_size" must be a positive number: got [384,256]]`,
    );
    expect(refused({ num_attention_heads: 7 })).toThrowErrorMatchingInlineSnapshot(
      `[UnsupportedError: siglipConfigFromJson: "hidden_size" (1152) is no multiple of "num_attention_heads" (7)]`,
    );
    expect(refused({ patch_size: 500 })).toThrowErrorMatchingInlineSnapshot(
      `[UnsupportedError: siglipConfigFromJson: "patch_size" (500) is above "image_size" (384)]`,
    );
    expect(refused({ num_patches: 256 })).toThrowErrorMatchingInlineSnapshot(
      `[UnsupportedError: siglipConfigFromJson: unknown keys, which may change the network: "num_patches": 256]`,
    );
    expect(() => siglipConfigFromJson({})).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: siglipConfigFromJson: config.json lacks "image_size"]`,
    );
  });
});
