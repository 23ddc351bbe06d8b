// wick doctor: what this machine can do, what it lacks and how to get it.
import { existsSync, readdirSync } from "node:fs";
import { access, constants, readdir, stat, statfs } from "node:fs/promises";
import { availableParallelism, cpus, freemem, totalmem } from "node:os";
import { dirname } from "node:path";
import { hubDefaults } from "@wick/hub";
import { cpu, type Device, scope, torchCpu } from "@wick/tensor";
import { deviceErrorOf, gpuFailureText, isSoftware, mayHaveGpu, openDevice } from "../open-device.ts";
import { type CommonOptions, Reporter } from "../reporter.ts";
import { formatBytes, formatTable } from "../units.ts";
import { version } from "../version.ts";
import { tune, tuneText } from "./tune.ts";

/** A device that was opened and tried. */
interface DeviceFacts {
  readonly description: string;
  readonly tier: string;
  /** A WebGPU adapter that is the CPU after all. */
  readonly software: boolean;
  /** Why this family of kernels is in use and no faster one. */
  readonly tierReason?: string | undefined;
  /** Whether --matmul-precision has an effect: the kernels multiply f16 fragments. */
  readonly hasPrecisions: boolean;
  readonly f16: boolean;
  readonly threads: number;
  readonly maxBindingBytes: number;
  /** Relative L2 error of a product against f64 on the host. */
  readonly productError: number;
  readonly gflops: number;
  readonly features?: readonly string[] | undefined;
  readonly limits?: Readonly<Record<string, number>> | undefined;
}

/** Something that is not there, and what to do about it. */
interface Lack {
  readonly what: string;
  readonly remedy: string;
}

const shownLimits = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeInvocationsPerWorkgroup",
] as const;

export interface DoctorOptions extends CommonOptions {
  /** Measure the GPU's kernels first, and keep the result. */
  readonly tune?: boolean;
  readonly adapter?: string;
}

/** Prints the report; a missing GPU is a remark, not a failure, unless it was to be tuned. */
export async function doctor(options: DoctorOptions): Promise<void> {
  const reporter = new Reporter(options);
  const lacks: Lack[] = [];
  const tuned = options.tune ? await tune(reporter, options.adapter) : undefined;
  const machine = {
    wick: version,
    node: process.versions.node,
    system: `${process.platform} ${process.arch}`,
    processor: `${cpus()[0]?.model.trim() ?? "unknown"}, ${availableParallelism()} threads`,
    memoryBytes: totalmem(),
    freeMemoryBytes: freemem(),
  };
  const processor = await factsOf(cpu());
  const gpu = await gpuFacts(lacks, options.adapter);
  const drivers = vulkanDrivers();
  const cache = await cacheFacts(lacks);
  const document = { machine, cpu: processor, gpu: gpu ?? null, vulkanDrivers: drivers, cache, lacks, tuning: tuned ?? null };
  const rows = [
    ["wick", `${machine.wick} on Node ${machine.node}, ${machine.system}`],
    ["processor", `${machine.processor}, ${formatBytes(machine.memoryBytes)} memory (${formatBytes(machine.freeMemoryBytes)} free)`],
    ["cpu device", deviceLine(processor)],
    ["gpu device", gpu ? deviceLine(gpu) : "none"],
    ...(gpu?.tierReason ? [["", `${gpu.tier} kernels: ${gpu.tierReason}`]] : []),
    ...(gpu?.hasPrecisions ? [["", precisionLine]] : []),
    ...(gpu?.features ? [["features", gpu.features.join(", ")]] : []),
    ...Object.entries(gpu?.limits ?? {}).map(([name, value]) => [name, name.includes("Size") ? formatBytes(value) : String(value)]),
    ...(process.platform === "linux" ? [["vulkan drivers", drivers.join(", ") || "none"]] : []),
    [
      "downloads",
      `${cache.folder} (${cache.exists ? `${cache.models} models` : "not there yet"}, ${formatBytes(cache.freeBytes)} free on the disk)`,
    ],
    ["hub", `${cache.endpoint}${cache.offline ? ", offline" : ""}${cache.hasToken ? ", with a token" : ""}`],
  ];
  const missing = lacks.map(({ what, remedy }) => `- ${what}: ${remedy}`);
  reporter.result(
    [
      formatTable(rows),
      ...(tuned ? ["", tuneText(tuned)] : []),
      ...(missing.length > 0 ? ["", "What is missing:", ...missing] : ["", "Nothing is missing."]),
    ].join("\n"),
    document,
  );
}

const precisionLine =
  "products of f32 and quantized numbers keep f32's accuracy; generate --matmul-precision high rounds to 11 bits for fewer multiplications";

const deviceLine = (d: DeviceFacts): string =>
  `${d.description}; ${d.tier} kernels, f16 ${d.f16 ? "yes" : "no"}, ${d.gflops.toFixed(1)} GFLOP/s in a small product, error ${d.productError.toExponential(1)}`;

async function gpuFacts(lacks: Lack[], adapter: string | undefined): Promise<DeviceFacts | undefined> {
  try {
    const facts = await factsOf(await openDevice({ device: "webgpu", ...(adapter === undefined ? {} : { adapter }) }));
    if (facts.software)
      lacks.push({ what: "a hardware GPU (the adapter is software, so --device auto takes the CPU)", remedy: driverRemedy() });
    return facts;
  } catch (error) {
    lacks.push(lackOf(error));
    return undefined;
  }
}

