// The configuration of the released KL autoencoder, and what is refused.
import { expect, test } from "vitest";
import { autoencoderKlConfigFromJson, flux1Autoencoder } from "../src/index.ts";

/** vae/config.json of Tongyi-MAI/Z-Image-Turbo. */
const released = {
  _class_name: "AutoencoderKL",
  _diffusers_version: "0.36.0.dev0",
  _name_or_path: "flux-dev",
  act_fn: "silu",
  block_out_channels: [128, 256, 512, 512],
  down_block_types: ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"],
  force_upcast: true,
  in_channels: 3,
  latent_channels: 16,
  latents_mean: null,
  latents_std: null,
  layers_per_block: 2,
  mid_block_add_attention: true,
  norm_num_groups: 32,
  out_channels: 3,
  sample_size: 1024,
  scaling_factor: 0.3611,
  shift_factor: 0.1159,
  up_block_types: ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"],
  use_post_quant_conv: false,
  use_quant_conv: false,
};

const read = (changes: object) => () => autoencoderKlConfigFromJson({ ...released, ...changes });

test("the released configuration is FLUX.1's", () => {
  expect(read({})()).toEqual(flux1Autoencoder);
});

test("networks that differ from this one are refused by the key that says so", () => {
  expect(read({ use_quant_conv: true })).toThrowErrorMatchingInlineSnapshot(
    `[UnsupportedError: autoencoderKlConfig: "use_quant_conv": true is not supported]`,
  );
  expect(read({ latents_mean: [0.1] })).toThrowErrorMatchingInlineSnapshot(
    `[UnsupportedError: autoencoderKlConfig: "latents_mean": [0.1] is not supported]`,
  );
  expect(read({ patch_size: 2 })).toThrowErrorMatchingInlineSnapshot(
    `[UnsupportedError: autoencoderKlConfig: "patch_size": 2 is not supported]`,
  );
  expect(read({ out_channels: 4 })).toThrowErrorMatchingInlineSnapshot(
    `[UnsupportedError: autoencoderKlConfig: "in_channels" 3 and "out_channels" 4 differ]`,
  );
  expect(read({ block_out_channels: 128 })).toThrowErrorMatchingInlineSnapshot(
    `[UnsupportedError: autoencoderKlConfig: "block_out_channels" is a list of numbers, got 128]`,
  );
  expect(read({ scaling_factor: "0.3611" })).toThrowErrorMatchingInlineSnapshot(
    `[UnsupportedError: autoencoderKlConfig: "scaling_factor" is a number, got "0.3611"]`,
  );
});
