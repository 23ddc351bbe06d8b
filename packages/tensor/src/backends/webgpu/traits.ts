// What kernel generators ask about an opened device: features, limits, capability tier, sizes of work.
import type { Capabilities } from "../backend.ts";
import { type MatrixConfig, type MatrixInfo, matrixFeature, pickMatrixConfig } from "./matrix-config.ts";
import type { OpenedDevice } from "./open.ts";
import type { WebGpuOptions } from "./options.ts";
import { precisionOf } from "./precision.ts";
import { adapterName, preferredTier, type Tier } from "./tier.ts";
import { checkTuning, type TunedAttention, type TunedVariants } from "./tuning.ts";

/** Everything a kernel generator asks about the device. */
export interface DeviceTraits extends Capabilities {
  /** Adapter and driver in one line; what tunings are kept under. */
  readonly adapterName: string;
  /** The kernels in use. */
  readonly tier: Tier;
  /** The highest tier the adapter's features allow. */
  readonly offeredTier: Tier;
  /** Why this tier and no higher one. */
  readonly tierReason: string;
  /** The tier was asked for: its kernels run even where they do not pay, so that tests reach them. */
  readonly forced: boolean;
  /** Matrix kernels measured to be fastest on this adapter. */
  readonly tuned: TunedVariants;
  readonly tunedAttention: TunedAttention;
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
  /** What a tile of a product takes of it at most. */
  readonly mostTileBytes: number;
  readonly maxBindings: number;
  /** Estimated work of one dispatch and of one submission; a larger op is recorded as several dispatches. */
  readonly dispatchFlops: number;
  readonly submitFlops: number;
  readonly submitBytes: number;
}

type Has = (feature: string) => boolean;

const matrixOf = (info: MatrixInfo, has: Has, { matrix }: WebGpuOptions): MatrixConfig | undefined =>
  matrix ?? (has(matrixFeature) ? pickMatrixConfig(info, has("shader-f16")) : undefined);

/** The subgroup size kernels can count on, and whether they must ask for it. */
function subgroupLanes(info: MatrixInfo, has: Has, { matrix }: WebGpuOptions): Pick<DeviceTraits, "subgroupSize" | "pinSubgroups"> {
  const { subgroupMinSize = 0, subgroupMaxSize = 0 } = info;
  // Workgroups with subgroup matrices are four subgroups and must be multiples of the largest size unless the size is fixed.
  if (matrix) return { subgroupSize: matrix.subgroupSize, pinSubgroups: (4 * matrix.subgroupSize) % subgroupMaxSize !== 0 };
  if (!has("subgroups")) return { subgroupSize: 0, pinSubgroups: false };
  if (subgroupMinSize === subgroupMaxSize) return { subgroupSize: subgroupMaxSize, pinSubgroups: false };
  return has("subgroup-size-control") ? { subgroupSize: subgroupMaxSize, pinSubgroups: true } : { subgroupSize: 0, pinSubgroups: false };
}

/** Describes an opened device to the kernel generators. */
export function traitsOf(opened: OpenedDevice, options: WebGpuOptions): DeviceTraits {
  const { device, info, software, driver } = opened;
  const { limits } = device;
  const has = (f: string): boolean => device.features.has(f as GPUFeatureName);
  const f16 = has("shader-f16");
  const lanes = subgroupLanes(info as MatrixInfo, has, options);
  const matrix = lanes.subgroupSize > 0 ? matrixOf(info as MatrixInfo, has, options) : undefined;
  const offeredTier: Tier = matrix ? "matrix" : has("subgroups") ? "subgroups" : "plain";
  const name = adapterName(info, driver);
  const tuning = options.tuning?.find((t) => t.adapter === name);
  if (tuning) checkTuning(tuning);
  const preferred = preferredTier(offeredTier, opened, options.tier, tuning?.tier);
  return {
    ...preferred,
    adapterName: name,
    offeredTier,
    forced: options.tier !== undefined,
    tuned: tuning?.variants ?? {},
    tunedAttention: tuning?.attention ?? {},
    float32MatmulPrecision: precisionOf(options.float32MatmulPrecision, preferred.tier, matrix),
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
    mostTileBytes: Math.min(limits.maxComputeWorkgroupStorageSize, tileBytesOf(info)),
    maxBindings: limits.maxStorageBuffersPerShaderStage,
    ...workSizes(software),
  };
}

/** Two workgroups must fit a multiprocessor, so that one multiplies while the other waits: NVIDIA's Turing has 64 KiB, later ones 100 and more. */
const tileBytesOf = ({ architecture }: GPUAdapterInfo): number => (architecture === "turing" ? 32768 : Number.POSITIVE_INFINITY);

/** About 50-100 ms of work on a slow device of its kind: below every watchdog, far above the cost of a submission. */
function workSizes(software: boolean): { dispatchFlops: number; submitFlops: number; submitBytes: number } {
  return software
    ? { dispatchFlops: 1e9, submitFlops: 1e9, submitBytes: 1e9 }
    : { dispatchFlops: 4e11, submitFlops: 4e11, submitBytes: 2e10 };
}
