// Names that adapters for FLUX.1 are written in, beside the authors' own: huggingface/diffusers src/diffusers/loaders/lora_conversion_utils.py.
import type { NameRules } from "@wick/tensor";
import { flux1FromDiffusers } from "./flux1.ts";

/** XLabs: 1 is the image stream, 2 the text stream; the adapter of a single block covers q, k and v, the first three sevenths of linear1. */
const xlabs: NameRules = {
  "double_blocks.{i}.img_attn.qkv.weight": "double_blocks.{i}.processor.qkv_lora1.weight",
  "double_blocks.{i}.img_attn.proj.weight": "double_blocks.{i}.processor.proj_lora1.weight",
  "double_blocks.{i}.txt_attn.qkv.weight": "double_blocks.{i}.processor.qkv_lora2.weight",
  "double_blocks.{i}.txt_attn.proj.weight": "double_blocks.{i}.processor.proj_lora2.weight",
  "single_blocks.{i}.linear1.weight": {
    cat: ["single_blocks.{i}.processor.qkv_lora.weight", "single_blocks.{i}.processor.mlp_lora.weight"],
    of: [3, 4],
  },
  "single_blocks.{i}.linear2.weight": "single_blocks.{i}.processor.proj_lora.weight",
};

/** For `withLora` and `attachLora`: kohya, PEFT, diffusers and BFL control adapters need no more than these and our own names. */
export const flux1LoraNames: readonly NameRules[] = [flux1FromDiffusers, xlabs];
