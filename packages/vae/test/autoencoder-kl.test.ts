// What encode and decode take and refuse, samples, 16-bit formats, abort between blocks.
import { load, type Module, runBlocksAsync } from "@wick/nn";
import { cpu, scope, type Tensor, torchCpu } from "@wick/tensor";
import { type Numbers, relativeL2, tolerances } from "@wick/testing";
import { inventorySource, readInventory } from "@wick/testing/inventory";
import { expect, test } from "vitest";
import { AutoencoderKl, estimateDecodeBytes } from "../src/index.ts";
import { inputOn, loadKl, openGolden } from "./parity-cases.ts";

const golden = await openGolden("kl-tiled");
const values = async (x: Tensor) => (await x.toArray()) as Numbers;

test("a sample is mean + std · noise, scaled", async () => {
  using device = cpu();
  using model = await loadKl(device, golden);
  using image = inputOn(device, golden, "image");
  using noise = device.randn([1, 16, 7, 5], torchCpu(2));
  using sample = model.encode(image, { noise });
  using wanted = scope(() => {
    const { mean, std } = model.moments(image);
    return mean.add(std.mul(noise)).sub(0.1159).mul(0.3611);
  });
  expect(relativeL2(await values(sample), await values(wanted))).toBeLessThan(1e-6);
  using mean = model.encode(image);
  expect(relativeL2(await values(sample), await values(mean))).toBeGreaterThan(0.1);
});

test("an image in a batch is the image alone, also of one row of latents", async () => {
  using device = cpu();
  using model = await loadKl(device, golden);
  using latents = device.randn([3, 16, 1, 5], torchCpu(4));
  using batch = model.decode(latents);
  expect(batch.shape).toEqual([3, 3, 8, 40]);
  using third = scope(() => model.decode(latents.narrow(0, 2, 1)));
  using part = batch.narrow(0, 2, 1);
  // The smallest tensors of the image alone are computed by the plain loops, whose exponentials round differently.
  expect(relativeL2(await values(part), await values(third))).toBeLessThan(2e-6);
});

for (const dtype of ["f16", "bf16"] as const) {
  test(`${dtype} weights and activations stay within the tolerance of autoencoders`, async () => {
    using device = cpu();
    using model = await loadKl(device, golden);
    using z = inputOn(device, golden, "z");
    using latents = model.scaleLatents(z);
    await load(model, golden.weights, device, { dtype });
    using stored = model.decode(latents);
    const expected = golden.outputs.get("untiled.image")!.values;
    expect(stored.dtype).toBe("f32");
    const weightsOnly = relativeL2(await values(stored), expected);
    using all = scope(() => model.decode(latents.to(dtype)));
    expect(all.dtype).toBe(dtype);
    const everything = relativeL2(await values(all), expected);
    expect(weightsOnly).toBeLessThan(tolerances.vae[dtype]);
    // Forty layers of rounded activations: looser than the policy of f32 activations, tighter than 16-bit pictures need.
    expect(everything).toBeLessThan(1.5 * tolerances.vae[dtype]);
    expect(everything).toBeGreaterThan(weightsOnly / 2);
  });
}

test("wrong shapes are refused", () => {
  using device = cpu();
  using model = new AutoencoderKl();
  using square = device.zeros([1, 3, 24, 20]);
  using grey = device.zeros([1, 1, 24, 24]);
  using z = device.zeros([1, 4, 3, 3]);
  using flat = device.zeros([16, 3, 3]);
  using good = device.zeros([2, 3, 16, 16]);
  using noise = device.zeros([1, 16, 2, 2]);
  expect(() => model.encode(square)).toThrowErrorMatchingInlineSnapshot(
    `[ShapeError: encode: the sides of an image are multiples of 8 pixels: 24 x 20 (height x width); crop, pad or resize it]`,
  );
  expect(() => model.moments(grey)).toThrowErrorMatchingInlineSnapshot(
    `[ShapeError: encode: an image is [b, 3, h, w]: full f32 [1, 1, 24, 24]]`,
  );
  expect(() => model.decode(z)).toThrowErrorMatchingInlineSnapshot(
    `[ShapeError: decode: latents are [b, 16, h, w]: full f32 [1, 4, 3, 3]]`,
  );
  expect(() => model.decode(flat)).toThrowErrorMatchingInlineSnapshot(
    `[ShapeError: decode: latents are [b, 16, h, w]: full f32 [16, 3, 3]]`,
  );
  expect(() => model.encode(good, { noise })).toThrowErrorMatchingInlineSnapshot(
    `[ShapeError: encode: noise is [2, 16, 2, 2]: full f32 [1, 16, 2, 2]]`,
  );
});

test("a run stops between blocks when aborted, and nothing stays", async () => {
  using device = cpu();
  using model = await loadKl(device, golden);
  using latents = device.randn([2, 16, 7, 5], torchCpu(2));
  const held = device.liveBytes;
  const batch = { budgetBytes: estimateDecodeBytes(model.config, { height: 56, width: 40 }, { batch: 2 }).activationBytes - 1 };
  for (const { at, ...options } of [{ at: 15 }, { at: 40, tile: { size: 32, overlap: 0.25 } }, { at: 30, ...batch }]) {
    const stop = new AbortController();
    let seen = 0;
    const before = () => {
      if (++seen === at) stop.abort(new Error("enough"));
    };
    await expect(runBlocksAsync(device, model.runDecode(latents, options), { signal: stop.signal, before })).rejects.toThrow("enough");
    expect(seen).toBe(at);
    expect(device.liveBytes).toBe(held);
  }
});

test("a run block by block gives what decode gives, and names every block once", async () => {
  using device = cpu();
  using model = await loadKl(device, golden);
  using latents = device.randn([1, 16, 3, 2], torchCpu(2));
  const blocks = new Set<Module>();
  using paused = await runBlocksAsync(device, model.runDecode(latents), { before: (block) => void blocks.add(block) });
  using plain = model.decode(latents);
  expect(await values(paused)).toEqual(await values(plain));
  expect(blocks.size).toBe(1 + 3 + 4 * 3 + 3 + 2);
});

test("a checkpoint of another network is reported in full and leaves nothing behind", async () => {
  using device = cpu();
  using model = new AutoencoderKl();
  const names = readInventory("autoencoder-kl");
  const { "decoder.conv_in.weight": _, ...rest } = names;
  const spoiled = inventorySource({ ...rest, "decoder.conv_out.bias": [4], "quant_conv.weight": [64, 64, 1, 1] });
  await expect(load(model, spoiled, device)).rejects.toThrowErrorMatchingInlineSnapshot(`
    [CheckpointMismatchError: load: the checkpoint does not fit AutoencoderKl: 1 missing, 1 unused, 1 misshapen
      1 missing from the checkpoint:
        decoder.conv_in.weight
      1 in the checkpoint but not in the model:
        quant_conv.weight
      1 of another shape:
        decoder.conv_out.bias: the model has [3], the checkpoint [4]
      if the names follow another layout, rename them: remap(source, rules)
      what is new in the model gets initial values, what it does without is allowed: withInitial(source, model, …), allowUnused]
  `);
  expect(device.liveBytes).toBe(0);
});
