// The WebGPU device: Dawn in Node, navigator.gpu in browsers.
import { createWebGpuBackend, type WebGpuOptions } from "./backends/webgpu/index.ts";
import { Device } from "./device.ts";

/** A device on a GPU adapter; rejects with DeviceError when there is none (use `cpu()` then). */
export const webgpu = async (options?: WebGpuOptions): Promise<Device> => new Device(await createWebGpuBackend(options));
