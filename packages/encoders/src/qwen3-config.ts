// Reads the config.json of a transformers Qwen3 model.
import { UnsupportedError } from "@wick/tensor";
import { type Qwen3Config, qwen3_4b } from "./qwen3.ts";

/** Values the network has built in; anything else is refused by name. */
const fixed: Readonly<Record<string, readonly unknown[]>> = {
  model_type: ["qwen3"],
  attention_bias: [false],
  hidden_act: ["silu"],
  rope_scaling: [null],
  use_sliding_window: [false],
};

/** The configuration that text_encoder/config.json describes. Throws UnsupportedError for values this network does not have. */
export function qwen3ConfigFromJson(json: Readonly<Record<string, unknown>>): Qwen3Config {
  for (const [key, allowed] of Object.entries(fixed)) {
    if (key in json && !allowed.includes(json[key]))
      throw new UnsupportedError("qwen3Config", `"${key}": ${JSON.stringify(json[key])} is not supported`);
  }
  const number = (key: string, fallback: number): number => {
    const value = json[key] ?? fallback;
    if (typeof value !== "number") throw new UnsupportedError("qwen3Config", `"${key}" is a number, got ${JSON.stringify(value)}`);
    return value;
  };
  const heads = number("num_attention_heads", qwen3_4b.heads);
  return {
    vocabSize: number("vocab_size", qwen3_4b.vocabSize),
    width: number("hidden_size", qwen3_4b.width),
    ffnWidth: number("intermediate_size", qwen3_4b.ffnWidth),
    layers: number("num_hidden_layers", qwen3_4b.layers),
    heads,
    kvHeads: number("num_key_value_heads", heads),
    headWidth: number("head_dim", qwen3_4b.headWidth),
    ropeTheta: number("rope_theta", qwen3_4b.ropeTheta),
    eps: number("rms_norm_eps", qwen3_4b.eps),
  };
}
