// Which variants of the matrix kernels are tried for which products and attention: defaults per kind of adapter.
import { type DType, isQuantized } from "../../dtype.ts";
import type { AttentionVariantName } from "./kernels/attention-variants.ts";
import type { GemmVariantName } from "./kernels/gemm-variants.ts";
import type { Tier } from "./tier.ts";
import type { DeviceTraits } from "./traits.ts";
import type { AttentionClass, ProductClass } from "./tuning.ts";

interface Size {
  readonly m: number;
  readonly n: number;
  readonly batch: number;
}

/** From 2^20 results there are enough tiles of 128 x 128 to fill a GPU. */
const isLarge = ({ m, n, batch }: Size): boolean => m * n * batch >= 2 ** 20;

/** The class of a product of m x n results from weights of a dtype. */
export function productClass(size: Size, weights: DType, isSplit: boolean): ProductClass {
  const stored = weights === "f32" ? "f32" : isQuantized(weights) ? "block" : "half";
  return `${isLarge(size) ? "large" : "small"} ${stored}${isSplit ? " split" : ""}`;
}

/** Preferences by tier and size of product, most wanted first; the first that can run is taken. None of them was timed on hardware. */
const hardware: Readonly<Record<Tier, Readonly<Record<"large" | "small", readonly GemmVariantName[]>>>> = {
  plain: { large: ["workgroup 64x64"], small: ["workgroup 64x64"] },
  subgroups: { large: ["workgroup 64x64"], small: ["workgroup 64x64"] },
  matrix: {
    large: ["matrix 4x4 ahead", "matrix 4x4", "matrix 4x2", "matrix 2x2", "matrix 1x1", "workgroup 64x64"],
    small: ["matrix 2x2", "matrix 1x1", "workgroup 64x64"],
  },
};

/** The defaults of this adapter for a product: tiles in workgroup memory on GPUs; on software drivers, where barriers are slow, none. */
export function defaultVariants(traits: DeviceTraits, size: Size & { readonly k: number }): readonly GemmVariantName[] {
  if (!traits.software) return hardware[traits.tier][isLarge(size) ? "large" : "small"];
  // Large tiles take software drivers long to compile: they must have work to do.
  const work = 2 * size.m * size.n * size.k * size.batch;
  const registers: GemmVariantName = work < 5e7 || size.m < 8 ? "registers 4x4" : size.n >= 512 ? "registers 8x8" : "registers 8x4";
  if (traits.tier === "matrix") return ["matrix 1x1", "broadcast 16", registers];
  return traits.tier === "subgroups" ? ["broadcast 16", registers] : [registers];
}

/** The class of attention of q, k and v of given dtypes. */
export const attentionClass = (dtypes: readonly DType[], isSplit: boolean): AttentionClass =>
  isSplit ? "f32 attention split" : dtypes.includes("f32") ? "f32 attention" : "half attention";

const attentionDefaults: readonly AttentionVariantName[] = ["matrix 1 ahead", "matrix 1"];
/**
 * Matrix units of AMD read values two bytes at a time unless they are turned, and Mesa's compiler for NVIDIA four bytes (bench/gpu-code.ts); heads of 512 have
 * the variants whose registers are not spilled.
 */
const turnedDefaults: readonly { readonly adapter: RegExp; readonly names: readonly AttentionVariantName[] }[] = [
  { adapter: /^amd\b/, names: ["matrix 1 ahead turned", "matrix 1 turned"] },
  { adapter: /\bNVK\b/, names: ["matrix 1 ahead turned", "matrix 1 ahead turned in 8"] },
];

/** Variants of attention in the order they are tried: what was measured on this adapter, else the defaults of its kind. */
export function attentionPreferences(
  { tier, software, tunedAttention, adapterName }: DeviceTraits,
  kind: AttentionClass,
): readonly AttentionVariantName[] {
  const tuned = tunedAttention[kind];
  const names: AttentionVariantName[] = tuned ? [tuned] : [];
  if (tier !== "matrix") return names;
  if (software) return [...names, "matrix 1"];
  return [...names, ...(turnedDefaults.find(({ adapter }) => adapter.test(adapterName))?.names ?? []), ...attentionDefaults];
}
