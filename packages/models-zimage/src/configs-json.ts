// Reads the transformer's config.json of a diffusers repository.
import { UnsupportedError } from "@wick/tensor";
import { zImageTurbo } from "./configs.ts";
import type { ZImageConfig } from "./z-image.ts";

const ignored = new Set(["_class_name", "_diffusers_version", "_name_or_path"]);
const fixed: Readonly<Record<string, unknown>> = { all_patch_size: [2], all_f_patch_size: [1], qk_norm: true, siglip_feat_dim: null };

function numberAt(json: Readonly<Record<string, unknown>>, key: string, fallback: number): number {
  const value = json[key] ?? fallback;
  if (typeof value !== "number") throw new UnsupportedError("zImageConfig", `"${key}" is a number, got ${JSON.stringify(value)}`);
  return value;
}

function numbersAt(json: Readonly<Record<string, unknown>>, key: string, fallback: readonly number[]): readonly number[] {
  const value = json[key] ?? fallback;
  if (!Array.isArray(value) || value.some((v) => typeof v !== "number"))
    throw new UnsupportedError("zImageConfig", `"${key}" is a list of numbers, got ${JSON.stringify(value)}`);
  return value as number[];
}

/** The configuration that transformer/config.json describes; throws UnsupportedError naming a key this network does not have. */
export function zImageConfigFromJson(json: Readonly<Record<string, unknown>>): ZImageConfig {
  const known = new Set([
    "dim",
    "n_heads",
    "n_kv_heads",
    "n_layers",
    "n_refiner_layers",
    "in_channels",
    "cap_feat_dim",
    "axes_dims",
    "axes_lens",
    "rope_theta",
    "norm_eps",
    "t_scale",
  ]);
  for (const [key, value] of Object.entries(json)) {
    if (known.has(key) || ignored.has(key)) continue;
    if (!(key in fixed) || JSON.stringify(fixed[key]) !== JSON.stringify(value)) {
      throw new UnsupportedError("zImageConfig", `"${key}": ${JSON.stringify(value)} is not supported; is this a Z-Image transformer?`);
    }
  }
  const width = numberAt(json, "dim", zImageTurbo.width);
  const heads = numberAt(json, "n_heads", zImageTurbo.heads);
  if (numberAt(json, "n_kv_heads", heads) !== heads)
    throw new UnsupportedError("zImageConfig", `"n_kv_heads" must equal "n_heads" (${heads})`);
  return {
    ...zImageTurbo,
    width,
    heads,
    layers: numberAt(json, "n_layers", zImageTurbo.layers),
    refinerLayers: numberAt(json, "n_refiner_layers", zImageTurbo.refinerLayers),
    ffnWidth: Math.trunc((width / 3) * 8),
    latentChannels: numberAt(json, "in_channels", zImageTurbo.latentChannels),
    captionWidth: numberAt(json, "cap_feat_dim", zImageTurbo.captionWidth),
    conditionWidth: Math.min(width, 256),
    timestepScale: numberAt(json, "t_scale", zImageTurbo.timestepScale),
    ropeAxes: numbersAt(json, "axes_dims", zImageTurbo.ropeAxes),
    ropeLengths: numbersAt(json, "axes_lens", zImageTurbo.ropeLengths),
    ropeTheta: numberAt(json, "rope_theta", zImageTurbo.ropeTheta),
    eps: numberAt(json, "norm_eps", zImageTurbo.eps),
  };
}
