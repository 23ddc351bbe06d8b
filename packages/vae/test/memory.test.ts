// Memory estimated before a run and measured after it, and the tiles that follow from limits.
import { cpu, torchCpu } from "@wick/tensor";
import { expect, test } from "vitest";
import {
  autoencoderKlConfigFromJson,
  type EstimateOptions,
  estimateDecodeBytes,
  estimateEncodeBytes,
  flux1Autoencoder,
  taef1,
} from "../src/index.ts";
import { loadKl, loadTiny, openGolden } from "./parity-cases.ts";

const golden = await openGolden("kl-tiled");
const config = autoencoderKlConfigFromJson(golden.config);
const gib = 2 ** 30;
const mib = 2 ** 20;

async function measured(half: "encode" | "decode", rows: number, columns: number, options: EstimateOptions = {}): Promise<number> {
  using device = cpu();
  using model = await loadKl(device, golden);
  const shape = half === "decode" ? [options.batch ?? 1, 16, rows, columns] : [options.batch ?? 1, 3, 8 * rows, 8 * columns];
  device.resetPeak();
  using input = device.randn(shape, torchCpu(1), (options.dtype as "f32") ?? "f32");
  using _out = model[half](input, options);
  return device.peakBytes;
}

const cases: readonly [rows: number, columns: number, options: EstimateOptions][] = [
  [4, 4, {}],
  [16, 12, {}],
  [5, 9, { batch: 3 }],
  [16, 16, { tile: { size: 64, overlap: 0.25 } }],
  [24, 24, { budgetBytes: 3.5 * mib }],
  [8, 8, { dtype: "bf16" }],
];
for (const [rows, columns, options] of cases) {
  test(`the estimate of ${rows} x ${columns} latents ${JSON.stringify(options)} is what is measured`, async () => {
    const size = { height: 8 * rows, width: 8 * columns };
    for (const [half, estimate] of [
      ["decode", estimateDecodeBytes],
      ["encode", estimateEncodeBytes],
    ] as const) {
      const { peakBytes, activationBytes } = estimate(config, size, options);
      const actual = await measured(half, rows, columns, options);
      expect(Math.abs(actual / peakBytes - 1), half).toBeLessThan(0.02);
      if (options.budgetBytes) expect(activationBytes).toBeLessThanOrEqual(options.budgetBytes);
    }
  });
}

test("the tiny autoencoder is estimated as it is measured, whole and in tiles", async () => {
  using device = cpu();
  const { model } = await loadTiny(device);
  using _ = model;
  const size = { height: 160, width: 128 };
  for (const options of [{}, { tile: { size: 64, overlap: 0.125 } }]) {
    const { peakBytes } = estimateDecodeBytes(model.config, size, options);
    device.resetPeak();
    using latents = device.randn([1, 16, 20, 16], torchCpu(1));
    using _out = model.decode(latents, options);
    expect(Math.abs(device.peakBytes / peakBytes - 1)).toBeLessThan(0.02);
  }
  const large = estimateDecodeBytes(taef1, { height: 1024, width: 1024 });
  expect(large.weightBytes).toBe(2_458_899 * 4);
  expect(large.largestTensorBytes).toBe(gib / 4);
});

test("1024 x 1024 pixels of the released autoencoder: figures", () => {
  const size = { height: 1024, width: 1024 };
  const whole = estimateDecodeBytes(flux1Autoencoder, size);
  expect(whole.weightBytes).toBe(83_819_683 * 4);
  expect(whole.largestTensorBytes).toBe(gib);
  expect(whole.peakBytes / gib).toBeCloseTo(2.81, 1);
  const split = estimateDecodeBytes(flux1Autoencoder, size, { maxTensorBytes: 128 * mib });
  expect(split.largestTensorBytes).toBeLessThanOrEqual(128 * mib);
  expect(split.peakBytes).toBeLessThan(gib);
  const half = estimateDecodeBytes(flux1Autoencoder, size, { dtype: "bf16", weightDType: "bf16" });
  expect(half.activationBytes / whole.activationBytes).toBeCloseTo(0.5, 2);
  expect(estimateEncodeBytes(flux1Autoencoder, size).peakBytes).toBeLessThan(2 * gib);
});

test("a batch that does not fit goes image by image before it is cut", () => {
  const size = { height: 128, width: 128 };
  const one = estimateDecodeBytes(config, size).activationBytes;
  const four = estimateDecodeBytes(config, size, { batch: 4 }).activationBytes;
  const each = estimateDecodeBytes(config, size, { batch: 4, budgetBytes: four - 1 });
  expect(four).toBeGreaterThan(3 * one);
  expect(each.activationBytes).toBeLessThan(2 * one);
  expect(each.largestTensorBytes).toBe(estimateDecodeBytes(config, size).largestTensorBytes);
});

test("automatic tiles give the image that tiles of their size give", async () => {
  using device = cpu();
  using model = await loadKl(device, golden);
  using latents = device.randn([1, 16, 24, 40], torchCpu(5));
  const { activationBytes } = estimateDecodeBytes(config, { height: 192, width: 320 }, { tile: { size: 192, overlap: 0.25 } });
  using auto = model.decode(latents, { budgetBytes: activationBytes });
  using fixed = model.decode(latents, { tile: { size: 192, overlap: 0.25 } });
  expect(await auto.toArray()).toEqual(await fixed.toArray());
});

test("what cannot be made to fit is refused before anything is computed", async () => {
  using device = cpu();
  using model = await loadKl(device, golden);
  using latents = device.zeros([1, 16, 40, 24]);
  expect(() => model.decode(latents, { budgetBytes: mib })).toThrowErrorMatchingInlineSnapshot(
    `[OutOfMemoryError: decode: the smallest tiles, 128 pixels, need 3.1 MiB in all, there is room for 1.0 MiB: input [1, 16, 40, 24]; use a smaller image or a 16-bit dtype]`,
  );
  expect(() => estimateDecodeBytes(config, { height: 64, width: 64 }, { maxTensorBytes: 2 ** 16 })).toThrowErrorMatchingInlineSnapshot(
    `[OutOfMemoryError: decode: the smallest tiles, 128 pixels, need 0.3 MiB in one tensor, there is room for 0.1 MiB: input [1, 16, 8, 8]; use a smaller image or a 16-bit dtype]`,
  );
});
