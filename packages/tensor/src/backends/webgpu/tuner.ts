// Measures the kernels of products and attention of every tier on one adapter and says which is fastest for which. A kernel whose result is
// wrong is never chosen.
import { bytesOf, type DType } from "../../dtype.ts";
import { DeviceError } from "../../errors.ts";
import { contiguousLayout, permuteLayout } from "../../layout.ts";
import { sizeOf } from "../../shape.ts";
import type { View } from "../../view.ts";
import type { Backend, Float32MatmulPrecision } from "../backend.ts";
import { WebGpuBackend } from "./index.ts";
import { type AttentionVariantName, attentionVariantNames } from "./kernels/attention-variants.ts";
import { type GemmVariantName, gemmVariantNames } from "./kernels/gemm-variants.ts";
import { type OpenedDevice, openDevice } from "./open.ts";
import type { WebGpuOptions } from "./options.ts";
import { precisionOf } from "./precision.ts";
import { matmulFailure } from "./self-test.ts";
import { attentionFailure } from "./self-test-attention.ts";
import { type Tier, tiers } from "./tier.ts";
import { type DeviceTraits, traitsOf } from "./traits.ts";
import {
  type AttentionClass,
  attentionClasses,
  type ProductClass,
  productClasses,
  type TunedAttention,
  type TunedVariants,
  type Tuning,
} from "./tuning.ts";

/** One kernel on one class of products or of attention. */
export interface Measurement {
  /** Which products or attention. */
  readonly work: ProductClass | AttentionClass;
  /** Which kernel ran them. */
  readonly kernel: GemmVariantName | AttentionVariantName;
  /** Thousand million operations a second. */
  readonly gflops: number;
}

/** A tuning with what it rests on. */
export interface TunerReport extends Tuning {
  /** Every kernel that gave right results. */
  readonly measured: readonly Measurement[];
  /** Kernels that gave wrong results or did not run, those of attention as "attention KERNEL", and how; they are never chosen. */
  readonly failures: Readonly<Record<string, string>>;
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
    throw new DeviceError("webgpu", "bad-option", "the null driver runs nothing that could be measured; leave the option out");
  const opened = await openDevice(options);
  try {
    return await tuneOpened(opened, options);
  } finally {
    opened.device.destroy();
  }
}

/** A kernel to be measured: the traits that choose it, its test, and the work it is timed on. */
interface Candidate {
  readonly kernel: Measurement["kernel"];
  /** In reports. */
  readonly name: string;
  readonly tier: Tier;
  readonly chosen: Partial<DeviceTraits>;
  readonly classes: readonly Measurement["work"][];
  failure(backend: Backend, made: View[]): Promise<string | undefined>;
  /** Thousand million operations a second; undefined when this adapter cannot run the kernel. */
  rate(backend: WebGpuBackend, work: Measurement["work"], made: View[]): Promise<number | undefined>;
}

const productCandidates = (): readonly Candidate[] =>
  gemmVariantNames.map((kernel) => ({
    kernel,
    name: kernel,
    tier: tierOf(kernel),
    chosen: { tuned: Object.fromEntries(productClasses.map((c) => [c, kernel])) },
    classes: productClasses,
    failure: matmulFailure,
    rate: (backend, work, made) => productRate(backend, work as ProductClass, kernel, made),
  }));

/** None on software adapters, which compile these kernels for minutes. */
const attentionCandidates = ({ software, offeredTier }: DeviceTraits): readonly Candidate[] =>
  software
    ? []
    : attentionVariantNames.map((kernel) => ({
        kernel,
        name: `attention ${kernel}`,
        tier: kernel === "tiled" && offeredTier !== "plain" ? "subgroups" : tierOf(kernel),
        chosen: { tunedAttention: Object.fromEntries(attentionClasses.map((c) => [c, kernel])) },
        classes: attentionClasses,
        failure: attentionFailure,
        rate: (backend, work, made) => attentionRate(backend, work as AttentionClass, kernel, made),
      }));

async function tuneOpened(opened: OpenedDevice, options: TunerOptions): Promise<TunerReport> {
  const { tier: _tier, tuning: _tuning, ...rest } = options;
  const traits = { ...traitsOf(opened, rest), forced: true };
  const offered = tiers.indexOf(traits.offeredTier);
  const failures: Record<string, string> = {};
  const measured: Measurement[] = [];
  for (const candidate of [...productCandidates(), ...attentionCandidates(traits)]) {
    const { kernel, name, tier, chosen } = candidate;
    if (tiers.indexOf(tier) > offered) continue;
    const open = (asked: Float32MatmulPrecision): WebGpuBackend =>
      new WebGpuBackend(opened, { ...traits, tier, ...chosen, float32MatmulPrecision: precisionOf(asked, tier, traits.matrix) }, rest);
    const failure = await failureOf(candidate, traits, open);
    if (failure) failures[name] = failure;
    else {
      await measureKernel(candidate, traits, open, (work, result) => {
        if (typeof result === "string") failures[name] = result;
        if (typeof result !== "number") return;
        measured.push({ work, kernel, gflops: result });
        options.onMeasured?.({ work, kernel, gflops: result });
      });
    }
  }
  return { adapter: traits.adapterName, ...fastest(measured, traits.offeredTier), measured, failures };
}

type Open = (precision: Float32MatmulPrecision) => WebGpuBackend;

/** What a kernel gets wrong at any precision it has. */
async function failureOf(candidate: Candidate, traits: DeviceTraits, open: Open): Promise<string | undefined> {
  const failure = await attempt(open("highest"), candidate.failure);
  return failure === undefined && hasPrecisions(candidate, traits) ? attempt(open("high"), candidate.failure) : failure;
}

