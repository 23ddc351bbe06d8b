// What network a checkpoint is of: from the config.json of a diffusers repository, or from names and shapes of a single file.
import { UnsupportedError, WeightsError } from "@wick/tensor";
import { flux1Dev } from "./configs.ts";
import type { FluxConfig } from "./flux1.ts";
import { flux1Kind } from "./names/flux1.ts";
import { flux1Redux, type ReduxConfig } from "./redux.ts";

/** A config.json of diffusers. */
export type FluxJson = Readonly<Record<string, unknown>>;

const ignored = new Set(["_class_name", "_diffusers_version", "_name_or_path"]);
const known = new Set([
  "patch_size",
  "in_channels",
  "out_channels",
  "num_layers",
  "num_single_layers",
  "attention_head_dim",
  "num_attention_heads",
  "joint_attention_dim",
  "pooled_projection_dim",
  "guidance_embeds",
  "axes_dims_rope",
]);

const refuse = (key: string, wanted: string, value: unknown): never => {
  throw new UnsupportedError("fluxConfigFromJson", `"${key}" is ${wanted}, got ${JSON.stringify(value)}`);
};

function countAt(json: FluxJson, key: string, fallback: number): number {
  const value = json[key] ?? fallback;
  return Number.isSafeInteger(value) && (value as number) > 0 ? (value as number) : refuse(key, "a positive whole number", value);
}

function axesAt(json: FluxJson, headWidth: number): readonly number[] {
  const value = json["axes_dims_rope"] ?? flux1Dev.ropeAxes;
  const fits =
    Array.isArray(value) && value.every((v) => typeof v === "number" && v % 2 === 0) && value.reduce((a, b) => a + b, 0) === headWidth;
  return fits ? (value as number[]) : refuse("axes_dims_rope", `a list of even numbers that add up to the head width ${headWidth}`, value);
}

/** The configuration that transformer/config.json describes; throws UnsupportedError naming a key this network does not have. */
export function fluxConfigFromJson(json: FluxJson): FluxConfig {
  const stranger = Object.keys(json).find((key) => !known.has(key) && !ignored.has(key));
  if (stranger !== undefined)
    throw new UnsupportedError(
      "fluxConfigFromJson",
      `"${stranger}": ${JSON.stringify(json[stranger])} is not supported; is this a FLUX.1 transformer?`,
    );
  if (countAt(json, "patch_size", 1) !== 1) refuse("patch_size", "1", json["patch_size"]);
  const guidance = json["guidance_embeds"] ?? false;
  if (typeof guidance !== "boolean") refuse("guidance_embeds", "true or false", guidance);
  const heads = countAt(json, "num_attention_heads", flux1Dev.heads);
  const headWidth = countAt(json, "attention_head_dim", flux1Dev.width / flux1Dev.heads);
  const inChannels = countAt(json, "in_channels", flux1Dev.inChannels);
  return {
    ...flux1Dev,
    inChannels,
    outChannels: countAt(json, "out_channels", inChannels),
    vectorWidth: countAt(json, "pooled_projection_dim", flux1Dev.vectorWidth),
    textWidth: countAt(json, "joint_attention_dim", flux1Dev.textWidth),
    width: heads * headWidth,
    heads,
    doubleBlocks: countAt(json, "num_layers", flux1Dev.doubleBlocks),
    singleBlocks: countAt(json, "num_single_layers", flux1Dev.singleBlocks),
    ropeAxes: axesAt(json, headWidth),
    guidance: guidance as boolean,
  };
}

/**
 * The configuration that names and shapes (under our names) tell. Throws WeightsError when they are not FLUX.1's, and UnsupportedError when
 * heads are not 128 wide, since nothing in the file then says how positions share them.
 */
export function fluxConfigFromWeights(entries: ReadonlyMap<string, { readonly shape: readonly number[] }>): FluxConfig {
  const op = "fluxConfigFromWeights";
  const shape = (name: string): readonly number[] => {
    const found = entries.get(name)?.shape;
    if (!found) throw new WeightsError(op, `there is no ${name}; is it a FLUX.1 transformer?`);
    return found;
  };
  const [width, inChannels] = shape("img_in.weight") as readonly [number, number];
  const headWidth = shape("double_blocks.0.img_attn.norm.query_norm.scale")[0]!;
  if (headWidth !== flux1Dev.width / flux1Dev.heads)
    throw new UnsupportedError(op, `heads are ${headWidth} wide, not 128; pass a variant whose config has ropeAxes for them`);
  const { guidance, doubleBlocks, singleBlocks } = flux1Kind(entries)!;
  return {
    ...flux1Dev,
    inChannels,
    outChannels: shape("final_layer.linear.weight")[0]!,
    vectorWidth: shape("vector_in.in_layer.weight")[1]!,
    textWidth: shape("txt_in.weight")[1]!,
    width,
    mlpRatio: shape("double_blocks.0.img_mlp.0.weight")[0]! / width,
    heads: width / headWidth,
    doubleBlocks,
    singleBlocks,
    guidance,
  };
}

/** Sizes that image_embedder/config.json tells; throws UnsupportedError for keys that diffusers' ReduxImageEncoder does not have. */
export function reduxConfigFromJson(json: FluxJson): ReduxConfig {
  const op = "reduxConfigFromJson";
  const { redux_dim = flux1Redux.featureWidth, txt_in_features = flux1Redux.textWidth, ...rest } = json;
  const stranger = Object.keys(rest).find((key) => !key.startsWith("_"));
  if (stranger !== undefined) throw new UnsupportedError(op, `"${stranger}": ${JSON.stringify(rest[stranger])} is not supported`);
  for (const [key, value] of Object.entries({ redux_dim, txt_in_features }))
    if (!Number.isSafeInteger(value) || (value as number) < 1)
      throw new UnsupportedError(op, `"${key}" is a positive whole number, got ${JSON.stringify(value)}`);
  return { featureWidth: redux_dim as number, textWidth: txt_in_features as number };
}
