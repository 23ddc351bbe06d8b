// Reads the config.json of a transformers Qwen3 model.
import { UnsupportedError } from "@wick/tensor";
import { type ConfigJson, ConfigReader } from "./config-reader.ts";
import type { Qwen3Config } from "./qwen3.ts";

const op = "qwen3ConfigFromJson";

/** Does not matter: the window only with use_sliding_window, the positions because tables are made for the length at hand. */
const ignored = ["max_position_embeddings", "max_window_layers", "sliding_window", "layer_types"];

/**
 * The configuration that text_encoder/config.json describes. Throws FormatError for missing and malformed values and
 * UnsupportedError for what this network does not have, both naming the key.
 */
export function qwen3ConfigFromJson(json: ConfigJson): Qwen3Config {
  const reader = new ConfigReader(op, json, ignored);
  reader.only("model_type", "qwen3");
  reader.only("attention_bias", false);
  reader.only("hidden_act", "silu");
  reader.only("use_sliding_window", false, null);
  const heads = reader.count("num_attention_heads");
  const width = reader.count("hidden_size");
  const config = {
    vocabSize: reader.count("vocab_size"),
    width,
    ffnWidth: reader.count("intermediate_size"),
    layers: reader.count("num_hidden_layers"),
    heads,
    kvHeads: reader.count("num_key_value_heads", heads),
    headWidth: reader.count("head_dim"),
    ropeTheta: ropeTheta(reader),
    eps: reader.number("rms_norm_eps"),
  };
  if (heads % config.kvHeads !== 0)
    throw new UnsupportedError(op, `"num_attention_heads" (${heads}) is no multiple of "num_key_value_heads" (${config.kvHeads})`);
  if (config.headWidth % 2 !== 0)
    throw new UnsupportedError(op, `"head_dim" (${config.headWidth}) is odd, which rotary embedding cannot be`);
  reader.finish();
  return config;
}

/** `rope_theta`, which transformers 5 keeps inside `rope_parameters`; frequencies must not be rescaled. */
function ropeTheta(reader: ConfigReader): number {
  const top = reader.take("rope_theta");
  let inner: unknown;
  for (const key of ["rope_scaling", "rope_parameters"]) {
    const value = reader.take(key);
    if (value === undefined || value === null) continue;
    if (typeof value !== "object") reader.refuse(key, "an object or null", value);
    const { rope_type, type, rope_theta, ...rest } = value as Record<string, unknown>;
    const kind = rope_type ?? type ?? "default";
    if (kind !== "default" || Object.keys(rest).length > 0)
      throw new UnsupportedError(op, `"${key}" is ${JSON.stringify(value)}, this network has the default frequencies`);
    inner ??= rope_theta;
  }
  const theta = top ?? inner;
  if (typeof theta !== "number" || !(theta > 0)) reader.refuse("rope_theta", "a positive number", theta ?? null);
  return theta as number;
}
