// Tiled runs against diffusers, and what tiles may be.
import { cpu, type Tensor, torchCpu } from "@wick/tensor";
import { type Numbers, relativeL2 } from "@wick/testing";
import { expect, test } from "vitest";
import { AutoencoderKl } from "../src/index.ts";
import { decodeGrid, diffusersTiles, encodeGrid } from "../src/tiling.ts";
import { goldenTiles, inputOn, klTiledErrors, loadKl, openGolden } from "./parity-cases.ts";

const values = async (x: Tensor) => (await x.toArray()) as Numbers;

test("decode and encode in tiles are those of diffusers", async () => {
  using device = cpu();
  const { image, mean, untiled } = await klTiledErrors(device);
  expect(image).toBeLessThan(2e-6);
  expect(mean).toBeLessThan(2e-6);
  expect(untiled).toBeGreaterThan(0.01);
  expect(device.liveBytes).toBe(0);
});

test("another overlap or size is noticed", async () => {
  using device = cpu();
  expect((await klTiledErrors(device, { size: 32, overlap: 0.5 })).image).toBeGreaterThan(1e-3);
  expect((await klTiledErrors(device, { size: 40, overlap: 0.2 })).image).toBeGreaterThan(1e-3);
});

test("an image that fits one tile is not cut", async () => {
  using device = cpu();
  const golden = await openGolden("kl-tiled");
  using model = await loadKl(device, golden);
  using z = inputOn(device, golden, "z");
  using whole = model.decode(z, { tile: "never" });
  using tiled = model.decode(z, { tile: { size: 56, overlap: 0 } });
  expect(await values(tiled)).toEqual(await values(whole));
});

test("a batch in tiles is its images in tiles", async () => {
  using device = cpu();
  const golden = await openGolden("kl-tiled");
  using model = await loadKl(device, golden);
  using latents = device.randn([2, 16, 6, 9], torchCpu(3));
  using both = model.decode(latents, { tile: goldenTiles });
  using second = latents.narrow(0, 1, 1);
  using alone = model.decode(second, { tile: goldenTiles });
  using part = both.narrow(0, 1, 1);
  expect(relativeL2(await values(part), await values(alone))).toBeLessThan(1e-6);
  expect(both.shape).toEqual([2, 3, 48, 72]);
});

test("diffusers' defaults cut 1024 pixels or 128 latents every 96 latents", () => {
  expect(decodeGrid(diffusersTiles, 8)).toEqual({ tile: 128, stride: 96, blend: 256, keep: 768 });
  expect(encodeGrid(diffusersTiles, 8)).toEqual({ tile: 1024, stride: 768, blend: 32, keep: 96 });
});

test("tiles are whole latents", async () => {
  using device = cpu();
  using model = new AutoencoderKl();
  using latents = device.zeros([1, 16, 8, 8]);
  expect(() => model.decode(latents, { tile: { size: 36, overlap: 0.25 } })).toThrowErrorMatchingInlineSnapshot(
    `[ShapeError: decode: tiles of 36 pixels with overlap 0.25 do not consist of whole latents of 8 pixels]`,
  );
  expect(() => model.decode(latents, { tile: { size: 40, overlap: 0.25 } })).toThrowErrorMatchingInlineSnapshot(
    `[ShapeError: decode: tiles of 40 pixels with overlap 0.25 do not consist of whole latents of 8 pixels]`,
  );
  expect(() => model.decode(latents, { tile: { size: 32, overlap: 1 } })).toThrowErrorMatchingInlineSnapshot(
    `[ShapeError: decode: tiles of 32 pixels with overlap 1 do not consist of whole latents of 8 pixels]`,
  );
});