/** Reports GFLOP/s, a failure, or undefined for every class of work. */
async function measureKernel(
  candidate: Candidate,
  traits: DeviceTraits,
  open: Open,
  report: (work: Measurement["work"], result: number | string | undefined) => void,
): Promise<void> {
  const results = new Map<string, number | string | undefined>();
  for (const work of candidate.classes.filter((c) => splits(traits) || !isSplitClass(c))) {
    // Kernels that split nothing take the same time for both.
    const whole = work.replace(" split", "");
    const known = !hasPrecisions(candidate, traits) && results.has(whole);
    const measure = (): Promise<number | string | undefined> =>
      attempt(open(isSplitClass(work) ? "highest" : "high"), (backend, made) => candidate.rate(backend, work, made));
    results.set(work, known ? results.get(whole) : await measure());
    report(work, results.get(work));
  }
}

const isSplitClass = (work: string): boolean => work.endsWith("split");
/** Whether the adapter has fragments that f32 operands must be split for. */
const splits = ({ offeredTier, matrix }: DeviceTraits): boolean => offeredTier === "matrix" && matrix?.input === "f16";
const hasPrecisions = ({ tier }: Candidate, traits: DeviceTraits): boolean => tier === "matrix" && splits(traits);

/** Runs `use` and releases what it made; gives the message of what it throws, except that the device was lost. */
async function attempt<T>(backend: WebGpuBackend, use: (backend: WebGpuBackend, made: View[]) => Promise<T>): Promise<T | string> {
  const made: View[] = [];
  try {
    return await use(backend, made);
  } catch (error) {
    if (error instanceof DeviceError && (error.reason === "lost" || error.reason === "destroyed")) throw error;
    return (error instanceof Error ? error.message : String(error)).split("\n")[0]!;
  } finally {
    for (const v of made) backend.release(v.buffer);
    backend.trim();
  }
}

const tierOf = (kernel: Measurement["kernel"]): Tier =>
  kernel.startsWith("matrix") ? "matrix" : kernel.startsWith("broadcast") ? "subgroups" : "plain";

/** The fastest kernel of every class. Subgroups never hurt where there are any, but subgroup matrices are only worth their tier when they won. */
export function fastest(measured: readonly Measurement[], offered: Tier): Pick<Tuning, "tier" | "variants" | "attention"> {
  const best = (work: Measurement["work"]): Measurement | undefined =>
    measured.filter((m) => m.work === work).sort((a, b) => b.gflops - a.gflops)[0];
  const choice = (classes: readonly Measurement["work"][]): Record<string, Measurement["kernel"]> =>
    Object.fromEntries(classes.flatMap((work) => [best(work)].flatMap((m) => (m ? [[work, m.kernel]] : []))));
  const [variants, attention] = [choice(productClasses) as TunedVariants, choice(attentionClasses) as TunedAttention];
  const won = [...Object.values(variants), ...Object.values(attention)].some((v) => tierOf(v) === "matrix");
  return { tier: won ? "matrix" : offered === "plain" ? "plain" : "subgroups", variants, attention };
}

/** GFLOP/s of the best of a few runs of `run`; undefined when its kernel is not the one named, alone or with a shape or width after it. */
async function rateOf(backend: WebGpuBackend, label: string, operations: number, run: () => void): Promise<number | undefined> {
  run();
  await backend.idle();
  const named = (l: string): boolean => l.startsWith(label) && /^($|x| of|,)/.test(l.slice(label.length));
  if (!backend.sources().some((s) => named(s.label))) return undefined;
  return operations / (await bestMillis(backend, run)) / 1e6;
}

function productRate(backend: WebGpuBackend, products: ProductClass, kernel: GemmVariantName, made: View[]): Promise<number | undefined> {
  const [size, stored] = products.split(" ") as ["large" | "small", "f32" | "half" | "block", "split"?];
  const { m, k, n } = sizes[backend.capabilities.software ? "software" : "hardware"][size];
  const a = zeros(backend, [m, k], "f32", made);
  const b = zeros(backend, [n, k], weightsOf[stored], made);
  const out = zeros(backend, [m, n], "f32", made);
  const weights = { ...b, layout: permuteLayout(b.layout, [1, 0]) };
  return rateOf(backend, `matmul ${kernel}`, 2 * m * n * k, () => backend.kernels.matmul(out, { a, b: weights }, {}));
}

/** Heads as those of Z-Image and FLUX.1, half as many tokens. */
function attentionRate(
  backend: WebGpuBackend,
  work: AttentionClass,
  kernel: AttentionVariantName,
  made: View[],
): Promise<number | undefined> {
  const [heads, tokens, width] = [24, 2304, 128];
  const dtype = work === "half attention" ? "f16" : "f32";
  const view = (): View => zeros(backend, [1, heads, tokens, width], dtype, made);
  const [q, k, v, out] = [view(), view(), view(), view()];
  const attrs = { scale: width ** -0.5, causal: false };
  const label = `attention ${width} ${kernel}`;
  return rateOf(backend, label, 4 * heads * tokens ** 2 * width, () => backend.kernels.attention?.(out, { q, k, v }, attrs));
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
function zeros(backend: Backend, shape: readonly number[], dtype: DType, made: View[]): View {
  const bytes = bytesOf(dtype, sizeOf(shape));
  const view: View = { buffer: backend.allocate(bytes, "tuning"), dtype, layout: contiguousLayout(shape) };
  made.push(view);
  const chunk = new Uint8Array(Math.min(bytes, 2 ** 24));
  for (let at = 0; at < bytes; at += chunk.length) backend.write(view.buffer, at, chunk.subarray(0, Math.min(chunk.length, bytes - at)));
  return view;
}
