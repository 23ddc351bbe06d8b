// The WebGPU device: Dawn in Node, navigator.gpu in browsers.
import { createWebGpuBackend, type WebGpuOptions } from "./backends/webgpu/index.ts";
import { type TunerOptions, type TunerReport, tuneProducts } from "./backends/webgpu/tuner.ts";
import { Device } from "./device.ts";

/** A device on a GPU adapter; rejects with DeviceError when there is none (use `cpu()` then). */
export const webgpu = async (options?: WebGpuOptions): Promise<Device> => new Device(await createWebGpuBackend(options));

/**
 * Measures which matrix kernels are fastest on an adapter; the report is what the option `tuning` of {@link webgpu} takes. Kernels with
 * wrong results are left out. Takes some seconds on a GPU. Throws DeviceError when there is no adapter.
 */
export const tuneWebgpu = (options?: TunerOptions): Promise<TunerReport> => tuneProducts(options);
