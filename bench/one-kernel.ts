// A tuning that takes one kernel for everything that it can run, as if it had been measured to be the fastest everywhere.
import { type AttentionVariantName, attentionVariantNames } from "../packages/tensor/src/backends/webgpu/kernels/attention-variants.ts";
import type { GemmVariantName } from "../packages/tensor/src/backends/webgpu/kernels/gemm-variants.ts";
import type { Tier } from "../packages/tensor/src/backends/webgpu/tier.ts";
import { attentionClasses, productClasses, type Tuning } from "../packages/tensor/src/backends/webgpu/tuning.ts";

/** The name of a kernel of products or of attention. */
export type KernelName = GemmVariantName | AttentionVariantName;

/** The tuning of an adapter by its name. */
export function tuningOf(adapter: string, tier: Tier, kernel: KernelName): Tuning {
  const all = <C extends string>(classes: readonly C[]) => Object.fromEntries(classes.map((c) => [c, kernel]));
  const isAttention = (attentionVariantNames as readonly string[]).includes(kernel);
  return { adapter, tier, variants: isAttention ? {} : all(productClasses), attention: isAttention ? all(attentionClasses) : {} };
}
