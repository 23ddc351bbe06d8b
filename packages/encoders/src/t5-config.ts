// Reads the config.json of a transformers T5 encoder.
import { UnsupportedError } from "@wick/tensor";
import { type ConfigJson, ConfigReader } from "./config-reader.ts";
import type { T5Config } from "./t5.ts";

const op = "t5ConfigFromJson";

/** Of the decoder, of training, or repeated by feed_forward_proj. */
const ignored = [
  "classifier_dropout",
  "decoder_start_token_id",
  "dropout_rate",
  "is_encoder_decoder",
  "n_positions",
  "num_decoder_layers",
  "output_past",
  "task_specific_params",
];

/**
 * The configuration that text_encoder_2/config.json describes. Throws FormatError for missing and malformed values and
 * UnsupportedError for what this network does not have (T5 1.0's ReLU, decoders), both naming the key.
 */
export function t5ConfigFromJson(json: ConfigJson): T5Config {
  const reader = new ConfigReader(op, json, ignored);
  reader.only("model_type", "t5");
  reader.only("feed_forward_proj", "gated-gelu");
  reader.only("dense_act_fn", "gelu_new", "gelu_pytorch_tanh");
  reader.only("is_gated_act", true);
  reader.only("is_decoder", false);
  const config = {
    vocabSize: reader.count("vocab_size"),
    width: reader.count("d_model"),
    headWidth: reader.count("d_kv"),
    ffnWidth: reader.count("d_ff"),
    layers: reader.count("num_layers"),
    heads: reader.count("num_heads"),
    buckets: reader.count("relative_attention_num_buckets", 32),
    // Files older than the key have transformers' default.
    maxDistance: reader.count("relative_attention_max_distance", 128),
    eps: reader.number("layer_norm_epsilon"),
  };
  if (json["feed_forward_proj"] === undefined) throw new UnsupportedError(op, `"feed_forward_proj" is absent, which means ReLU (T5 1.0)`);
  if (config.buckets % 4 !== 0) throw new UnsupportedError(op, `"relative_attention_num_buckets" (${config.buckets}) is no multiple of 4`);
  if (config.maxDistance <= config.buckets / 4)
    throw new UnsupportedError(op, `"relative_attention_max_distance" (${config.maxDistance}) is too small for ${config.buckets} buckets`);
  reader.finish();
  return config;
}
