// Reads the config.json of a diffusers AutoencoderKL.
import { UnsupportedError } from "@wick/tensor";
import { type AutoencoderKlConfig, flux1Autoencoder } from "./autoencoder-kl.ts";

/** Values this network has built in. */
const fixed: Readonly<Record<string, unknown>> = {
  act_fn: "silu",
  use_quant_conv: false,
  use_post_quant_conv: false,
  mid_block_add_attention: true,
  latents_mean: null,
  latents_std: null,
};
const read = new Set([
  "block_out_channels",
  "layers_per_block",
  "latent_channels",
  "norm_num_groups",
  "in_channels",
  "out_channels",
  "scaling_factor",
  "shift_factor",
]);
const harmless = new Set([
  "_class_name",
  "_diffusers_version",
  "_name_or_path",
  "sample_size",
  "force_upcast",
  "down_block_types",
  "up_block_types",
]);

/** The configuration that vae/config.json describes; throws UnsupportedError naming a key this network does not have. */
export function autoencoderKlConfigFromJson(json: Readonly<Record<string, unknown>>): AutoencoderKlConfig {
  for (const [key, value] of Object.entries(json)) {
    if (read.has(key) || harmless.has(key)) continue;
    if (!(key in fixed) || JSON.stringify(fixed[key]) !== JSON.stringify(value)) {
      throw new UnsupportedError("autoencoderKlConfig", `"${key}": ${JSON.stringify(value)} is not supported`);
    }
  }
  const number = (key: string, fallback: number): number => {
    const value = json[key] ?? fallback;
    if (typeof value !== "number") throw new UnsupportedError("autoencoderKlConfig", `"${key}" is a number, got ${JSON.stringify(value)}`);
    return value;
  };
  const channels = json["block_out_channels"] ?? flux1Autoencoder.channels;
  if (!Array.isArray(channels) || channels.some((c) => typeof c !== "number")) {
    throw new UnsupportedError("autoencoderKlConfig", `"block_out_channels" is a list of numbers, got ${JSON.stringify(channels)}`);
  }
  return {
    imageChannels: number("in_channels", 3),
    latentChannels: number("latent_channels", flux1Autoencoder.latentChannels),
    channels: channels as number[],
    blocksPerLevel: number("layers_per_block", flux1Autoencoder.blocksPerLevel),
    groups: number("norm_num_groups", flux1Autoencoder.groups),
    scale: number("scaling_factor", flux1Autoencoder.scale),
    shift: number("shift_factor", 0),
  };
}
