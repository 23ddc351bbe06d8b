// The autoencoders on WebGPU: every module against diffusers, tiles, memory against the estimate, small bindings and buffers.
import { cpu, type Device, torchCpu, webgpu } from "@wick/tensor";
import { type Numbers, relativeL2 } from "@wick/testing";
import { afterAll, beforeAll, expect, test } from "vitest";
import { autoencoderKlConfigFromJson, estimateDecodeBytes, type RunOptions } from "../../src/index.ts";
import { klDecodeParity, klEncodeParity, klTiledErrors, loadKl, openGolden, tinyParity, worst } from "../parity-cases.ts";

let device: Device;
beforeAll(async () => {
  device = await webgpu();
});
afterAll(() => {
  expect(device.liveBytes).toBe(0);
  device.destroy();
});

test("every module agrees with diffusers", async () => {
  const compared = [...(await klEncodeParity(device)), ...(await klDecodeParity(device)), ...(await tinyParity(device))];
  expect(compared.length).toBe(70 + 88 + 97);
  expect(worst(compared)).toBeLessThan(1e-5);
}, 300_000);

test("tiled runs agree with diffusers", async () => {
  const { image, mean } = await klTiledErrors(device);
  expect(Math.max(image, mean)).toBeLessThan(1e-5);
}, 300_000);

test("a decode takes the memory that was estimated, whole and in automatic tiles", async () => {
  using model = await loadKl(device, await openGolden("kl-tiled"));
  for (const options of [{}, { budgetBytes: 3.5 * 2 ** 20 }]) {
    const { peakBytes } = estimateDecodeBytes(model.config, { height: 192, width: 192 }, options);
    device.resetPeak();
    using latents = device.randn([1, 16, 24, 24], torchCpu(1));
    using image = model.decode(latents, options);
    await image.toArray();
    expect(Math.abs(device.peakBytes / peakBytes - 1)).toBeLessThan(0.15);
  }
}, 300_000);

async function decoded(on: Device, options: RunOptions = {}): Promise<Numbers> {
  using model = await loadKl(on, await openGolden("kl-tiled"));
  using latents = on.randn([1, 16, 24, 24], torchCpu(1));
  using image = model.decode(latents, options);
  return (await image.toArray()) as Numbers;
}

test("bindings far smaller than a tensor change nothing; buffers smaller than a tensor mean tiles", async () => {
  using host = cpu();
  const whole = await decoded(host);
  const size = { height: 192, width: 192 };
  const config = autoencoderKlConfigFromJson((await openGolden("kl-tiled")).config);
  const { largestTensorBytes } = estimateDecodeBytes(config, size);
  using narrow = await webgpu({ maxBindingBytes: largestTensorBytes / 8 });
  expect(relativeL2(await decoded(narrow), whole)).toBeLessThan(1e-5);
  using small = await webgpu({ maxBufferBytes: largestTensorBytes - 1 });
  const cut = await decoded(small);
  expect(relativeL2(cut, whole)).toBeGreaterThan(1e-3);
  expect(relativeL2(cut, await decoded(host, { tile: { size: 128, overlap: 0.25 } }))).toBeLessThan(1e-5);
}, 300_000);
