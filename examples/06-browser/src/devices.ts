// Which device the page computes on: WebGPU on a graphics card, otherwise the CPU backend, and what can be said about it.

import { cpu, type Device, webgpu } from "@wick/tensor";
import type { DeviceChoice } from "./messages.ts";

/** A device and why it is this one. */
export interface Opened {
  readonly device: Device;
  readonly note: string;
}

/** Opens what was asked for; "auto" prefers WebGPU but not a software imitation of it, which is slower than the CPU backend. */
export async function openDevice(choice: DeviceChoice): Promise<Opened> {
  if (choice === "cpu") return { device: cpu(), note: "" };
  if (choice === "webgpu") return { device: await webgpu(), note: "" };
  try {
    const device = await webgpu();
    if (!isSoftware(device)) return { device, note: "" };
    device.destroy();
    return { device: cpu(), note: "The only WebGPU adapter here is software, so the CPU backend is used." };
  } catch (error) {
    return { device: cpu(), note: `Without WebGPU (${(error as Error).message}); the CPU backend is used.` };
  }
}

const isSoftware = (device: Device): boolean =>
  (device.capabilities as { software?: boolean }).software === true || /swiftshader|llvmpipe|basic render/i.test(device.description);

/** What the page shows of a device. */
export function deviceFacts(device: Device): [string, string][] {
  const { tier, f16, threads, maxBindingBytes } = device.capabilities;
  const facts: [string, string][] = [
    ["Runs on", device.description],
    ["Kernels", tier],
    ["f16", f16 ? "yes" : "no"],
  ];
  facts.push(device.kind === "cpu" ? ["Threads", String(threads)] : ["Largest binding", formatBytes(maxBindingBytes)]);
  const gpu = (device.backend as { device?: { features?: Iterable<string> } }).device;
  if (gpu?.features) facts.push(["Features", [...gpu.features].sort().join(", ")]);
  return facts;
}

/** Bytes as people read them. */
export function formatBytes(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB"];
  const power = Math.min(3, Math.max(0, Math.floor(Math.log2(Math.max(1, bytes)) / 10)));
  return `${(bytes / 1024 ** power).toFixed(power === 0 ? 0 : 1)} ${units[power]}`;
}
