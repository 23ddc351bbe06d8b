// The adapters whose kernels are simulated: subgroup matrix shapes, subgroup sizes and workgroup memory as their drivers report them.
import { createWebGpuBackend, type WebGpuOptions } from "../../src/backends/webgpu/index.ts";
import { type GemmVariantName, gemmVariantNames } from "../../src/backends/webgpu/kernels/gemm-variants.ts";
import { productClasses, type Tuning } from "../../src/backends/webgpu/tuning.ts";
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

/** WICK_CONFORMANCE=all simulates every vendor with every row and variant (five minutes); by default a spread of them. */
export const all = process.env["WICK_CONFORMANCE"] === "all";

export const matrixVariants = gemmVariantNames.filter((v) => v.startsWith("matrix"));

/** What opens a backend with the vendor's kernels of the matrix tier, and the labels of the kernels that ran. */
export function simulated(name: VendorName, more: Partial<SimulatedAdapter> = {}): { options: WebGpuOptions; ran: Set<string> } {
  const { matrix, workgroupBytes } = vendors[name];
  const ran = new Set<string>();
  const gpu = simulatedGpu({ subgroupSize: matrix.subgroupSize, workgroupBytes, f16: true, onLaunch: (label) => ran.add(label), ...more });
  return { options: { gpu, tier: "matrix", matrix }, ran };
}

/** The same with one variant for all products. */
export async function simulatedVariant(
  name: VendorName,
  variant: GemmVariantName,
  more: Partial<SimulatedAdapter> = {},
): Promise<ReturnType<typeof simulated>> {
  const { options, ran } = simulated(name, more);
  const probe = await createWebGpuBackend(options);
  const variants = Object.fromEntries(productClasses.map((c) => [c, variant]));
  const tuning: Tuning = { adapter: probe.capabilities.adapterName, tier: "matrix", variants };
  probe.destroy();
  return { options: { ...options, tuning: [tuning] }, ran };
}
