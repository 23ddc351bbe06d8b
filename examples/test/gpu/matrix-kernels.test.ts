// The blocks of the released models run on tensor cores where there are any, with every kind of weights: f32 activations meet weights of 16 bits and of blocks,
// heads of 64, 128 and 512. On Dawn's null backend with NVIDIA's fragments and workgroup memory, at narrow widths.
import { ClipTextEncoder, clipL, Qwen3, qwen3_4b, T5Encoder, t5Xxl } from "@wick/encoders";
import { Flux, flux1Dev } from "@wick/models-flux";
import { ZImage, zImageTurbo } from "@wick/models-zimage";
import { load, type Module, runBlocks } from "@wick/nn";
import { type Device, type DType, scope, type Tensor, webgpu } from "@wick/tensor";
import { zeroWeights } from "@wick/testing/memory-weights";
import { AutoencoderKl, flux1Autoencoder } from "@wick/vae";
import { expect, test } from "vitest";
import { compileOnly } from "../../../packages/tensor/test/gpu/compile-only.ts";

const nvidia = { m: 16, n: 16, k: 16, input: "f16", subgroupSize: 32 } as const;
const tokens = (n: number): number[] => Array.from({ length: n }, (_, i) => i + 1);

/** "op: kernel" of every dispatch that multiplies, once each. */
async function multiplications(model: Module, dtype: DType, run: (device: Device) => unknown): Promise<string[]> {
  const { gpu, problems } = await compileOnly(49152);
  using device = await webgpu({ gpu, matrix: nvidia, tier: "matrix", software: false });
  using loaded = model;
  await load(loaded, zeroWeights(loaded), device, { dtype });
  const timings = await device.profile(() => {
    scope(() => {
      run(device);
      return [];
    });
  });
  expect(await problems()).toEqual([]);
  // Nine patches of a pixel are not measured one by one.
  expect(timings.filter(({ label }) => /^largest magnitude . conv/.test(label))).toEqual([]);
  const work = timings.filter(({ op, flops }) => /^(matmul|attention|conv)$/.test(op) && flops > 0);
  return [...new Set(work.map(({ op, label }) => `${op}: ${label}`))].sort();
}

/** Products of one row (modulations) are bound by reading their weights. */
const expectMatrices = (found: readonly string[], attention: string, others: readonly string[] = []): void => {
  const matrix = found.filter((l) => / matrix /.test(l));
  expect(matrix.filter((l) => l.startsWith("attention")).join()).toMatch(new RegExp(`^attention: attention ${attention} matrix `));
  expect(matrix.length).toBeGreaterThan(1);
  expect(found.filter((l) => !matrix.includes(l))).toEqual(others);
};

/** A step of one block of each kind. */
function fluxStep(device: Device, model: Flux): Tensor {
  const side = 16;
  const positions = Array.from({ length: side * side }, (_, i) => [0, Math.floor(i / side), i % side]);
  const text = tokens(64).map(() => [0, 0, 0]);
  const context = model.context(device.zeros([1, text.length, model.config.textWidth]), text, positions);
  const condition = model.condition({ sigma: [0.5], y: device.zeros([1, model.config.vectorWidth]), guidance: [3.5] });
  return runBlocks(model.run(device.zeros([1, side * side, 64]), condition, context));
}

test.each(["bf16", "f16", "f32", "q8_0", "q4_K"] as const)("FLUX.1 with %s weights", { timeout: 60_000 }, async (dtype) => {
  const model = new Flux({ ...flux1Dev, width: 256, heads: 2, doubleBlocks: 1, singleBlocks: 1, textWidth: 512, vectorWidth: 256 });
  expectMatrices(await multiplications(model, dtype, (device) => fluxStep(device, model)), "128", ["matmul: matmul 1 rows"]);
});

test.each(["bf16", "q8_0", "q4_K"] as const)("Z-Image with %s weights", { timeout: 60_000 }, async (dtype) => {
  const sizes = { width: 256, heads: 2, ffnWidth: 512, captionWidth: 256, layers: 1, refinerLayers: 1 };
  const model = new ZImage({ ...zImageTurbo, ...sizes });
  const found = await multiplications(model, dtype, (device) => {
    const context = model.context([device.zeros([40, sizes.captionWidth])], { height: 32, width: 32 });
    return model.forward(device.zeros([1, 16, 32, 32]), [0.5], context);
  });
  expectMatrices(found, "128", ["matmul: matmul 1 rows"]);
});

test("text encoders", { timeout: 60_000 }, async () => {
  const t5 = new T5Encoder({ ...t5Xxl, vocabSize: 128, width: 256, heads: 4, ffnWidth: 512, layers: 1 });
  expectMatrices(await multiplications(t5, "bf16", (device) => t5.forward(device, [tokens(100)])), "64");
  const clip = new ClipTextEncoder({ ...clipL, vocabSize: 128, layers: 1, endToken: "largest" });
  expectMatrices(await multiplications(clip, "bf16", (device) => clip.forward(device, [tokens(77)])), "64");
  const qwen = new Qwen3({ ...qwen3_4b, vocabSize: 128, width: 256, heads: 4, kvHeads: 2, ffnWidth: 512, layers: 1 });
  expectMatrices(await multiplications(qwen, "bf16", (device) => qwen.forward(device, [tokens(80)])), "128");
});

test.each(["f32", "bf16"] as const)("the autoencoder in %s, but for its three output channels", { timeout: 60_000 }, async (dtype) => {
  const model = new AutoencoderKl({ ...flux1Autoencoder, channels: [32, 64, 512], blocksPerLevel: 1 });
  const decoded = await multiplications(model, dtype, (device) => model.decode(device.zeros([1, 16, 16, 16], dtype)));
  expectMatrices(decoded, "512", ["conv: conv"]);
});