/** What is missing when no GPU opens, by the reason of the device's error. */
export function lackOf(error: unknown): Lack {
  const why = gpuFailureText(error).split(";")[0]!;
  switch (deviceErrorOf(error)?.reason) {
    case "no-dawn":
      return {
        what: "Dawn, the WebGPU implementation for Node",
        remedy: "npm install webgpu (it is optional; npm was told to leave optional packages out)",
      };
    case "dawn-failed":
      return { what: "a Dawn that starts", remedy: `npm install webgpu again, on this system; the CPU works without (${why})` };
    case "wrong-results":
      return { what: "a driver that computes right", remedy: `update it; the CPU works without (${why})` };
    case "unknown-adapter":
    case "bad-option":
      return { what: "a GPU as asked for", remedy: gpuFailureText(error) };
    default:
      return {
        what: mayHaveGpu() ? "a WebGPU adapter, although there is a graphics card" : "a GPU",
        remedy: `${driverRemedy()} (${why})`,
      };
  }
}

function driverRemedy(): string {
  if (process.platform === "linux")
    return "install the Vulkan driver of your card (Debian, Ubuntu: apt install mesa-vulkan-drivers libvulkan1, or NVIDIA's driver); the CPU works without";
  if (process.platform === "win32") return "update the driver of your graphics card (Direct3D 12 is needed); the CPU works without";
  return "macOS 13 or newer with Metal is needed; the CPU works without";
}

/** Opens nothing: takes the device, tries it and closes it. */
async function factsOf(device: Device): Promise<DeviceFacts> {
  try {
    const { tier, f16, threads, maxBindingBytes } = device.capabilities;
    const trial = await tryProduct(device);
    const { tierReason, matrix } = device.capabilities as typeof device.capabilities & { readonly matrix?: { readonly input: string } };
    const { device: raw } = device.backend as { device?: GPUDevice };
    const limits = raw && Object.fromEntries(shownLimits.map((name) => [name, raw.limits[name]]));
    const features = raw && [...raw.features].sort();
    return {
      description: device.description,
      tier,
      software: isSoftware(device),
      tierReason,
      hasPrecisions: tier === "matrix" && matrix?.input === "f16",
      f16,
      threads,
      maxBindingBytes,
      ...trial,
      features,
      limits,
    };
  } finally {
    device.destroy();
  }
}

/** A 256 x 256 product: is it right, and how quick is it the second time. */
async function tryProduct(device: Device): Promise<{ productError: number; gflops: number }> {
  const n = 256;
  const generator = torchCpu(0);
  const [a, b] = [generator.randn(n * n) as Float32Array, generator.randn(n * n) as Float32Array];
  using x = device.tensor(a, [n, n]);
  using y = device.tensor(b, [n, n]);
  let [got, elapsedMillis] = [new Float32Array(0), 0];
  for (let run = 0; run < 2; run++) {
    const started = performance.now();
    using product = scope(() => x.matmul(y));
    got = (await product.toArray()) as Float32Array<ArrayBuffer>;
    elapsedMillis = performance.now() - started;
  }
  return { productError: errorOfProduct(a, b, got, n), gflops: (2 * n ** 3) / elapsedMillis / 1e6 };
}

function errorOfProduct(a: Float32Array, b: Float32Array, got: Float32Array, n: number): number {
  let [errors, total] = [0, 0];
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) {
      let sum = 0;
      for (let k = 0; k < n; k++) sum += a[i * n + k]! * b[k * n + j]!;
      errors += (got[i * n + j]! - sum) ** 2;
      total += sum ** 2;
    }
  }
  return Math.sqrt(errors / total);
}

/** The driver descriptions that Vulkan's loader finds. */
function vulkanDrivers(): string[] {
  if (process.platform !== "linux") return [];
  const folders = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d", "/usr/local/share/vulkan/icd.d"];
  return folders.flatMap((folder) => (existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith(".json")) : []));
}

async function cacheFacts(lacks: Lack[]) {
  const { cacheDir: folder, endpoint, offline, token } = await hubDefaults();
  const exists = (await stat(folder).catch(() => undefined))?.isDirectory() ?? false;
  const models = exists ? (await readdir(folder)).filter((name) => name.startsWith("models--")).length : 0;
  let place = folder;
  while (!existsSync(place) && dirname(place) !== place) place = dirname(place);
  const disk = await statfs(place).catch(() => undefined);
  const freeBytes = disk ? disk.bavail * disk.bsize : 0;
  const isWritable = await access(place, constants.W_OK).then(
    () => true,
    () => false,
  );
  if (!isWritable)
    lacks.push({ what: `a writable folder for downloads (${folder})`, remedy: "change its permissions, or set HF_HOME to another folder" });
  if (disk && freeBytes < 35e9)
    lacks.push({
      what: `room for a large model (${formatBytes(freeBytes)} free, FLUX.1 has 34 GB)`,
      remedy: "free some space, or set HF_HOME to another disk",
    });
  return {
    folder,
    exists,
    models,
    freeBytes,
    isWritable,
    endpoint,
    hasToken: token !== undefined,
    offline,
  };
}
