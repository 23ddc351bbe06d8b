// What the adapter can do and what we ask of it: features, limits, capability tier, sizes of work.
import { DeviceError } from "../../errors.ts";
import type { Capabilities } from "../backend.ts";
import type { WebGpuOptions } from "./open.ts";

/** One shape the subgroup matrix unit multiplies: an [m, k] by a [k, n] fragment. */
export interface MatrixConfig {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly input: "f16" | "f32";
}

/** Families of kernels, slowest first: plain WGSL; subgroup operations; subgroup matrices (tensor cores). */
export const tiers = ["plain", "subgroups", "matrix"] as const;
export type Tier = (typeof tiers)[number];

/** Everything a kernel generator asks about the device. */
export interface DeviceTraits extends Capabilities {
  /** The kernels in use. */
  readonly tier: Tier;
  /** The highest tier the adapter's features allow. */
  readonly offeredTier: Tier;
  /** Why this tier and no higher one. */
  readonly tierReason: string;
  readonly software: boolean;
  /** Lanes of every subgroup in kernels that ask for it by `pinSubgroups`; 0 where the size varies or there are no subgroups. */
  readonly subgroupSize: number;
  /** The size varies on this adapter: kernels that rely on `subgroupSize` must fix it (`ProgramSpec.subgroupSize`). */
  readonly pinSubgroups: boolean;
  /** Subgroup matrices the adapter multiplies, if any. */
  readonly matrix: MatrixConfig | undefined;
  readonly immediates: boolean;
  readonly timestamps: boolean;
  readonly maxBufferBytes: number;
  readonly offsetAlignment: number;
  readonly maxInvocations: number;
  readonly workgroupBytes: number;
  readonly maxBindings: number;
  /** Estimated work of one dispatch and of one submission; a larger op is recorded as several dispatches. */
  readonly dispatchFlops: number;
  readonly submitFlops: number;
  readonly submitBytes: number;
}

const matrixFeature = "chromium-experimental-subgroup-matrix";
const features = ["shader-f16", "subgroups", "subgroup-size-control", "timestamp-query", matrixFeature];

export const wantedFeatures = (adapter: GPUAdapter): GPUFeatureName[] =>
  features.filter((f) => adapter.features.has(f as GPUFeatureName)) as GPUFeatureName[];

const limitNames = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
  "maxComputeWorkgroupSizeY",
  "maxComputeWorkgroupsPerDimension",
] as const;

/** The adapter's own limits where the kernels profit from them, lowered by the options. */
export function chooseLimits(limits: GPUSupportedLimits, options: WebGpuOptions): Record<string, number> {
  const wanted: Record<string, number> = {};
  for (const name of limitNames) wanted[name] = limits[name];
  const immediates = (limits as { maxImmediateSize?: number }).maxImmediateSize ?? 0;
  if (immediates >= 64 && options.immediates !== false) wanted["maxImmediateSize"] = 64;
  return wanted;
}

interface MatrixInfo {
  readonly subgroupMinSize?: number;
  readonly subgroupMaxSize?: number;
  readonly subgroupMatrixConfigs?: readonly { M: number; N: number; K: number; componentType: string; resultComponentType: string }[];
}

/** Picks f16 fragments with f32 sums, or f32 ones (Apple); never f16 sums, which overflow in real models. */
export function pickMatrixConfig(info: MatrixInfo, f16: boolean): MatrixConfig | undefined {
  const usable = [...(info.subgroupMatrixConfigs ?? [])].filter(
    (c) => c.resultComponentType === "f32" && (c.componentType === "f32" || (f16 && c.componentType === "f16")),
  );
  const best = usable.find((c) => c.componentType === "f16") ?? usable[0];
  return best && { m: best.M, n: best.N, k: best.K, input: best.componentType as "f16" | "f32" };
}

type Has = (feature: string) => boolean;

