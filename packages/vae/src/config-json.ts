// Reads the config.json of diffusers' AutoencoderKL and AutoencoderTiny.
import { UnsupportedError } from "@wick/tensor";
import { type AutoencoderKlConfig, flux1Autoencoder } from "./autoencoder-kl.ts";
import { type AutoencoderTinyConfig, taef1 } from "./autoencoder-tiny.ts";

type Json = Readonly<Record<string, unknown>>;

/** The keys of a class: read here, built into the network, or without meaning for it. */
interface Keys {
  readonly op: string;
  readonly read: ReadonlySet<string>;
  readonly fixed: Json;
  readonly harmless: ReadonlySet<string>;
}

const general = ["_class_name", "_diffusers_version", "_name_or_path", "force_upcast"];

const kl: Keys = {
  op: "autoencoderKlConfig",
  read: new Set([
    "block_out_channels",
    "layers_per_block",
    "latent_channels",
    "norm_num_groups",
    "in_channels",
    "out_channels",
    "scaling_factor",
    "shift_factor",
  ]),
  fixed: {
    act_fn: "silu",
    use_quant_conv: false,
    use_post_quant_conv: false,
    mid_block_add_attention: true,
    latents_mean: null,
    latents_std: null,
  },
  harmless: new Set([...general, "sample_size", "down_block_types", "up_block_types"]),
};

const tiny: Keys = {
  op: "autoencoderTinyConfig",
  read: new Set([
    "in_channels",
    "out_channels",
    "latent_channels",
    "encoder_block_out_channels",
    "decoder_block_out_channels",
    "num_encoder_blocks",
    "num_decoder_blocks",
  ]),
  fixed: { act_fn: "relu", upsample_fn: "nearest", upsampling_scaling_factor: 2, scaling_factor: 1, shift_factor: 0 },
  harmless: new Set([...general, "block_out_channels", "latent_magnitude", "latent_shift"]),
};

function checkKeys({ op, read, fixed, harmless }: Keys, json: Json): void {
  for (const [key, value] of Object.entries(json)) {
    if (read.has(key) || harmless.has(key)) continue;
    if (!(key in fixed) || JSON.stringify(fixed[key]) !== JSON.stringify(value)) {
      throw new UnsupportedError(op, `"${key}": ${JSON.stringify(value)} is not supported`);
    }
  }
}

function numberOf({ op }: Keys, json: Json, key: string, fallback: number): number {
  const value = json[key] ?? fallback;
  if (typeof value !== "number") throw new UnsupportedError(op, `"${key}" is a number, got ${JSON.stringify(value)}`);
  return value;
}

function numbersOf({ op }: Keys, json: Json, key: string, fallback: readonly number[]): readonly number[] {
  const value = json[key] ?? fallback;
  if (!Array.isArray(value) || value.length === 0 || value.some((n) => typeof n !== "number")) {
    throw new UnsupportedError(op, `"${key}" is a list of numbers, got ${JSON.stringify(value)}`);
  }
  return value as number[];
}

function imageChannelsOf(keys: Keys, json: Json): number {
  const [into, out] = [numberOf(keys, json, "in_channels", 3), numberOf(keys, json, "out_channels", 3)];
  if (into !== out) throw new UnsupportedError(keys.op, `"in_channels" ${into} and "out_channels" ${out} differ`);
  return into;
}

/** The configuration that vae/config.json describes; throws UnsupportedError naming a key this network does not have. */
export function autoencoderKlConfigFromJson(json: Json): AutoencoderKlConfig {
  checkKeys(kl, json);
  return {
    imageChannels: imageChannelsOf(kl, json),
    latentChannels: numberOf(kl, json, "latent_channels", flux1Autoencoder.latentChannels),
    channels: numbersOf(kl, json, "block_out_channels", flux1Autoencoder.channels),
    blocksPerLevel: numberOf(kl, json, "layers_per_block", flux1Autoencoder.blocksPerLevel),
    groups: numberOf(kl, json, "norm_num_groups", flux1Autoencoder.groups),
    scale: numberOf(kl, json, "scaling_factor", flux1Autoencoder.scale),
    shift: numberOf(kl, json, "shift_factor", 0),
  };
}

/** The configuration that the config.json of an AutoencoderTiny describes; throws UnsupportedError naming what this network does not have. */
export function autoencoderTinyConfigFromJson(json: Json): AutoencoderTinyConfig {
  checkKeys(tiny, json);
  const widths = ["encoder_block_out_channels", "decoder_block_out_channels"].flatMap((key) => numbersOf(tiny, json, key, [taef1.width]));
  if (new Set(widths).size > 1) throw new UnsupportedError(tiny.op, `levels of different widths are not supported: ${widths.join(", ")}`);
  const [encoderBlocks, decoderBlocks] = [
    numbersOf(tiny, json, "num_encoder_blocks", taef1.encoderBlocks),
    numbersOf(tiny, json, "num_decoder_blocks", taef1.decoderBlocks),
  ];
  if (encoderBlocks.length !== decoderBlocks.length) {
    throw new UnsupportedError(
      tiny.op,
      `${encoderBlocks.length} levels of the encoder and ${decoderBlocks.length} of the decoder do not fit`,
    );
  }
  return {
    imageChannels: imageChannelsOf(tiny, json),
    latentChannels: numberOf(tiny, json, "latent_channels", 4),
    width: widths[0]!,
    encoderBlocks,
    decoderBlocks,
  };
}
