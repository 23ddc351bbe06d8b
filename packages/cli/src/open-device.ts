// The device a command computes on: the CPU, a WebGPU adapter, or whichever suits this machine.
import { existsSync, readdirSync } from "node:fs";
import type { Device, DeviceError, DeviceErrorReason, Float32MatmulPrecision, Tuning, WebGpuOptions } from "@wick/tensor";
import { CliError } from "./cli-error.ts";
import { readTunings } from "./tuning-file.ts";

/** What --device takes. */
export const deviceNames = ["auto", "cpu", "webgpu"] as const;

/** What --matmul-precision takes, most exact first. */
export const matmulPrecisions = ["highest", "high"] as const satisfies readonly Float32MatmulPrecision[];

export interface DeviceOptions {
  readonly device?: (typeof deviceNames)[number];
  readonly adapter?: string;
  readonly matmulPrecision?: Float32MatmulPrecision;
}

/** The device of one command. After Ctrl-C it ends with the process: to destroy it would be to wait for all that it was given. */
export class CommandDevice implements Disposable {
  readonly device: Device;
  readonly #signal: AbortSignal;
  constructor(device: Device, signal: AbortSignal) {
    this.device = device;
    this.#signal = signal;
  }
  [Symbol.dispose](): void {
    if (!this.#signal.aborted) this.device.destroy();
  }
}

/** Reasons for which a machine's card cannot be used. */
const unusable: ReadonlySet<DeviceErrorReason | undefined> = new Set([
  ...(["no-dawn", "dawn-failed", "no-adapter", "no-device", "wrong-results"] as const),
  ...(["lost", "out-of-memory", "driver-error"] as const),
]);

/**
 * Opens the device that --device and --adapter ask for; "auto" is a hardware GPU where there is one and the CPU otherwise. `note` is told when
 * there is a card that cannot be used.
 */
export async function openDevice({ device = "auto", ...options }: DeviceOptions, note?: (text: string) => void): Promise<Device> {
  const tensor = await import("@wick/tensor");
  if (device === "cpu") return tensor.cpu();
  if (device === "webgpu" || options.adapter !== undefined) return openGpu(options, await readTunings());
  if (!mayHaveGpu()) return tensor.cpu();
  const tuning = await readTunings();
  const gpu = await openGpu(options, tuning).catch((error: Error) => {
    if (!isUnusableGpu(error)) throw error;
    note?.(`using the CPU: ${error.message}`);
  });
  if (gpu && !isSoftware(gpu)) return gpu;
  gpu?.destroy();
  return tensor.cpu();
}

async function openGpu({ adapter, matmulPrecision }: DeviceOptions, tuning: readonly Tuning[]): Promise<Device> {
  const options: WebGpuOptions = {
    tuning,
    ...(adapter === undefined ? {} : { adapter }),
    ...(matmulPrecision === undefined ? {} : { float32MatmulPrecision: matmulPrecision }),
  };
  const { webgpu } = await import("@wick/tensor");
  if (adapter === undefined && mayHaveGpu()) Object.assign(process.env, hiddenDrivers(process.platform, process.env));
  try {
    return await webgpu(options);
  } catch (cause) {
    throw new CliError(`no WebGPU device: ${gpuFailureText(cause)}; wick doctor tells more, --device cpu always works`, 1, { cause });
  }
}

/** The device's own error under what the command line made of it, if that is what failed. */
export function deviceErrorOf(error: unknown): DeviceError | undefined {
  for (let e = error; e instanceof Error; e = e.cause) if ("op" in e && "reason" in e) return e as DeviceError;
  return undefined;
}

/** Whether --device auto goes on without the card. A wrong option, such as an outdated tuning, is reported instead. */
export const isUnusableGpu = (error: unknown): boolean => unusable.has(deviceErrorOf(error)?.reason);

/** Why there is no device, in words of the command line. */
export function gpuFailureText(error: unknown): string {
  const detail = deviceErrorOf(error)?.detail ?? (error instanceof Error ? error.message : String(error));
  return detail.replace('the option "adapter"', "--adapter");
}

/**
 * What keeps Vulkan's loader from Mesa's driver for the CPU: where there is a card, Dawn would look at that too, slowly and with warnings that
 * no option reaches. Whoever chose drivers by the loader's own variables is left alone.
 */
export function hiddenDrivers(platform: string, env: NodeJS.ProcessEnv): Readonly<Record<string, string>> {
  const isChosen = Object.keys(env).some((name) => /^VK_(LOADER|DRIVER|ADD_DRIVER|ICD)/.test(name));
  return platform !== "linux" || isChosen ? {} : { VK_LOADER_DRIVERS_DISABLE: "*lvp_icd*" };
}

/** Whether the system shows a graphics card; where it does not, loading Dawn would only take time and print warnings. */
export function mayHaveGpu(): boolean {
  if (process.platform !== "linux") return true;
  const cards = existsSync("/dev/dri") ? readdirSync("/dev/dri").filter((name) => name.startsWith("renderD")) : [];
  return cards.length > 0 || existsSync("/dev/nvidia0") || existsSync("/dev/dxg");
}

/** Whether a device computes on the CPU after all (lavapipe, SwiftShader, WARP). */
export const isSoftware = (device: Device): boolean => (device.capabilities as { readonly software?: boolean }).software === true;
