// The composed models on WebGPU against diffusers: no kernel was written for them.
import { type Device, webgpu } from "@wick/tensor";
import { afterAll, beforeAll, expect, test } from "vitest";
import { chromaError, lumina2Error } from "../variant-cases.ts";

let device: Device;
beforeAll(async () => {
  device = await webgpu();
});
afterAll(() => device.destroy());

test.each([
  ["Lumina 2", lumina2Error],
  ["Chroma", chromaError],
])("%s gives what diffusers gives", { timeout: 300_000 }, async (name, error) => {
  const measured = await error(device);
  if (process.env["WICK_PARITY"] === "all")
    process.stdout.write(`${JSON.stringify({ what: name, error: measured, on: device.description })}\n`);
  expect(measured).toBeLessThan(1e-5);
  expect(device.liveBytes).toBe(0);
});