const matrixOf = (info: MatrixInfo, has: Has, { matrix }: WebGpuOptions): MatrixConfig | undefined =>
  matrix ?? (has(matrixFeature) ? pickMatrixConfig(info, has("shader-f16")) : undefined);

/** The subgroup size kernels can count on, and whether they must ask for it. */
function subgroupLanes(info: MatrixInfo, has: Has, { matrix }: WebGpuOptions): Pick<DeviceTraits, "subgroupSize" | "pinSubgroups"> {
  if (matrix) return { subgroupSize: matrix.subgroupSize, pinSubgroups: false };
  const { subgroupMinSize = 0, subgroupMaxSize = 0 } = info;
  if (!has("subgroups")) return { subgroupSize: 0, pinSubgroups: false };
  if (subgroupMinSize === subgroupMaxSize) return { subgroupSize: subgroupMaxSize, pinSubgroups: false };
  return has("subgroup-size-control") ? { subgroupSize: subgroupMaxSize, pinSubgroups: true } : { subgroupSize: 0, pinSubgroups: false };
}

/** The tier asked for, or the highest one that is fast on its kind of adapter; throws DeviceError when the adapter lacks the one asked for. */
function preferredTier(offered: Tier, software: boolean, forced: Tier | undefined): Pick<DeviceTraits, "tier" | "tierReason"> {
  if (forced) {
    if (tiers.indexOf(forced) > tiers.indexOf(offered))
      throw new DeviceError("webgpu", `the adapter has no ${forced} tier, only up to ${offered}; leave the option "tier" out`);
    return { tier: forced, tierReason: 'set by the option "tier"' };
  }
  if (software && offered === "matrix")
    return { tier: "subgroups", tierReason: "subgroup matrices are slower than subgroups on a software adapter" };
  return { tier: offered, tierReason: offered === "matrix" ? "the highest tier there is" : "the highest tier the adapter offers" };
}

/** Describes an opened device to the kernel generators. */
export function traitsOf(device: GPUDevice, info: GPUAdapterInfo, software: boolean, options: WebGpuOptions): DeviceTraits {
  const { limits } = device;
  const has = (f: string): boolean => device.features.has(f as GPUFeatureName);
  const f16 = has("shader-f16");
  const lanes = subgroupLanes(info as MatrixInfo, has, options);
  const matrix = lanes.subgroupSize > 0 ? matrixOf(info as MatrixInfo, has, options) : undefined;
  const offeredTier: Tier = matrix ? "matrix" : has("subgroups") ? "subgroups" : "plain";
  return {
    ...preferredTier(offeredTier, software, options.tier),
    offeredTier,
    f16,
    threads: 1,
    maxBindingBytes: Math.min(limits.maxStorageBufferBindingSize, options.maxBindingBytes ?? Number.POSITIVE_INFINITY),
    maxBufferBytes: Math.min(limits.maxBufferSize, options.maxBufferBytes ?? Number.POSITIVE_INFINITY),
    software,
    ...lanes,
    matrix,
    immediates: options.immediates !== false && ((limits as { maxImmediateSize?: number }).maxImmediateSize ?? 0) >= 64,
    timestamps: options.timestamps !== false && has("timestamp-query"),
    offsetAlignment: Math.max(256, limits.minStorageBufferOffsetAlignment),
    maxInvocations: limits.maxComputeInvocationsPerWorkgroup,
    workgroupBytes: limits.maxComputeWorkgroupStorageSize,
    maxBindings: limits.maxStorageBuffersPerShaderStage,
    ...workSizes(software),
  };
}

/** About 50-100 ms of work on a slow device of its kind: below every watchdog, far above the cost of a submission. */
function workSizes(software: boolean): { dispatchFlops: number; submitFlops: number; submitBytes: number } {
  return software
    ? { dispatchFlops: 1e9, submitFlops: 1e9, submitBytes: 1e9 }
    : { dispatchFlops: 4e11, submitFlops: 4e11, submitBytes: 2e10 };
}
