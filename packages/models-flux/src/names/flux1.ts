// Layouts of FLUX.1 checkpoints. Our names are the authors' (black-forest-labs/flux src/flux/model.py), also used by GGUF and ComfyUI files.
// diffusers' names: huggingface/diffusers scripts/convert_flux_to_diffusers.py.
import type { Dialect, NameFamily, NameRules } from "@wick/tensor";

/** Rows of linear1: q, k, v and the four times wider MLP. */
const qkvMlp = [1, 1, 1, 4] as const;

/** Our names on the left, diffusers' on the right. */
export const flux1FromDiffusers: NameRules = {
  "img_in.{p}": "x_embedder.{p}",
  "txt_in.{p}": "context_embedder.{p}",
  "time_in.in_layer.{p}": "time_text_embed.timestep_embedder.linear_1.{p}",
  "time_in.out_layer.{p}": "time_text_embed.timestep_embedder.linear_2.{p}",
  "guidance_in.in_layer.{p}": "time_text_embed.guidance_embedder.linear_1.{p}",
  "guidance_in.out_layer.{p}": "time_text_embed.guidance_embedder.linear_2.{p}",
  "vector_in.in_layer.{p}": "time_text_embed.text_embedder.linear_1.{p}",
  "vector_in.out_layer.{p}": "time_text_embed.text_embedder.linear_2.{p}",

  "double_blocks.{i}.img_mod.lin.{p}": "transformer_blocks.{i}.norm1.linear.{p}",
  "double_blocks.{i}.img_attn.qkv.{p}": {
    cat: ["transformer_blocks.{i}.attn.to_q.{p}", "transformer_blocks.{i}.attn.to_k.{p}", "transformer_blocks.{i}.attn.to_v.{p}"],
  },
  "double_blocks.{i}.img_attn.norm.query_norm.scale": "transformer_blocks.{i}.attn.norm_q.weight",
  "double_blocks.{i}.img_attn.norm.key_norm.scale": "transformer_blocks.{i}.attn.norm_k.weight",
  "double_blocks.{i}.img_attn.proj.{p}": "transformer_blocks.{i}.attn.to_out.0.{p}",
  "double_blocks.{i}.img_mlp.0.{p}": "transformer_blocks.{i}.ff.net.0.proj.{p}",
  "double_blocks.{i}.img_mlp.2.{p}": "transformer_blocks.{i}.ff.net.2.{p}",

  "double_blocks.{i}.txt_mod.lin.{p}": "transformer_blocks.{i}.norm1_context.linear.{p}",
  "double_blocks.{i}.txt_attn.qkv.{p}": {
    cat: [
      "transformer_blocks.{i}.attn.add_q_proj.{p}",
      "transformer_blocks.{i}.attn.add_k_proj.{p}",
      "transformer_blocks.{i}.attn.add_v_proj.{p}",
    ],
  },
  "double_blocks.{i}.txt_attn.norm.query_norm.scale": "transformer_blocks.{i}.attn.norm_added_q.weight",
  "double_blocks.{i}.txt_attn.norm.key_norm.scale": "transformer_blocks.{i}.attn.norm_added_k.weight",
  "double_blocks.{i}.txt_attn.proj.{p}": "transformer_blocks.{i}.attn.to_add_out.{p}",
  "double_blocks.{i}.txt_mlp.0.{p}": "transformer_blocks.{i}.ff_context.net.0.proj.{p}",
  "double_blocks.{i}.txt_mlp.2.{p}": "transformer_blocks.{i}.ff_context.net.2.{p}",

  "single_blocks.{i}.modulation.lin.{p}": "single_transformer_blocks.{i}.norm.linear.{p}",
  "single_blocks.{i}.linear1.{p}": {
    cat: [
      "single_transformer_blocks.{i}.attn.to_q.{p}",
      "single_transformer_blocks.{i}.attn.to_k.{p}",
      "single_transformer_blocks.{i}.attn.to_v.{p}",
      "single_transformer_blocks.{i}.proj_mlp.{p}",
    ],
    of: qkvMlp,
  },
  "single_blocks.{i}.linear2.{p}": "single_transformer_blocks.{i}.proj_out.{p}",
  "single_blocks.{i}.norm.query_norm.scale": "single_transformer_blocks.{i}.attn.norm_q.weight",
  "single_blocks.{i}.norm.key_norm.scale": "single_transformer_blocks.{i}.attn.norm_k.weight",

  "final_layer.linear.{p}": "proj_out.{p}",
  // Ours is (shift, scale), theirs (scale, shift).
  "final_layer.adaLN_modulation.1.{p}": { swapHalves: "norm_out.linear.{p}" },
};

const original: Dialect = {
  name: "black-forest-labs",
  matches: (entries) => entries.has("double_blocks.0.img_attn.norm.key_norm.scale") && entries.has("vector_in.in_layer.weight"),
  rules: {},
};

const diffusers: Dialect = {
  name: "diffusers",
  matches: (entries) =>
    entries.has("transformer_blocks.0.attn.norm_added_k.weight") && entries.has("single_transformer_blocks.0.proj_mlp.weight"),
  rules: flux1FromDiffusers,
};

/** Every published layout: use with `translate(source, flux1Names)`. */
export const flux1Names: NameFamily = {
  model: "FLUX.1",
  prefixes: ["model.diffusion_model.", "diffusion_model.", "transformer."],
  dialects: [original, diffusers],
};

/** What a FLUX.1 checkpoint (under our names) is, from its tensors alone; Kontext and Krea look like dev. */
export interface Flux1Kind {
  /** Which input layer it has. */
  readonly variant: "dev" | "schnell" | "fill" | "control";
  /** Features of an image token. */
  readonly inChannels: number;
  /** Takes a guidance number. */
  readonly guidance: boolean;
  /** As many as the checkpoint has. */
  readonly doubleBlocks: number;
  /** As many as the checkpoint has. */
  readonly singleBlocks: number;
}

/** Reads the variant off names and shapes under our names; undefined when `img_in.weight` is missing. */
export function flux1Kind(entries: ReadonlyMap<string, { readonly shape: readonly number[] }>): Flux1Kind | undefined {
  const inChannels = entries.get("img_in.weight")?.shape[1];
  if (inChannels === undefined) return undefined;
  const guidance = entries.has("guidance_in.in_layer.weight");
  const wide = { 384: "fill", 128: "control" } as const;
  const variant = wide[inChannels as keyof typeof wide] ?? (guidance ? "dev" : "schnell");
  return {
    variant,
    inChannels,
    guidance,
    doubleBlocks: blockCount(entries, "double_blocks"),
    singleBlocks: blockCount(entries, "single_blocks"),
  };
}

function blockCount(entries: ReadonlyMap<string, unknown>, stem: string): number {
  const indices = [...entries.keys()].filter((n) => n.startsWith(`${stem}.`)).map((n) => Number(n.split(".")[1]));
  return new Set(indices).size;
}
