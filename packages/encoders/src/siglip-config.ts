// Reads the config.json of a transformers SigLIP vision model.
import { UnsupportedError } from "@wick/tensor";
import { type ConfigJson, ConfigReader } from "./config-reader.ts";
import type { SiglipConfig } from "./siglip.ts";

const op = "siglipConfigFromJson";

/** Of the head that pools, which Redux does not read. */
const ignored = ["vision_use_head"];

/**
 * The configuration that image_encoder/config.json describes; of a config.json of both towers, its vision_config. Throws FormatError for
 * missing and malformed values and UnsupportedError for what this network does not have, both naming the key.
 */
export function siglipConfigFromJson(json: ConfigJson): SiglipConfig {
  // Files leave out what is as transformers' SiglipVisionConfig has it.
  const reader = new ConfigReader(op, (json?.["vision_config"] as ConfigJson | undefined) ?? json, ignored);
  reader.only("model_type", "siglip_vision_model");
  reader.only("hidden_act", "gelu_pytorch_tanh");
  const config = {
    imageSize: reader.count("image_size"),
    patchSize: reader.count("patch_size"),
    channels: reader.count("num_channels", 3),
    width: reader.count("hidden_size"),
    ffnWidth: reader.count("intermediate_size"),
    layers: reader.count("num_hidden_layers"),
    heads: reader.count("num_attention_heads"),
    eps: reader.number("layer_norm_eps", 1e-6),
  };
  const { width, heads, patchSize, imageSize } = config;
  if (width % heads !== 0) throw new UnsupportedError(op, `"hidden_size" (${width}) is no multiple of "num_attention_heads" (${heads})`);
  if (patchSize > imageSize) throw new UnsupportedError(op, `"patch_size" (${patchSize}) is above "image_size" (${imageSize})`);
  reader.finish();
  return config;
}
