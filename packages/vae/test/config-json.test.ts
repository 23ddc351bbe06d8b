// The configuration of the released KL autoencoder, and what is refused.
import { autoencoderConfig } from "@wick/testing/released-configs";
import { expect, test } from "vitest";
import { autoencoderKlConfigFromJson, flux1Autoencoder } from "../src/index.ts";

const read = (changes: object) => () => autoencoderKlConfigFromJson({ ...autoencoderConfig, ...changes });

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
