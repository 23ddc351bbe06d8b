// Layouts of Z-Image checkpoints. Our names are the authors' (Tongyi-MAI/Z-Image src/zimage/transformer.py), which diffusers uses too.
// ComfyUI and GGUF files fuse q, k and v: huggingface/diffusers src/diffusers/loaders/single_file_utils.py (convert_z_image).
import type { Dialect, NameFamily, NameRules, Recipe } from "@wick/tensor";

/** The three stacks of blocks; they are built alike. */
const stacks = ["layers", "noise_refiner", "context_refiner"] as const;

function fusedBlock(stack: string): Record<string, Recipe> {
  const attention = `${stack}.{i}.attention`;
  const third = (part: number): Recipe => ({ split: `${attention}.qkv.weight`, part, of: 3 });
  return {
    [`${attention}.to_q.weight`]: third(0),
    [`${attention}.to_k.weight`]: third(1),
    [`${attention}.to_v.weight`]: third(2),
    [`${attention}.to_out.0.weight`]: `${attention}.out.weight`,
    [`${attention}.norm_q.weight`]: `${attention}.q_norm.weight`,
    [`${attention}.norm_k.weight`]: `${attention}.k_norm.weight`,
  };
}

/** Our names on the left, those of fused single files on the right. Their pad tokens are [width] or [1, width]. */
export const zImageFromFused: NameRules = {
  "all_x_embedder.2-1.{p}": "x_embedder.{p}",
  "all_final_layer.2-1.linear.{p}": "final_layer.linear.{p}",
  "all_final_layer.2-1.adaLN_modulation.1.{p}": "final_layer.adaLN_modulation.1.{p}",
  x_pad_token: { reshape: "x_pad_token", from: 1, to: 2, ones: "before" },
  cap_pad_token: { reshape: "cap_pad_token", from: 1, to: 2, ones: "before" },
  ...Object.assign({}, ...stacks.map(fusedBlock)),
};

const original: Dialect = { name: "z-image", matches: (entries) => entries.has("all_x_embedder.2-1.weight"), rules: {} };

/** Lumina2 files have the same names with 2304 rows here: another model. */
const lumina2Width = 2304;

const fused: Dialect = {
  name: "fused",
  matches: (entries) => {
    const caption = entries.get("cap_embedder.1.weight");
    return entries.has("layers.0.attention.qkv.weight") && caption !== undefined && caption.shape[0] !== lumina2Width;
  },
  rules: zImageFromFused,
  drop: ["norm_final.weight"],
};

/** Every published layout: use with `translate(source, zImageNames)`. */
export const zImageNames: NameFamily = {
  model: "Z-Image",
  prefixes: ["model.diffusion_model.", "diffusion_model.", "transformer."],
  dialects: [original, fused],
};

/** For `withLora` and `attachLora`: adapters name modules as we do, or as fused single files do. */
export const zImageLoraNames: readonly NameRules[] = [zImageFromFused];
