// Measures the matrix kernels of every tier on one adapter and says which is fastest for which products. A kernel whose result is wrong
// is never chosen.
import { bytesOf, type DType } from "../../dtype.ts";
import { DeviceError } from "../../errors.ts";
import { contiguousLayout, permuteLayout } from "../../layout.ts";
import type { Backend, Float32MatmulPrecision, View } from "../backend.ts";
import { WebGpuBackend } from "./index.ts";
import { type GemmVariantName, gemmVariantNames } from "./kernels/gemm-variants.ts";
import { type DeviceTraits, traitsOf } from "./limits.ts";
import { type OpenedDevice, openDevice, type WebGpuOptions } from "./open.ts";
import { precisionOf } from "./precision.ts";
import { matmulFailure } from "./self-test.ts";
import { type Tier, tiers } from "./tier.ts";
import { type ProductClass, productClasses, type Tuning } from "./tuning.ts";

/** One kernel on one class of products. */
export interface Measurement {
  /** Which products. */
  readonly products: ProductClass;
  /** Which kernel ran them. */
  readonly kernel: GemmVariantName;
  /** Thousand million operations a second. */
  readonly gflops: number;
}

/** A tuning with what it rests on. */
export interface TunerReport extends Tuning {
  /** Every kernel that gave right results. */
  readonly measured: readonly Measurement[];
  /** Kernels that gave wrong results or did not run, and how; they are never chosen. */
  readonly failures: Readonly<Partial<Record<GemmVariantName, string>>>;
}

/** Settings of the tuner, which measures both precisions. */
export interface TunerOptions extends Omit<WebGpuOptions, "float32MatmulPrecision"> {
  /** Hears of every measurement. */
  readonly onMeasured?: (m: Measurement) => void;
}

/** As models have them: f32 activations, weights of bf16 or blocks. */
const weightsOf = { f32: "f32", half: "bf16", block: "q8_0" } as const;
/** Widths of Z-Image's and FLUX.1's products, and something a software adapter does in time. */
const sizes = {
  hardware: { large: { m: 4096, k: 3072, n: 3072 }, small: { m: 64, k: 3072, n: 3072 } },
  software: { large: { m: 1024, k: 64, n: 1024 }, small: { m: 64, k: 256, n: 512 } },
} as const;

/** Times every kernel that runs right on the adapter; throws DeviceError when there is none. */
export async function tuneProducts(options: TunerOptions = {}): Promise<TunerReport> {
  if (options.driver === "null")
    throw new DeviceError("webgpu", "the null driver runs nothing that could be measured; leave the option out");
  const opened = await openDevice(options);
  try {
    return await tuneOpened(opened, options);
  } finally {
    opened.device.destroy();
  }
}

async function tuneOpened(opened: OpenedDevice, options: TunerOptions): Promise<TunerReport> {
  const { tier: _tier, tuning: _tuning, ...rest } = options;
  const traits = { ...traitsOf(opened, rest), forced: true };
  const offered = tiers.indexOf(traits.offeredTier);
  const failures: Partial<Record<GemmVariantName, string>> = {};
  const measured: Measurement[] = [];
  for (const kernel of gemmVariantNames.filter((v) => tiers.indexOf(tierOf(v)) <= offered)) {
    const tier = tierOf(kernel);
    const tuned = Object.fromEntries(productClasses.map((c) => [c, kernel]));
    const open = (asked: Float32MatmulPrecision): WebGpuBackend =>
      new WebGpuBackend(opened, { ...traits, tier, tuned, float32MatmulPrecision: precisionOf(asked, tier, traits.matrix) }, rest);
    const failure = await failureOf(kernel, traits, open);
    if (failure) failures[kernel] = failure;
    else await measureKernel(kernel, traits, open, report);
  }
  return { adapter: traits.adapterName, ...fastest(measured, traits.offeredTier), measured, failures };

  function report(products: ProductClass, kernel: GemmVariantName, result: number | string | undefined): void {
    if (typeof result === "string") failures[kernel] = result;
    if (typeof result !== "number") return;
    measured.push({ products, kernel, gflops: result });
    options.onMeasured?.({ products, kernel, gflops: result });
  }
}

type Open = (precision: Float32MatmulPrecision) => WebGpuBackend;

/** What a kernel gets wrong at any precision it has. */
async function failureOf(kernel: GemmVariantName, traits: DeviceTraits, open: Open): Promise<string | undefined> {
  const failure = await attempt(open("highest"), matmulFailure);
  return failure === undefined && hasPrecisions(kernel, traits) ? attempt(open("high"), matmulFailure) : failure;
}

