// What the tensors of an adapter file mean: every trainer has its own endings and prefixes, kept here as data.
// Endings and prefixes as read by huggingface/diffusers src/diffusers/loaders/lora_conversion_utils.py and Comfy-Org/ComfyUI comfy/lora.py.

/** What a tensor is to its module. */
export type LoraRole = "down" | "up" | "upBias" | "alpha" | "diff" | "diffBias" | "unsupported";

/** Endings that follow a module's name. */
const endings: readonly (readonly [string, LoraRole])[] = [
  [".lora_A.weight", "down"],
  [".lora_B.weight", "up"],
  [".lora_B.bias", "upBias"],
  [".lora_down.weight", "down"],
  [".lora_up.weight", "up"],
  [".lora.down.weight", "down"],
  [".lora.up.weight", "up"],
  [".down.weight", "down"],
  [".up.weight", "up"],
  [".alpha", "alpha"],
  [".diff", "diff"],
  [".diff_b", "diffBias"],
  ...[".dora_scale", ".lora_magnitude_vector", ".lora_magnitude_vector.weight", ".lora_A.bias", ".lora_mid.weight"].map(unsupported),
  ...["hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"].map((e) => unsupported(`.${e}`)),
  ...["lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"].map((e) => unsupported(`.${e}`)),
];

function unsupported(ending: string): readonly [string, LoraRole] {
  return [ending, "unsupported"];
}

/** Prefixes before the model's own names; several may follow each other. */
const prefixes = ["base_model.model.", "model.diffusion_model.", "diffusion_model.", "transformer.", "lora_unet_", "lora_transformer_"];

/** Prefixes of adapters for other networks in the same file: text encoders. */
const otherNetworks = ["lora_te_", "lora_te1_", "lora_te2_", "lora_te3_", "text_encoder.", "text_encoder_2.", "text_encoders."];

/** One tensor of an adapter file. */
export interface LoraKey {
  readonly key: string;
  /** The module's name without prefix, or the whole name of a weight that is replaced. */
  readonly module: string;
  readonly role: LoraRole | "replace";
}

/** True for adapters of a text encoder. */
export const isForOtherNetwork = (key: string): boolean => otherNetworks.some((p) => key.startsWith(p));

/** Splits a key into module and role; a key without a known ending stands for a replaced weight. PEFT's adapter name is dropped. */
export function parseLoraKey(key: string): LoraKey {
  const plain = stripPrefixes(key)
    .replace(/(^|\.)default(?=\.)/, "")
    .replace(/^\./, "");
  const found = endings.find(([ending]) => plain.endsWith(ending) && plain.length > ending.length);
  return found ? { key, module: plain.slice(0, -found[0].length), role: found[1] } : { key, module: plain, role: "replace" };
}

function stripPrefixes(key: string): string {
  const prefix = prefixes.find((p) => key.startsWith(p));
  return prefix === undefined ? key : stripPrefixes(key.slice(prefix.length));
}

/** Names compare without regard to "." and "_": kohya writes all dots as underscores, and some trainers the reverse. */
export const flatName = (name: string): string => name.replaceAll(".", "_");
