// How a device is found: navigator.gpu in browsers, Dawn (the optional npm package "webgpu") in Node, with the flags it needs.
import { DeviceError } from "../../errors.ts";
import type { Float32MatmulPrecision } from "../backend.ts";
import { chooseLimits, type MatrixConfig, wantedFeatures } from "./limits.ts";
import { checkPrecision } from "./precision.ts";
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

export interface OpenedDevice {
  readonly device: GPUDevice;
  readonly info: GPUAdapterInfo;
  readonly driver: string;
  /** A software implementation: different kernels are fast there. */
  readonly software: boolean;
}

// Dawn crashes when the object its create() returned is collected, so every distinct one is kept for the life of the process.
const dawnInstances = new Map<string, GPU>();

/** Opens a device with the adapter's largest limits and every feature the kernels use; throws DeviceError when there is none. */
export async function openDevice(options: WebGpuOptions): Promise<OpenedDevice> {
  checkPrecision(options.float32MatmulPrecision);
  const gpu = (options.gpu as GPU | undefined) ?? (await findGpu(options));
  const adapter = await requestAdapter(gpu, options);
  if (!adapter) throw new DeviceError("webgpu", noAdapterMessage());
  const label = options.label ?? "wick";
  const device = await requestDevice(adapter, options, label);
  const { info } = adapter;
  return { device, info, driver: options.driver ?? defaultDriver(), software: options.software ?? isSoftware(info) };
}

async function requestAdapter(gpu: GPU, { powerPreference }: WebGpuOptions): Promise<GPUAdapter | null> {
  try {
    return await gpu.requestAdapter(powerPreference ? { powerPreference } : {});
  } catch (cause) {
    const detail = (cause instanceof Error ? cause.message : String(cause)).trim().split("\n").join("; ");
    throw new DeviceError("webgpu", `${detail}; choose one of these adapters, or use cpu()`, { cause });
  }
}

async function requestDevice(adapter: GPUAdapter, options: WebGpuOptions, label: string): Promise<GPUDevice> {
  try {
    const requiredLimits = chooseLimits(adapter.limits, options);
    return await adapter.requestDevice({ label, requiredFeatures: wantedFeatures(adapter), requiredLimits });
  } catch (cause) {
    const name = adapter.info.description || adapter.info.device || "the adapter";
    throw new DeviceError("webgpu", `${name} gave no device: ${messageOf(cause)}; use cpu() or another adapter`, { cause });
  }
}

function isSoftware(info: GPUAdapterInfo): boolean {
  return (
    info.isFallbackAdapter === true ||
    /swiftshader|llvmpipe|lavapipe|basic render/i.test(`${info.device} ${info.description} ${info.architecture}`)
  );
}

async function findGpu(options: WebGpuOptions): Promise<GPU> {
  if (isNode()) return createDawn(options);
  const gpu = (globalThis as { navigator?: { gpu?: GPU } }).navigator?.gpu;
  if (!gpu) throw new DeviceError("webgpu", "this browser has no WebGPU (navigator.gpu is missing); use cpu() instead");
  return gpu;
}

const isNode = (): boolean => typeof process === "object" && typeof process.versions?.node === "string";

function defaultDriver(): string {
  if (!isNode()) return "browser";
  return process.platform === "win32" ? "d3d12" : process.platform === "darwin" ? "metal" : "vulkan";
}

async function createDawn(options: WebGpuOptions): Promise<GPU> {
  const flags = dawnFlags(options);
  const key = flags.join(" ");
  const known = dawnInstances.get(key);
  if (known) return known;
  const { create, globals } = await importDawn();
  for (const [name, value] of Object.entries(globals)) if (!(name in globalThis)) Object.assign(globalThis, { [name]: value });
  try {
    const gpu = create(flags);
    dawnInstances.set(key, gpu);
    return gpu;
  } catch (cause) {
    throw new DeviceError("webgpu", `Dawn did not start: ${messageOf(cause)}; use cpu() or another adapter`, { cause });
  }
}

interface Dawn {
  create(flags: string[]): GPU;
  globals: object;
}

async function importDawn(): Promise<Dawn> {
  // A name the bundler cannot see: browser builds must not pull in a Node addon.
  const name = ["web", "gpu"].join("");
  try {
    return (await import(/* @vite-ignore */ /* webpackIgnore: true */ name)) as Dawn;
  } catch (cause) {
    const hint = `the npm package "webgpu" could not be loaded (${messageOf(cause)}); npm install webgpu, or use cpu()`;
    throw new DeviceError("webgpu", hint, { cause });
  }
}

const messageOf = (e: unknown): string => (e instanceof Error ? e.message : String(e)).split("\n")[0]!;

/** The toggles llama.cpp's WebGPU backend uses: f16 on NVIDIA, tensor cores, no bounds clamping. */
export function dawnFlags(options: WebGpuOptions): string[] {
  const on = ["allow_unsafe_apis", "vulkan_enable_f16_on_nvidia"];
  if (!options.robustness) on.push("disable_robustness", "disable_workgroup_init", "disable_polyfills_on_integer_div_and_mod");
  const flags = [`enable-dawn-features=${on.join(",")}`, "disable-dawn-features=timestamp_quantization"];
  if (options.driver) flags.push(`backend=${options.driver}`);
  if (options.adapter) flags.push(`adapter=${options.adapter}`);
  return flags;
}

function noAdapterMessage(): string {
  if (!isNode()) return "no WebGPU adapter: the browser's GPU support may be switched off; use cpu() instead";
  const install =
    process.platform === "linux"
      ? "install a Vulkan driver (Debian and Ubuntu: apt install libvulkan1 mesa-vulkan-drivers, or the GPU maker's driver)"
      : "update the graphics driver";
  return `no WebGPU adapter was found; ${install}, or use cpu()`;
}
