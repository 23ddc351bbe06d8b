// How a device is found: navigator.gpu in browsers, Dawn (the optional npm package "webgpu") in Node, with the flags it needs.
import { DeviceError } from "../../errors.ts";
import { matrixFeature } from "./matrix-config.ts";
import type { WebGpuOptions } from "./options.ts";
import { checkPrecision } from "./precision.ts";

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
  if (!adapter) throw new DeviceError("webgpu", "no-adapter", noAdapterMessage());
  const label = options.label ?? "wick";
  const device = await requestDevice(adapter, options, label);
  const { info } = adapter;
  return { device, info, driver: options.driver ?? defaultDriver(), software: options.software ?? isSoftware(info) };
}

/** Features the kernels use where the adapter has them. */
const features = ["shader-f16", "subgroups", "subgroup-size-control", "timestamp-query", matrixFeature];

const wantedFeatures = (adapter: GPUAdapter): GPUFeatureName[] =>
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
function chooseLimits(limits: GPUSupportedLimits, options: WebGpuOptions): Record<string, number> {
  const wanted: Record<string, number> = {};
  for (const name of limitNames) wanted[name] = limits[name];
  const immediates = (limits as { maxImmediateSize?: number }).maxImmediateSize ?? 0;
  if (immediates >= 64 && options.immediates !== false) wanted["maxImmediateSize"] = 64;
  return wanted;
}

async function requestAdapter(gpu: GPU, options: WebGpuOptions): Promise<GPUAdapter | null> {
  const { powerPreference } = options;
  try {
    return await gpu.requestAdapter(powerPreference ? { powerPreference } : {});
  } catch (cause) {
    throw noSuchAdapter(cause, options);
  }
}

/** Dawn throws where adapter or driver were asked for and are not there; it lists the adapters there are, a line each. */
function noSuchAdapter(cause: unknown, { adapter, driver }: WebGpuOptions): DeviceError {
  const text = cause instanceof Error ? cause.message : String(cause);
  const names = [...text.matchAll(/name: '([^']*)'/g)].map(([, name]) => name!);
  const instead = names.length > 0 ? `the option "adapter" takes a part of ${names.join(" or ")}` : "use cpu()";
  if (adapter === undefined) {
    const where = driver === undefined ? "" : `driver "${driver}": `;
    return new DeviceError("webgpu", "no-adapter", `${where}${messageOf(cause)}; ${instead}`, { cause });
  }
  return new DeviceError("webgpu", "unknown-adapter", `no adapter is called "${adapter}"; ${instead}`, { cause });
}

async function requestDevice(adapter: GPUAdapter, options: WebGpuOptions, label: string): Promise<GPUDevice> {
  try {
    const requiredLimits = chooseLimits(adapter.limits, options);
    return await adapter.requestDevice({ label, requiredFeatures: wantedFeatures(adapter), requiredLimits });
  } catch (cause) {
    const name = adapter.info.description || adapter.info.device || "the adapter";
    throw new DeviceError("webgpu", "no-device", `${name} gave no device: ${messageOf(cause)}; use cpu() or another adapter`, { cause });
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
  if (!gpu) throw new DeviceError("webgpu", "no-webgpu", "this browser has no WebGPU (navigator.gpu is missing); use cpu() instead");
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
    throw new DeviceError("webgpu", "dawn-failed", `Dawn did not start: ${messageOf(cause)}; use cpu() or another adapter`, { cause });
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
    throw dawnUnloaded(cause);
  }
}

/** Why the npm package did not load: it is not there, or something that it needs is not. */
export function dawnUnloaded(cause: unknown): DeviceError {
  const isMissing = (cause as { code?: unknown } | undefined)?.code === "ERR_MODULE_NOT_FOUND";
  const remedy = isMissing ? "npm install webgpu, or use cpu()" : "install it again for this system, or use cpu()";
  const detail = `the npm package "webgpu" could not be loaded (${messageOf(cause)}); ${remedy}`;
  return new DeviceError("webgpu", isMissing ? "no-dawn" : "dawn-failed", detail, { cause });
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