/** Reports GFLOP/s, a failure, or undefined for every class of products. */
async function measureKernel(
  kernel: GemmVariantName,
  traits: DeviceTraits,
  open: Open,
  report: (products: ProductClass, kernel: GemmVariantName, result: number | string | undefined) => void,
): Promise<void> {
  const results = new Map<ProductClass, number | string | undefined>();
  for (const products of productClasses.filter((c) => splits(traits) || !isSplitClass(c))) {
    // Kernels that split nothing take the same time for both.
    const whole = products.replace(" split", "") as ProductClass;
    const known = !hasPrecisions(kernel, traits) && results.has(whole);
    const measure = (): Promise<number | string | undefined> =>
      attempt(open(isSplitClass(products) ? "highest" : "high"), (backend, made) => rateOf(backend, products, kernel, made));
    results.set(products, known ? results.get(whole) : await measure());
    report(products, kernel, results.get(products));
  }
}

const isSplitClass = (products: ProductClass): boolean => products.endsWith("split");
/** Whether the adapter has fragments that f32 operands must be split for. */
const splits = ({ offeredTier, matrix }: DeviceTraits): boolean => offeredTier === "matrix" && matrix?.input === "f16";
const hasPrecisions = (kernel: GemmVariantName, traits: DeviceTraits): boolean => tierOf(kernel) === "matrix" && splits(traits);

/** Runs `use` and releases what it made; gives the message of what it throws, except that the device was lost. */
async function attempt<T>(backend: WebGpuBackend, use: (backend: WebGpuBackend, made: View[]) => Promise<T>): Promise<T | string> {
  const made: View[] = [];
  try {
    return await use(backend, made);
  } catch (error) {
    if (error instanceof DeviceError && /device was (lost|destroyed)/.test(error.message)) throw error;
    return (error instanceof Error ? error.message : String(error)).split("\n")[0]!;
  } finally {
    for (const v of made) backend.release(v.buffer);
    backend.trim();
  }
}

const tierOf = (kernel: GemmVariantName): Tier =>
  kernel.startsWith("matrix") ? "matrix" : kernel.startsWith("broadcast") ? "subgroups" : "plain";

/** The fastest kernel of every class. Subgroups never hurt where there are any, but subgroup matrices are only worth their tier when they won. */
export function fastest(measured: readonly Measurement[], offered: Tier): Pick<Tuning, "tier" | "variants"> {
  const variants: Partial<Record<ProductClass, GemmVariantName>> = {};
  for (const products of productClasses) {
    const [best] = measured.filter((m) => m.products === products).sort((a, b) => b.gflops - a.gflops);
    if (best) variants[products] = best.kernel;
  }
  const won = Object.values(variants).some((v) => tierOf(v) === "matrix");
  return { tier: won ? "matrix" : offered === "plain" ? "plain" : "subgroups", variants };
}

/** GFLOP/s of the best of a few runs; undefined when this adapter cannot run the kernel. */
async function rateOf(backend: WebGpuBackend, products: ProductClass, kernel: GemmVariantName, made: View[]): Promise<number | undefined> {
  const [size, stored] = products.split(" ") as ["large" | "small", "f32" | "half" | "block", "split"?];
  const { m, k, n } = sizes[backend.capabilities.software ? "software" : "hardware"][size];
  const a = zeros(backend, [m, k], "f32", made);
  const b = zeros(backend, [n, k], weightsOf[stored], made);
  const out = zeros(backend, [m, n], "f32", made);
  const weights = { ...b, layout: permuteLayout(b.layout, [1, 0]) };
  const run = (): void => backend.kernels.matmul(out, { a, b: weights }, {});
  run();
  await backend.idle();
  if (!backend.sources().some((s) => s.label.startsWith(`matmul ${kernel}`))) return undefined;
  return (2 * m * n * k) / (await bestMillis(backend, run)) / 1e6;
}

async function bestMillis(backend: Backend, run: () => void): Promise<number> {
  let best = Number.POSITIVE_INFINITY;
  const started = performance.now();
  for (let i = 0; i < 3 || (i < 20 && performance.now() - started < 100); i++) {
    const from = performance.now();
    run();
    await backend.idle();
    best = Math.min(best, performance.now() - from);
  }
  return best;
}

/** Memory of zeros as an operand: no kernel's time depends on the values. */
function zeros(backend: Backend, shape: [number, number], dtype: DType, made: View[]): View {
  const bytes = bytesOf(dtype, shape[0] * shape[1]);
  const view: View = { buffer: backend.allocate(bytes, "tuning"), dtype, layout: contiguousLayout(shape) };
  made.push(view);
  const chunk = new Uint8Array(Math.min(bytes, 2 ** 24));
  for (let at = 0; at < bytes; at += chunk.length) backend.write(view.buffer, at, chunk.subarray(0, Math.min(chunk.length, bytes - at)));
  return view;
}
