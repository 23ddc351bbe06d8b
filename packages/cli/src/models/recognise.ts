// What a checkpoint is, from the names of its tensors.
import { flux1Kind, flux1LoraNames, flux1Names } from "@wick/models-flux";
import { zImageLoraNames, zImageNames } from "@wick/models-zimage";
import { detectDialect, type NameFamily, type NameRules, stripPrefix, translate, type WeightSource } from "@wick/tensor";
import { autoencoderKlNames } from "@wick/vae";

/** A model whose layouts are known. */
export interface KnownFamily {
  readonly names: NameFamily;
  readonly loraNames: readonly NameRules[];
}

/** A checkpoint that was recognised. */
export interface Recognised {
  /** "FLUX.1 dev", "Qwen3", "adapter (LoRA)". */
  readonly architecture: string;
  /** The layout of the names, where the family has several. */
  readonly dialect?: string;
  readonly family?: KnownFamily;
}

/** The families whose checkpoints translate between layouts. */
const knownFamilies: readonly KnownFamily[] = [
  { names: zImageNames, loraNames: zImageLoraNames },
  { names: flux1Names, loraNames: flux1LoraNames },
  { names: autoencoderKlNames, loraNames: [] },
];

/** What an adapter is called. */
export const adapterName = "adapter (LoRA)";

/** Models of one layout, by a tensor that only they have. */
const byTensor: readonly (readonly [RegExp, string])[] = [
  [/(^|\.)lora_(A|B|up|down)\b|\.lora_unet_|^lora_|\.lora\.(down|up)\b|\.(hada|lokr)_w1/, adapterName],
  [/^(model\.)?layers\.0\.self_attn\.q_norm\.weight$/, "Qwen3 text encoder"],
  [/^encoder\.block\.0\.layer\.0\.SelfAttention\.q\.weight$/, "T5 text encoder"],
  [/^vision_model\.embeddings\.patch_embedding\.bias$/, "SigLIP vision encoder"],
  [/^redux_up\.weight$/, "Redux image embedder"],
  [/^text_model\.encoder\.layers\.0\.self_attn\.q_proj\.weight$/, "CLIP text encoder"],
];

/** What a checkpoint is; undefined when nothing known fits. */
export function recognise(source: WeightSource): Recognised | undefined {
  const names = [...source.entries.keys()];
  const [, single] = byTensor.find(([pattern]) => names.some((name) => pattern.test(name))) ?? [];
  if (single !== undefined) return { architecture: single };
  for (const family of knownFamilies) {
    const dialect = detectDialect(stripPrefix(source, ...family.names.prefixes), family.names.dialects);
    if (dialect) return { architecture: variantOf(source, family), dialect: dialect.name, family };
  }
  return undefined;
}

function variantOf(source: WeightSource, { names }: KnownFamily): string {
  if (names !== flux1Names) return names.model;
  const kind = flux1Kind(translate(source, names).entries);
  return kind ? `${names.model} ${kind.variant}` : names.model;
}
