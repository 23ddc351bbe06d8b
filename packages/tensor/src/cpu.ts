// The CPU device.
import { type CpuOptions, createCpuBackend } from "./backends/cpu/index.ts";
import { Device } from "./device.ts";

/** A device that needs no GPU: deterministic, f32 accumulation. */
export const cpu = (options?: CpuOptions): Device => new Device(createCpuBackend(options));
