// Layouts of encoder checkpoints, for `translate(source, t5Names)` and its kin. Our names are transformers', without a leading
// "text_model." (CLIP), "model." (Qwen3) and "vision_model." (SigLIP). GGUF names: ggml-org/llama.cpp gguf-py/gguf/tensor_mapping.py; the names of OpenAI's
// CLIP: openai/CLIP clip/model.py.
import type { Dialect, NameFamily, NameRules, Recipe } from "@wick/tensor";

/** Our names on the left, those of T5 GGUF files on the right. */
export const t5FromGguf: NameRules = {
  "shared.weight": "token_embd.weight",
  "encoder.block.{i}.layer.0.SelfAttention.q.weight": "enc.blk.{i}.attn_q.weight",
  "encoder.block.{i}.layer.0.SelfAttention.k.weight": "enc.blk.{i}.attn_k.weight",
  "encoder.block.{i}.layer.0.SelfAttention.v.weight": "enc.blk.{i}.attn_v.weight",
  "encoder.block.{i}.layer.0.SelfAttention.o.weight": "enc.blk.{i}.attn_o.weight",
  "encoder.block.{i}.layer.0.SelfAttention.relative_attention_bias.weight": "enc.blk.{i}.attn_rel_b.weight",
  "encoder.block.{i}.layer.0.layer_norm.weight": "enc.blk.{i}.attn_norm.weight",
  "encoder.block.{i}.layer.1.DenseReluDense.wi_0.weight": "enc.blk.{i}.ffn_gate.weight",
  "encoder.block.{i}.layer.1.DenseReluDense.wi_1.weight": "enc.blk.{i}.ffn_up.weight",
  "encoder.block.{i}.layer.1.DenseReluDense.wo.weight": "enc.blk.{i}.ffn_down.weight",
  "encoder.block.{i}.layer.1.layer_norm.weight": "enc.blk.{i}.ffn_norm.weight",
  "encoder.final_layer_norm.weight": "enc.output_norm.weight",
};

/** Every published layout of the T5 encoder; `encoder.embed_tokens.weight` may stand beside or in place of `shared.weight`. */
export const t5Names: NameFamily = {
  model: "T5 encoder",
  prefixes: ["text_encoders.t5xxl.transformer.", "text_encoder_2.", "t5xxl.transformer."],
  dialects: [
    { name: "transformers", matches: (e) => e.has("encoder.block.0.layer.0.SelfAttention.q.weight"), rules: {} },
    { name: "gguf", matches: (e) => e.has("enc.blk.0.attn_q.weight"), rules: t5FromGguf },
  ],
};

/** A third of the fused projection. */
function clipProjection(name: string, part: number): Record<string, Recipe> {
  const ours = `encoder.layers.{i}.self_attn.${name}`;
  const theirs = "transformer.resblocks.{i}.attn.in_proj";
  return {
    [`${ours}.weight`]: { split: `${theirs}_weight`, part, of: 3 },
    [`${ours}.bias`]: { split: `${theirs}_bias`, part, of: 3 },
  };
}

/** Our names on the left, those of OpenAI's and OpenCLIP's text tower on the right. */
export const clipFromOpenAi: NameRules = {
  "embeddings.token_embedding.weight": "token_embedding.weight",
  "embeddings.position_embedding.weight": "positional_embedding",
  ...clipProjection("q_proj", 0),
  ...clipProjection("k_proj", 1),
  ...clipProjection("v_proj", 2),
  "encoder.layers.{i}.self_attn.out_proj.{p}": "transformer.resblocks.{i}.attn.out_proj.{p}",
  "encoder.layers.{i}.layer_norm1.{p}": "transformer.resblocks.{i}.ln_1.{p}",
  "encoder.layers.{i}.layer_norm2.{p}": "transformer.resblocks.{i}.ln_2.{p}",
  "encoder.layers.{i}.mlp.fc1.{p}": "transformer.resblocks.{i}.mlp.c_fc.{p}",
  "encoder.layers.{i}.mlp.fc2.{p}": "transformer.resblocks.{i}.mlp.c_proj.{p}",
  "final_layer_norm.{p}": "ln_final.{p}",
};

