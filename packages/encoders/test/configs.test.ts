// What config.json files are read as, and which are refused.
import { messageOf } from "@wick/testing";
import { fluxSchnellConfigs, zImageTurboConfigs } from "@wick/testing/released-configs";
import { expect, test } from "vitest";
import { clipConfigFromJson, clipL, qwen3_4b, qwen3ConfigFromJson, t5ConfigFromJson, t5Xxl } from "../src/index.ts";

const { text_encoder: clipJson, text_encoder_2: t5Json } = fluxSchnellConfigs;
const { text_encoder: qwenJson } = zImageTurboConfigs;

/** Without one key. */
const without = (json: object, key: string): Record<string, unknown> => Object.fromEntries(Object.entries(json).filter(([k]) => k !== key));

test("the released configs are our constants", () => {
  expect(t5ConfigFromJson(t5Json)).toEqual(t5Xxl);
  expect(clipConfigFromJson(clipJson)).toEqual(clipL);
  expect(qwen3ConfigFromJson(qwenJson)).toEqual(qwen3_4b);
});

test("values that change are taken over", () => {
  expect(t5ConfigFromJson({ ...t5Json, num_layers: 12, d_kv: 32 })).toEqual({ ...t5Xxl, layers: 12, headWidth: 32 });
  expect(clipConfigFromJson({ ...clipJson, eos_token_id: 49_407 })).toEqual({ ...clipL, endToken: 49_407 });
  expect(qwen3ConfigFromJson({ ...qwenJson, num_hidden_layers: 28, rms_norm_eps: 1e-5 })).toEqual({ ...qwen3_4b, layers: 28, eps: 1e-5 });
});

test("transformers 5 keeps the base of the rotary embedding in rope_parameters", () => {
  const json = { ...without(qwenJson, "rope_theta"), rope_parameters: { rope_type: "default", rope_theta: 5e5 } };
  expect(qwen3ConfigFromJson(json).ropeTheta).toBe(5e5);
});

test("unsupported values are refused by key", () => {
  const refusals = [
    () => t5ConfigFromJson({ ...t5Json, feed_forward_proj: "relu" }),
    () => t5ConfigFromJson(without(t5Json, "feed_forward_proj")),
    () => t5ConfigFromJson({ ...t5Json, relative_attention_num_buckets: 30 }),
    () => clipConfigFromJson({ ...clipJson, hidden_act: "gelu" }),
    () => clipConfigFromJson({ ...clipJson, model_type: "clip" }),
    () => qwen3ConfigFromJson({ ...qwenJson, rope_scaling: { rope_type: "yarn", factor: 4 } }),
    () => qwen3ConfigFromJson({ ...qwenJson, attention_bias: true }),
    () => qwen3ConfigFromJson({ ...qwenJson, num_key_value_heads: 5 }),
    () => qwen3ConfigFromJson({ ...qwenJson, mlp_bias: true }),
  ];
  expect(refusals.map(messageOf)).toMatchInlineSnapshot(`
    [
      "UnsupportedError: t5ConfigFromJson: "feed_forward_proj" is "relu", this network has "gated-gelu"",
      "UnsupportedError: t5ConfigFromJson: "feed_forward_proj" is absent, which means ReLU (T5 1.0)",
      "UnsupportedError: t5ConfigFromJson: "relative_attention_num_buckets" (30) is no multiple of 4",
      "UnsupportedError: clipConfigFromJson: "hidden_act" is "gelu", this network has "quick_gelu"",
      "UnsupportedError: clipConfigFromJson: "model_type" is "clip", this network has "clip_text_model"",
      "UnsupportedError: qwen3ConfigFromJson: "rope_scaling" is {"rope_type":"yarn","factor":4}, this network has the default frequencies",
      "UnsupportedError: qwen3ConfigFromJson: "attention_bias" is true, this network has false",
      "UnsupportedError: qwen3ConfigFromJson: "num_attention_heads" (32) is no multiple of "num_key_value_heads" (5)",
      "UnsupportedError: qwen3ConfigFromJson: unknown keys, which may change the network: "mlp_bias": true",
    ]
  `);
});

test("missing and malformed values are refused by key", () => {
  const refusals = [
    () => t5ConfigFromJson(without(t5Json, "d_model")),
    () => clipConfigFromJson({ ...clipJson, hidden_size: "768" }),
    () => clipConfigFromJson({ ...clipJson, num_hidden_layers: 1.5 }),
    () => qwen3ConfigFromJson(without(qwenJson, "rope_theta")),
    () => qwen3ConfigFromJson({ ...qwenJson, rms_norm_eps: -1 }),
    () => qwen3ConfigFromJson([] as unknown as Record<string, unknown>),
  ];
  expect(refusals.map(messageOf)).toMatchInlineSnapshot(`
    [
      "FormatError: t5ConfigFromJson: config.json lacks "d_model"",
      "FormatError: clipConfigFromJson: "hidden_size" must be a positive number: got "768"",
      "FormatError: clipConfigFromJson: "num_hidden_layers" must be a whole number: got 1.5",
      "FormatError: qwen3ConfigFromJson: "rope_theta" must be a positive number: got null",
      "FormatError: qwen3ConfigFromJson: "rms_norm_eps" must be a positive number: got -1",
      "FormatError: qwen3ConfigFromJson: config.json is not an object",
    ]
  `);
});
