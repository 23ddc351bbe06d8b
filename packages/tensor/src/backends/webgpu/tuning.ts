// Which variant of the matrix kernels runs for which products: defaults per kind of adapter, and what the tuner measured on one adapter.
import { type DType, isQuantized } from "../../dtype.ts";
import { DeviceError } from "../../errors.ts";
import { type AttentionVariantName, attentionVariantNames } from "./kernels/attention-variants.ts";
import { type GemmVariantName, gemmVariantNames } from "./kernels/gemm-variants.ts";
import type { DeviceTraits } from "./limits.ts";
import { type Tier, tiers } from "./tier.ts";

const storages = ["large f32", "large half", "large block", "small f32", "small half", "small block"] as const;
/**
 * Products that are tuned together: by how many results there are, by how the right operand is stored, and by whether an operand goes into f16
 * fragments in two parts (f32 or quantized operands at the precision "highest").
 */
export const productClasses = [...storages, ...storages.map((s) => `${s} split` as const)] as const;
/** One of `productClasses`. */
export type ProductClass = (typeof productClasses)[number];

/** A kernel by name for some classes of products. */
export type TunedVariants = Readonly<Partial<Record<ProductClass, GemmVariantName>>>;

/** Attention that is tuned together: by whether any operand is f32, and goes into f16 fragments in two parts. */
export const attentionClasses = ["f32 attention", "half attention", "f32 attention split"] as const;
/** One of `attentionClasses`. */
export type AttentionClass = (typeof attentionClasses)[number];

/** A kernel by name for some classes of attention. */
export type TunedAttention = Readonly<Partial<Record<AttentionClass, AttentionVariantName>>>;

/** What the tuner found on one adapter; plain data that can be kept in a file. */
export interface Tuning {
  /** The adapter's name as `adapterName` gives it; a tuning is used on this adapter only. */
  readonly adapter: string;
  /** The tier to open the adapter at, if it passes its self-test. */
  readonly tier: Tier;
  /** The fastest kernel of each class of products that was measured. */
  readonly variants: TunedVariants;
  /** The fastest kernel of each class of attention that was measured. */
  readonly attention?: TunedAttention;
}

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

/**
 * Mesa's compiler for NVIDIA copies the sums of 64 x 64 results a subgroup about in every turn, ten instructions for one multiplication on Hopper; those
 * of 64 x 32 stay where they are (bench/gpu-code.ts).
 */
const mesaOnNvidia: readonly GemmVariantName[] = ["matrix 4x2 ahead", "matrix 4x2"];

/** The defaults of this adapter for a product: tiles in workgroup memory on GPUs; on software drivers, where barriers are slow, none. */
export function defaultVariants(traits: DeviceTraits, size: Size & { readonly k: number }): readonly GemmVariantName[] {
  if (!traits.software) {
    const names = hardware[traits.tier][isLarge(size) ? "large" : "small"];
    return traits.tier === "matrix" && isLarge(size) && /\bNVK\b/.test(traits.adapterName) ? [...mesaOnNvidia, ...names] : names;
  }
  // Large tiles take software drivers long to compile: they must have work to do.
  const work = 2 * size.m * size.n * size.k * size.batch;
  const registers: GemmVariantName = work < 5e7 || size.m < 8 ? "registers 4x4" : size.n >= 512 ? "registers 8x8" : "registers 8x4";
  if (traits.tier === "matrix") return ["matrix 1x1", "broadcast 16", registers];
  return traits.tier === "subgroups" ? ["broadcast 16", registers] : [registers];
}

/** The class of attention of q, k and v of given dtypes. */
export const attentionClass = (dtypes: readonly DType[], isSplit: boolean): AttentionClass =>
  isSplit ? "f32 attention split" : dtypes.includes("f32") ? "f32 attention" : "half attention";

/** Variants of attention in the order they are tried: what was measured on this adapter, else the defaults of its kind. */
export function attentionPreferences(
  { tier, software, tunedAttention }: DeviceTraits,
  kind: AttentionClass,
): readonly AttentionVariantName[] {
  const tuned = tunedAttention[kind];
  const defaults: readonly AttentionVariantName[] = tier !== "matrix" ? [] : software ? ["matrix 1"] : ["matrix 1 ahead", "matrix 1"];
  return tuned ? [tuned, ...defaults] : defaults;
}

/** Checks what came from a file; throws DeviceError naming what is wrong. */
export function checkTuning({ adapter, tier, variants, attention = {} }: Tuning): void {
  const fail = (what: string): never => {
    throw new DeviceError("webgpu", `the tuning of ${adapter} ${what}; make it again with wick doctor --tune`);
  };
  if (!tiers.includes(tier)) fail(`has the unknown tier ${tier}`);
  for (const [kind, name] of Object.entries(variants)) {
    if (!productClasses.includes(kind as ProductClass)) fail(`has the unknown class of products ${kind}`);
    if (!gemmVariantNames.includes(name)) fail(`has the unknown kernel ${name}`);
  }
  for (const [kind, name] of Object.entries(attention)) {
    if (!attentionClasses.includes(kind as AttentionClass)) fail(`has the unknown class of attention ${kind}`);
    if (!attentionVariantNames.includes(name)) fail(`has the unknown kernel ${name}`);
  }
}
