// Layouts of AutoencoderKL checkpoints. Our names are diffusers' (src/diffusers/models/autoencoders/vae.py);
// the other layout is black-forest-labs/flux src/flux/modules/autoencoder.py, whose attention is made of 1x1 convolutions.
import type { Dialect, NameFamily, NameRules, Recipe } from "@wick/tensor";

/** Levels of every published KL autoencoder of this shape; the decoder counts them from the other end. */
const LEVELS = 4;

function resnetRules(ours: string, theirs: string): Record<string, Recipe> {
  const same = ["norm1", "conv1", "norm2", "conv2"].map((part) => [`${ours}.${part}.{p}`, `${theirs}.${part}.{p}`]);
  return { ...Object.fromEntries(same), [`${ours}.conv_shortcut.{p}`]: `${theirs}.nin_shortcut.{p}` };
}

function attentionRules(ours: string, theirs: string): Record<string, Recipe> {
  const out: Record<string, Recipe> = { [`${ours}.group_norm.{p}`]: `${theirs}.norm.{p}` };
  for (const [linear, conv] of [
    ["to_q", "q"],
    ["to_k", "k"],
    ["to_v", "v"],
    ["to_out.0", "proj_out"],
  ]) {
    out[`${ours}.${linear}.weight`] = { reshape: `${theirs}.${conv}.weight`, from: 4, to: 2, ones: "after" };
    out[`${ours}.${linear}.bias`] = `${theirs}.${conv}.bias`;
  }
  return out;
}

function midRules(side: "encoder" | "decoder"): Record<string, Recipe> {
  return {
    ...resnetRules(`${side}.mid_block.resnets.0`, `${side}.mid.block_1`),
    ...resnetRules(`${side}.mid_block.resnets.1`, `${side}.mid.block_2`),
    ...attentionRules(`${side}.mid_block.attentions.0`, `${side}.mid.attn_1`),
    [`${side}.conv_norm_out.{p}`]: `${side}.norm_out.{p}`,
  };
}

function levelRules(level: number): Record<string, Recipe> {
  const up = `decoder.up_blocks.${LEVELS - 1 - level}`;
  return {
    ...resnetRules(`encoder.down_blocks.${level}.resnets.{j}`, `encoder.down.${level}.block.{j}`),
    [`encoder.down_blocks.${level}.downsamplers.0.conv.{p}`]: `encoder.down.${level}.downsample.conv.{p}`,
    ...resnetRules(`${up}.resnets.{j}`, `decoder.up.${level}.block.{j}`),
    [`${up}.upsamplers.0.conv.{p}`]: `decoder.up.${level}.upsample.conv.{p}`,
  };
}

/** Our names on the left, those of BFL's `ae.safetensors` on the right. */
export const autoencoderKlFromBfl: NameRules = Object.assign(
  {},
  midRules("encoder"),
  midRules("decoder"),
  ...Array.from({ length: LEVELS }, (_, level) => levelRules(level)),
);

/** A checkpoint may hold one half only. */
const either =
  (...names: readonly string[]): Dialect["matches"] =>
  (entries) =>
    names.some((name) => entries.has(`${name}.norm1.weight`));

const diffusers: Dialect = {
  name: "diffusers",
  matches: either("decoder.up_blocks.0.resnets.0", "encoder.down_blocks.0.resnets.0"),
  rules: {},
};
const bfl: Dialect = {
  name: "black-forest-labs",
  matches: either("decoder.up.0.block.0", "encoder.down.0.block.0"),
  rules: autoencoderKlFromBfl,
};

/** Every published layout: use with `translate(source, autoencoderKlNames)`. */
export const autoencoderKlNames: NameFamily = {
  model: "AutoencoderKL",
  prefixes: ["first_stage_model.", "vae."],
  dialects: [diffusers, bfl],
};
