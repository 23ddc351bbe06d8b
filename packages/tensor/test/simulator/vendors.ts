// The adapters whose kernels are simulated: subgroup matrix shapes, subgroup sizes and workgroup memory as their drivers report them.
import { createWebGpuBackend } from "../../src/backends/webgpu/index.ts";
import { planOf } from "../../src/backends/webgpu/kernels/attention-plan.ts";
import { type AttentionVariantName, attentionVariantNames } from "../../src/backends/webgpu/kernels/attention-variants.ts";
import { type GemmVariantName, gemmVariantNames } from "../../src/backends/webgpu/kernels/gemm-variants.ts";
import type { WebGpuOptions } from "../../src/backends/webgpu/options.ts";
import type { DeviceTraits } from "../../src/backends/webgpu/traits.ts";
import { attentionClasses, productClasses, type Tuning } from "../../src/backends/webgpu/tuning.ts";
import type { DType } from "../../src/dtype.ts";
import { type SimulatedAdapter, simulatedGpu } from "./gpu.ts";

export type Vendor = Required<Pick<WebGpuOptions, "matrix">> & { readonly workgroupBytes: number };

const f16 = "f16";
export const vendors = {
  NVIDIA: { matrix: { m: 16, n: 16, k: 16, input: f16, subgroupSize: 32 }, workgroupBytes: 49152 },
  "AMD, 64 lanes": { matrix: { m: 16, n: 16, k: 16, input: f16, subgroupSize: 64 }, workgroupBytes: 65536 },
  "AMD, 32 lanes": { matrix: { m: 16, n: 16, k: 16, input: f16, subgroupSize: 32 }, workgroupBytes: 65536 },
  "Intel, 16 lanes": { matrix: { m: 8, n: 16, k: 16, input: f16, subgroupSize: 16 }, workgroupBytes: 65536 },
  "Intel, 32 lanes": { matrix: { m: 8, n: 16, k: 16, input: f16, subgroupSize: 32 }, workgroupBytes: 32768 },
  Apple: { matrix: { m: 8, n: 8, k: 8, input: "f32", subgroupSize: 32 }, workgroupBytes: 32768 },
  "lavapipe of Mesa 26": { matrix: { m: 8, n: 8, k: 8, input: f16, subgroupSize: 8 }, workgroupBytes: 32768 },
} as const satisfies Readonly<Record<string, Vendor>>;

export type VendorName = keyof typeof vendors;
export const vendorNames = Object.keys(vendors) as readonly VendorName[];

/** WICK_CONFORMANCE=all simulates every vendor with every row and variant (ten minutes); by default a spread of them. */
export const all = process.env["WICK_CONFORMANCE"] === "all";

export const matrixVariants = gemmVariantNames.filter((v) => v.startsWith("matrix"));

export const matrixAttentions = attentionVariantNames.filter((v) => v.startsWith("matrix"));

/** Two parts of 16 rows of 512 are more than 32 KiB. */
export const twoPartsFit = (vendor: VendorName, dtype: DType, width: number): boolean =>
  vendor !== "Intel, 32 lanes" || dtype !== "f32" || width !== 512;

/** The vendor's attention of these heads has the variant. */
export function hasAttention(vendor: VendorName, variant: AttentionVariantName, dtype: DType, width: number): boolean {
  const { matrix, workgroupBytes } = vendors[vendor];
  const traits = {
    ...{ matrix, workgroupBytes, tier: "matrix", subgroupSize: matrix.subgroupSize, maxInvocations: 1024, software: false },
    ...{ maxBindingBytes: 2 ** 27, float32MatmulPrecision: "highest" },
  } as unknown as DeviceTraits;
  const size = { width, valueWidth: width, queries: 64, keys: 64, work: 0, dtypes: [dtype, dtype, dtype], elements: [1, 1, 1] };
  return planOf(traits, variant, size) !== undefined;
}

/** What opens a backend with the vendor's kernels of the matrix tier, and the labels of the kernels that ran. */
export function simulated(name: VendorName, more: Partial<SimulatedAdapter> = {}): { options: WebGpuOptions; ran: Set<string> } {
  const { matrix, workgroupBytes } = vendors[name];
  const ran = new Set<string>();
  const gpu = simulatedGpu({ subgroupSize: matrix.subgroupSize, workgroupBytes, f16: true, onLaunch: (label) => ran.add(label), ...more });
  return { options: { gpu, tier: "matrix", matrix }, ran };
}

/** The same with one variant for all products. */
export const simulatedVariant = (
  name: VendorName,
  variant: GemmVariantName,
  more: Partial<SimulatedAdapter> = {},
): ReturnType<typeof tuned> => tuned(name, { variants: Object.fromEntries(productClasses.map((c) => [c, variant])) }, more);

/** The same with one variant for all attention. */
export const simulatedAttention = (name: VendorName, variant: AttentionVariantName): ReturnType<typeof tuned> =>
  tuned(name, { variants: {}, attention: Object.fromEntries(attentionClasses.map((c) => [c, variant])) }, {});

async function tuned(
  name: VendorName,
  choice: Pick<Tuning, "variants" | "attention">,
  more: Partial<SimulatedAdapter>,
): Promise<ReturnType<typeof simulated>> {
  const { options, ran } = simulated(name, more);
  const probe = await createWebGpuBackend(options);
  const tuning: Tuning = { adapter: probe.capabilities.adapterName, tier: "matrix", ...choice };
  probe.destroy();
  return { options: { ...options, tuning: [tuning] }, ran };
}
