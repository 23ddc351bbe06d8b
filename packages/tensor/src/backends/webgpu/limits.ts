// What the adapter can do and what we ask of it: features, limits, capability tier, sizes of work.
import type { Capabilities } from "../backend.ts";
import type { WebGpuOptions } from "./open.ts";

/** One shape the subgroup matrix unit multiplies: an [m, k] by a [k, n] fragment. */
export interface MatrixConfig {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly input: "f16" | "f32";
}

export type Tier = "plain" | "subgroups" | "matrix";

/** Everything a kernel generator asks about the device. */
export interface DeviceTraits extends Capabilities {
  /** The kernels in use. */
  readonly tier: Tier;
  /** The fastest tier the adapter's features would allow. */
  readonly offeredTier: Tier;
  readonly software: boolean;
  /** Lanes of a subgroup; 0 where it varies or there are none. */
  readonly subgroupSize: number;
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

/** Describes an opened device to the kernel generators. */
export function traitsOf(device: GPUDevice, info: GPUAdapterInfo, software: boolean, options: WebGpuOptions): DeviceTraits {
  const { limits } = device;
  const has = (f: string): boolean => device.features.has(f as GPUFeatureName);
  const f16 = has("shader-f16");
  const matrix = options.matrix ?? (has(matrixFeature) ? pickMatrixConfig(info as MatrixInfo, f16) : undefined);
  const { subgroupMinSize = 0, subgroupMaxSize = 0 } = info as MatrixInfo;
  const fixed = has("subgroups") && subgroupMinSize === subgroupMaxSize;
  const best: Tier = matrix ? "matrix" : has("subgroups") ? "subgroups" : "plain";
  return {
    // Only the plain kernels exist so far; what the adapter could do beyond them is said in `offeredTier`.
    tier: "plain",
    offeredTier: best,
    f16,
    threads: 1,
    maxBindingBytes: Math.min(limits.maxStorageBufferBindingSize, options.maxBindingBytes ?? Number.POSITIVE_INFINITY),
    maxBufferBytes: Math.min(limits.maxBufferSize, options.maxBufferBytes ?? Number.POSITIVE_INFINITY),
    software,
    subgroupSize: options.matrix?.subgroupSize ?? (matrix || fixed ? subgroupMaxSize : 0),
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
