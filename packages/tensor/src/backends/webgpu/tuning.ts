// What the tuner measured on one adapter, by class of products and of attention: plain data that can be kept in a file.
import { DeviceError } from "../../errors.ts";
import { type AttentionVariantName, attentionVariantNames } from "./kernels/attention-variants.ts";
import { type GemmVariantName, gemmVariantNames } from "./kernels/gemm-variants.ts";
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

/** Checks what came from a file; throws DeviceError naming what is wrong. */
export function checkTuning({ adapter, tier, variants, attention = {} }: Tuning): void {
  const fail = (what: string): never => {
    throw new DeviceError("webgpu", "bad-option", `the tuning of ${adapter} ${what}; make it again with wick doctor --tune`);
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
