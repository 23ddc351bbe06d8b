// What gpu-code.ts compiles, and what its two processes tell each other: what is to be made, and which kernel the compiler's next prints are of.
import type { Tier } from "../packages/tensor/src/backends/webgpu/tier.ts";
import type { KernelName } from "./one-kernel.ts";
import { type Case, convolution, large, product, qkNormRope } from "./webgpu-cases.ts";

/** What to compile; `kernel` takes one variant for all products or all attention that it can run. */
export interface Job {
  /** Name of a row. */
  readonly row: string;
  readonly tiers: readonly Tier[];
  readonly precisions: readonly ("highest" | "high")[];
  readonly kernels: readonly (KernelName | "default")[];
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

/** Benchmarks' rows, and products and convolutions of other formats that models are stored in. */
export const rows = (): Case[] => [
  ...large(),
  ...(["f16", "q4_K"] as const).map((weights) => product(4608, 3072, 12288, "f32", weights)),
  ...(["q8_0", "q4_K"] as const).map((weights) => product(4608, 3072, 12288, "bf16", weights)),
  product(64, 3072, 3072, "f32", "bf16"),
  convolution(512, 512, 128, 3, "bf16"),
  qkNormRope(24, 4608, 128, "bf16"),
];
