// The WebGPU device: Dawn in Node, navigator.gpu in browsers. Its code, half of the package, is loaded when a device is opened.
import type { WebGpuOptions } from "./backends/webgpu/options.ts";
import type { TunerOptions, TunerReport } from "./backends/webgpu/tuner.ts";
import { Device } from "./device.ts";

/** A device on a GPU adapter; rejects with DeviceError when there is none (use `cpu()` then). */
export async function webgpu(options?: WebGpuOptions): Promise<Device> {
  const { createWebGpuBackend } = await import("./backends/webgpu/index.ts");
  return new Device(await createWebGpuBackend(options));
}

/**
 * Measures which matrix kernels are fastest on an adapter; the report is what the option `tuning` of {@link webgpu} takes. Kernels with
 * wrong results are left out. Takes some seconds on a GPU. Throws DeviceError when there is no adapter.
 */
export async function tuneWebgpu(options?: TunerOptions): Promise<TunerReport> {
  const { tuneProducts } = await import("./backends/webgpu/tuner.ts");
  return tuneProducts(options);
}