/** Tables without weights in them, and the projection that the pooled output does not pass. */
const clipExtras = ["embeddings.position_ids", "text_projection", "text_projection.weight", "logit_scale"];

const clipTransformers: Dialect = {
  name: "transformers",
  matches: (e) => e.has("encoder.layers.0.self_attn.q_proj.weight"),
  rules: {},
  drop: clipExtras,
};

const clipOpenAi: Dialect = {
  name: "openai",
  matches: (e) => e.has("transformer.resblocks.0.attn.in_proj_weight"),
  rules: clipFromOpenAi,
  drop: clipExtras,
};

/** Every published layout of the CLIP text encoder; in a file with both towers the one for pictures is left out. */
export const clipNames: NameFamily = {
  model: "CLIP text encoder",
  prefixes: [
    "text_encoders.clip_l.transformer.text_model.",
    "text_encoder.text_model.",
    "clip_l.transformer.text_model.",
    "cond_stage_model.transformer.text_model.",
    "cond_stage_model.model.",
    "text_model.",
  ],
  dialects: [clipTransformers, clipOpenAi],
};

/** Our names on the left, those of Qwen3 GGUF files on the right. */
export const qwen3FromGguf: NameRules = {
  "embed_tokens.weight": "token_embd.weight",
  "layers.{i}.input_layernorm.weight": "blk.{i}.attn_norm.weight",
  "layers.{i}.self_attn.q_proj.weight": "blk.{i}.attn_q.weight",
  "layers.{i}.self_attn.k_proj.weight": "blk.{i}.attn_k.weight",
  "layers.{i}.self_attn.v_proj.weight": "blk.{i}.attn_v.weight",
  "layers.{i}.self_attn.o_proj.weight": "blk.{i}.attn_output.weight",
  "layers.{i}.self_attn.q_norm.weight": "blk.{i}.attn_q_norm.weight",
  "layers.{i}.self_attn.k_norm.weight": "blk.{i}.attn_k_norm.weight",
  "layers.{i}.post_attention_layernorm.weight": "blk.{i}.ffn_norm.weight",
  "layers.{i}.mlp.gate_proj.weight": "blk.{i}.ffn_gate.weight",
  "layers.{i}.mlp.up_proj.weight": "blk.{i}.ffn_up.weight",
  "layers.{i}.mlp.down_proj.weight": "blk.{i}.ffn_down.weight",
  "norm.weight": "output_norm.weight",
};

/** Every published layout of Qwen3; the head of the language model is left out. */
export const qwen3Names: NameFamily = {
  model: "Qwen3",
  prefixes: ["text_encoders.qwen3_4b.transformer.model.", "text_encoder.model.", "qwen3_4b.transformer.model.", "model."],
  dialects: [
    {
      name: "transformers",
      matches: (e) => e.has("layers.0.self_attn.q_norm.weight"),
      rules: {},
      drop: ["lm_head.weight"],
    },
    { name: "gguf", matches: (e) => e.has("blk.0.attn_q_norm.weight"), rules: qwen3FromGguf, drop: ["output.weight"] },
  ],
};

/** Pools the patches into one vector, which Redux does not read. */
const siglipHead = [
  "head.probe",
  "head.attention.in_proj_weight",
  "head.attention.in_proj_bias",
  "head.attention.out_proj.{p}",
  "head.layernorm.{p}",
  "head.mlp.fc1.{p}",
  "head.mlp.fc2.{p}",
];

/** Every published layout of the SigLIP vision encoder; in a file with both towers the one for text is left out. */
export const siglipNames: NameFamily = {
  model: "SigLIP vision encoder",
  prefixes: ["image_encoder.vision_model.", "vision_model."],
  dialects: [
    {
      name: "transformers",
      matches: (e) => e.has("encoder.layers.0.self_attn.q_proj.weight") && e.has("embeddings.patch_embedding.weight"),
      rules: {},
      drop: [...siglipHead, "embeddings.position_ids"],
    },
  ],
};
