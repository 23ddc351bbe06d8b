// What a program may ask for when it opens a GPU.
import type { Float32MatmulPrecision } from "../backend.ts";
import type { MatrixConfig } from "./matrix-config.ts";
import type { Tier } from "./tier.ts";
import type { Tuning } from "./tuning.ts";

/** `navigator.gpu` or its like; spelled out here so that programs compile without the types of WebGPU. */
export interface WebGpuEntry {
  /** As WebGPU specifies it. */
  requestAdapter(options?: object): Promise<object | null>;
}

/** Which adapter to open, and how. */
export interface WebGpuOptions {
  /** Which of several GPUs; the system's choice by default. */
  readonly powerPreference?: "low-power" | "high-performance";
  /** Part of an adapter's name (Node only); an unknown name is an error that lists the adapters. */
  readonly adapter?: string;
  /** The driver Dawn uses (Node only). "null" runs nothing: for compile checks and overhead measurements. */
  readonly driver?: "vulkan" | "d3d12" | "metal" | "null";
  /** Forces a family of kernels, without the self-test (default: the fastest one that passes it); an error if the adapter lacks it. */
  readonly tier?: Tier;
  /** What the tuner measured, on this and other adapters; entries for others are ignored. */
  readonly tuning?: readonly Tuning[];
  /**
   * How f32 and block-quantized operands of products enter matrix units (tensor cores) that take f16. "highest" (default): as two f16 parts, which keeps
   * f32's accuracy at two to three times the multiplications. "high": rounded once to 11 significant bits, TF32's mantissa, for an error of 2e-4 to 3e-4
   * of a product. Sums are f32 in both. Without effect on operands that f16 or bf16 store, and in tiers without matrix units.
   */
  readonly float32MatmulPrecision?: Float32MatmulPrecision;
  /** Overrides whether the adapter counts as software; that decides which kernels are fast (for tests of the others). */
  readonly software?: boolean;
  /** Overrides the adapter's subgroup matrix shape and subgroup size (for compile checks of other vendors' shapes). */
  readonly matrix?: MatrixConfig & {
    /** Invocations of a subgroup. */
    readonly subgroupSize: number;
  };
  /** Keep the driver's bounds checks (default: off in Node; browsers always check). */
  readonly robustness?: boolean;
  /** Lower limits than the adapter's, in bytes: for tests of splitting and of memory exhaustion. */
  readonly maxBufferBytes?: number;
  /** Largest binding the kernels may use; the adapter's by default. Lower values are for tests of splitting. */
  readonly maxBindingBytes?: number;
  /** Total bytes that may be allocated at once; beyond it allocation throws OutOfMemoryError. */
  readonly memoryLimitBytes?: number;
  /** Pass small parameters as immediates where the implementation has them (default true). */
  readonly immediates?: boolean;
  /** Time the ops by the GPU's clock where it has one (default true); otherwise by the host's clock, one submission per op. */
  readonly timestamps?: boolean;
  /** Of the device, in driver messages. */
  readonly label?: string;
  /** An implementation of WebGPU to use instead of looking for one. */
  readonly gpu?: WebGpuEntry;
}
