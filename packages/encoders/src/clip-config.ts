// Reads the config.json of a transformers CLIP text model.
import { UnsupportedError } from "@wick/tensor";
import type { ClipConfig } from "./clip.ts";
import { type ConfigJson, ConfigReader } from "./config-reader.ts";

const op = "clipConfigFromJson";

/** Of the projection, which the pooled output does not pass, and of training. */
const ignored = ["dropout", "projection_dim"];

/**
 * The configuration that text_encoder/config.json describes. Throws FormatError for missing and malformed values and
 * UnsupportedError for what this network does not have, both naming the key.
 */
export function clipConfigFromJson(json: ConfigJson): ClipConfig {
  const reader = new ConfigReader(op, json, ignored);
  reader.only("model_type", "clip_text_model");
  reader.only("hidden_act", "quick_gelu");
  const heads = reader.count("num_attention_heads");
  const width = reader.count("hidden_size");
  // transformers: 2 is the id in configs written before the tokenizer's real one was stored.
  const end = reader.count("eos_token_id", 49_407);
  if (width % heads !== 0) throw new UnsupportedError(op, `"hidden_size" (${width}) is no multiple of "num_attention_heads" (${heads})`);
  const config = {
    vocabSize: reader.count("vocab_size"),
    positions: reader.count("max_position_embeddings"),
    width,
    ffnWidth: reader.count("intermediate_size"),
    layers: reader.count("num_hidden_layers"),
    heads,
    eps: reader.number("layer_norm_eps", 1e-5),
    endToken: end === 2 ? ("largest" as const) : end,
  };
  reader.finish();
  return config;
}
