// Tiers, the families of kernels, and which of them an adapter gets.
import { DeviceError } from "../../errors.ts";

/** Families of kernels, from what every adapter has to what few have: plain WGSL; subgroup operations; subgroup matrices (tensor cores). */
export const tiers = ["plain", "subgroups", "matrix"] as const;
/** One of them. */
export type Tier = (typeof tiers)[number];

/** Adapter, driver and driver version in one line, as far as WebGPU tells. */
export const adapterName = (info: GPUAdapterInfo, driver: string): string =>
  [info.vendor, info.architecture, info.device, info.description, driver].join(" | ");

/** Adapters whose subgroup matrices are known to be faster than their other units; elsewhere only a measurement turns them on. */
const fastMatrices: readonly { readonly vendor: RegExp; readonly architecture: RegExp }[] = [
  { vendor: /^nvidia$/, architecture: /./ },
  { vendor: /^apple$/, architecture: /./ },
  { vendor: /^amd$/, architecture: /^rdna-[34]/ },
  // Arc A (xe-hpg) is several times slower with them than without.
  { vendor: /^intel$/, architecture: /^xe-[23]/ },
];

/** Whether the matrix tier may be taken unmeasured. */
export const hasFastMatrices = ({ vendor, architecture }: GPUAdapterInfo): boolean =>
  fastMatrices.some((row) => row.vendor.test(vendor) && row.architecture.test(architecture));

/** The tier asked for, the one that was measured, or the highest one known to be fast; throws DeviceError when the adapter lacks the one asked for. */
export function preferredTier(
  offered: Tier,
  { info, software }: { readonly info: GPUAdapterInfo; readonly software: boolean },
  forced: Tier | undefined,
  measured: Tier | undefined,
): { readonly tier: Tier; readonly tierReason: string } {
  const has = (tier: Tier): boolean => tiers.slice(0, tiers.indexOf(offered) + 1).includes(tier);
  if (forced) {
    if (!has(forced))
      throw new DeviceError(
        "webgpu",
        "bad-option",
        `the adapter has no ${forced} tier, only up to ${offered}; leave the option "tier" out`,
      );
    return { tier: forced, tierReason: 'set by the option "tier"' };
  }
  if (measured && has(measured)) return { tier: measured, tierReason: "measured to be the fastest on this adapter" };
  if (offered !== "matrix" || hasFastMatrices(info))
    return { tier: offered, tierReason: `the highest tier the adapter offers is ${offered}` };
  const why = software ? "subgroup matrices are slow on a software adapter" : "this adapter's subgroup matrices are not known to be fast";
  return { tier: "subgroups", tierReason: `${why}; wick doctor --tune measures them` };
}
