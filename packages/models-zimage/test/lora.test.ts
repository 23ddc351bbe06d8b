// Adapter files of every dialect on the tiny Z-Image, merged and attached, against diffusers' own loader.
import { readFileSync } from "node:fs";
import { attachLora, load, withLora } from "@wick/nn";
import { cpu, type Device, memorySource, openSafetensors, readTensorBytes, stripPrefix, translate, type WeightSource } from "@wick/tensor";
import { explainDifference } from "@wick/testing";
import { expect, test } from "vitest";
import { ZImage, type ZImageConfig, zImageLoraNames, zImageNames } from "../src/index.ts";

/** Relative L2 of a whole forward pass in f32; an adapter weaker by 1 % moves it 470 times as far. */
const TOLERANCE = 1e-5;

const config: ZImageConfig = {
  width: 48,
  heads: 3,
  layers: 2,
  refinerLayers: 2,
  ffnWidth: 128,
  latentChannels: 16,
  patch: 2,
  captionWidth: 24,
  conditionWidth: 48,
  timestepWidth: 1024,
  timestepScale: 1000,
  ropeAxes: [4, 6, 6],
  ropeLengths: [160, 32, 32],
  ropeTheta: 256,
  eps: 1e-5,
};

const open = (path: string): Promise<WeightSource> => openSafetensors([memorySource(readFileSync(new URL(path, import.meta.url)), path)]);
const base = stripPrefix(await open("./goldens/z-image.weights.safetensors"), "w.");
const golden = await open("../../nn/test/goldens/lora-z-image.safetensors");
const adapter = (dialect: string): Promise<WeightSource> => open(`../../nn/test/goldens/lora-z-image.${dialect}.safetensors`);
const values = async (name: string): Promise<Float32Array> => new Float32Array((await readTensorBytes(golden, name)).buffer);

/** The reference predicts data - noise at time t; ours gives velocity at sigma = 1 - t. */
async function run(model: ZImage, device: Device): Promise<Float32Array> {
  using latents = device.tensor(await values("in.latents"), [1, 16, 8, 16]);
  using caption = device.tensor(await values("in.cap.0"), [32, 24]);
  const context = model.context([caption], { height: 8, width: 16 });
  using out = model.forward(latents, [1 - (await values("in.t"))[0]!], context);
  const result = ((await out.toArray()) as Float32Array).map((v) => -v);
  for (const t of [context.captions, context.imageRope.cos, context.imageRope.sin, context.jointRope.cos, context.jointRope.sin])
    t.dispose();
  return result;
}

test("the base without an adapter", async () => {
  using device = cpu();
  using model = new ZImage(config);
  await load(model, translate(base, zImageNames), device);
  expect(explainDifference(await run(model, device), await values("out.base"), TOLERANCE)).toBeNull();
  expect(explainDifference(await values("out.base"), await values("out.diffusers"), 1e-2)).not.toBeNull();
});

test.each(["diffusers", "ai-toolkit", "kohya", "fused"])("%s", async (dialect) => {
  using device = cpu();
  using model = new ZImage(config);
  const lora = await adapter(dialect);
  const expected = await values("out.diffusers");
  await load(model, base, device);
  let unmerged: Float32Array;
  {
    using attached = await attachLora(model, lora, { names: zImageLoraNames });
    expect(attached.coverage).toMatchObject({ matched: lora.entries.size, unmatched: [], redundant: [], unsupported: [] });
    unmerged = await run(model, device);
    expect(explainDifference(unmerged, expected, TOLERANCE)).toBeNull();
    attached.scale = 0;
    expect(explainDifference(await run(model, device), await values("out.base"), TOLERANCE)).toBeNull();
  }
  await load(model, withLora(base, lora, 1, { names: zImageLoraNames }), device);
  const merged = await run(model, device);
  expect(explainDifference(merged, expected, TOLERANCE)).toBeNull();
  expect(explainDifference(merged, unmerged, TOLERANCE)).toBeNull();
  model.unload();
  expect(device.liveBytes).toBe(0);
});

test("fused keys beside split ones are left out", async () => {
  const [split, fused] = [await adapter("ai-toolkit"), await adapter("fused")];
  const extra = [...fused.entries].filter(([n]) => n.includes("layers.0.attention.qkv"));
  const both: WeightSource = {
    ...split,
    entries: new Map([...split.entries, ...extra]),
    stream: (name, options) => (split.entries.has(name) ? split : fused).stream(name, options),
  };
  using device = cpu();
  using model = new ZImage(config);
  const merged = withLora(base, both, 1, { names: zImageLoraNames });
  expect(merged.coverage.redundant).toEqual(extra.map(([n]) => n));
  await load(model, merged, device);
  expect(explainDifference(await run(model, device), await values("out.diffusers"), TOLERANCE)).toBeNull();
});
