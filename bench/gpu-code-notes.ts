// What the two processes of gpu-code.ts tell each other: what is to be compiled, and which kernel the compiler's next prints are of.
import type { AttentionVariantName } from "../packages/tensor/src/backends/webgpu/kernels/attention-variants.ts";
import type { GemmVariantName } from "../packages/tensor/src/backends/webgpu/kernels/gemm-variants.ts";
import type { Tier } from "../packages/tensor/src/backends/webgpu/tier.ts";

/** What to compile; `kernel` takes one variant for all products or all attention that it can run. */
export interface Job {
  readonly tiers: readonly Tier[];
  readonly precisions: readonly ("highest" | "high")[];
  readonly kernels: readonly (GemmVariantName | AttentionVariantName | "default")[];
  /** Regular expression of rows. */
  readonly only: string;
}

/** What a kernel is; the line after `marker`. */
export interface KernelNote {
  readonly row: string;
  readonly tier: Tier;
  readonly precision: "highest" | "high";
  readonly variant: Job["kernels"][number];
  readonly label: string;
  readonly workgroup: number;
  /** Lanes of a subgroup. */
  readonly lanes: number;
}

/** Begins the lines that are not the compiler's. */
export const marker = "@wick@";
