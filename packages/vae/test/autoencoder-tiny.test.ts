// AutoencoderTiny module by module against diffusers, from both layouts, and its configuration.
import { load } from "@wick/nn";
import { cpu, renameAll, stripPrefix, type Tensor, translate } from "@wick/tensor";
import { type Numbers, relativeL2 } from "@wick/testing";
import { expect, test } from "vitest";
import { AutoencoderTiny, autoencoderTinyConfigFromJson, autoencoderTinyNames, joinTaesd, taef1 } from "../src/index.ts";
import { inputOn, loadTiny, tinyParity, worst } from "./parity-cases.ts";

const values = async (x: Tensor) => (await x.toArray()) as Numbers;

test("every module agrees, and so does decoding in tiles", async () => {
  using device = cpu();
  const compared = await tinyParity(device);
  expect(compared.length).toBe(97);
  expect(worst(compared)).toBeLessThan(2e-6);
  expect(device.liveBytes).toBe(0);
});

test("tiles of another size are noticed", async () => {
  using device = cpu();
  await expect(tinyParity(device, { size: 80, overlap: 0.1 })).rejects.toThrow(/first to diverge is tiled\.image: /);
});

test("the original files give the same image", async () => {
  using device = cpu();
  const { model, golden } = await loadTiny(device);
  using _ = model;
  const half = (name: "encoder" | "decoder", shift: number) =>
    renameAll(stripPrefix(golden.weights, `${name}.layers.`), (n) => n.replace(/^\d+/, (layer) => String(Number(layer) + shift)));
  using other = new AutoencoderTiny(model.config);
  await load(other, translate(joinTaesd(half("encoder", 0), half("decoder", 1)), autoencoderTinyNames), device);
  using latents = inputOn(device, golden, "latents");
  using image = other.decode(latents);
  expect(relativeL2(await values(image), golden.outputs.get("image")!.values)).toBeLessThan(1e-6);
});

test("encode refuses what decode could not give back", () => {
  using device = cpu();
  using model = new AutoencoderTiny();
  using image = device.zeros([1, 3, 21, 26]);
  expect(() => model.encode(image)).toThrowErrorMatchingInlineSnapshot(
    `[ShapeError: encode: the sides of an image are multiples of 8 pixels: 21 x 26 (height x width); crop, pad or resize it]`,
  );
  expect(() => model.decode(image)).toThrowErrorMatchingInlineSnapshot(
    `[ShapeError: decode: latents are [b, 16, h, w]: full f32 [1, 3, 21, 26]]`,
  );
});

test("the configuration of a released file is read, others are refused", () => {
  const released = {
    _class_name: "AutoencoderTiny",
    act_fn: "relu",
    block_out_channels: [64, 64, 64, 64],
    decoder_block_out_channels: [64, 64, 64, 64],
    encoder_block_out_channels: [64, 64, 64, 64],
    force_upcast: false,
    in_channels: 3,
    latent_channels: 16,
    latent_magnitude: 3,
    latent_shift: 0.5,
    num_decoder_blocks: [3, 3, 3, 1],
    num_encoder_blocks: [1, 3, 3, 3],
    out_channels: 3,
    scaling_factor: 1.0,
    shift_factor: 0.0,
    upsample_fn: "nearest",
    upsampling_scaling_factor: 2,
  };
  expect(autoencoderTinyConfigFromJson(released)).toEqual(taef1);
  const read = (changes: object) => () => autoencoderTinyConfigFromJson({ ...released, ...changes });
  expect(read({ act_fn: "gelu" })).toThrowErrorMatchingInlineSnapshot(
    `[UnsupportedError: autoencoderTinyConfig: "act_fn": "gelu" is not supported]`,
  );
  expect(read({ encoder_block_out_channels: [32, 64, 64, 64] })).toThrowErrorMatchingInlineSnapshot(
    `[UnsupportedError: autoencoderTinyConfig: levels of different widths are not supported: 32, 64, 64, 64, 64, 64, 64, 64]`,
  );
  expect(read({ num_encoder_blocks: [1, 3] })).toThrowErrorMatchingInlineSnapshot(
    `[UnsupportedError: autoencoderTinyConfig: 2 levels of the encoder and 4 of the decoder do not fit]`,
  );
  expect(read({ latent_channels: "16" })).toThrowErrorMatchingInlineSnapshot(
    `[UnsupportedError: autoencoderTinyConfig: "latent_channels" is a number, got "16"]`,
  );
});
