// The released Z-Image without its weights: summary, memory plan, and a block in the formats that checkpoints come in.
import { LazyModel, type MemoryLimits } from "@wick/diffusion";
import { ZImage, ZImageBlock, ZImagePipeline, zImageTurbo } from "@wick/models-zimage";
import { fusedAttention, load, namedParameters, ropeTables, summary } from "@wick/nn";
import { cpu, type Device, type DType, dryRun, hold, scope, type Tensor, torchCpu } from "@wick/tensor";
import { relativeL2 } from "@wick/testing";
import { inventorySource, readInventory } from "@wick/testing/inventory";
import { randomWeights } from "@wick/testing/memory-weights";
import { AutoencoderKl, flux1Autoencoder } from "@wick/vae";
import { describe, expect, test } from "vitest";

/** Sources of names and shapes only. */
function releasedPipeline(device: Device, memory: MemoryLimits, dtype?: DType): ZImagePipeline {
  const model = new ZImage(zImageTurbo);
  const vae = new AutoencoderKl(flux1Autoencoder);
  return new ZImagePipeline(device, {
    text: undefined,
    transformer: new LazyModel({
      name: "transformer",
      model,
      blocks: model.blocks,
      dtype,
      open: async () => inventorySource(readInventory("z-image")),
    }),
    vae: new LazyModel({ name: "vae", model: vae, open: async () => inventorySource(readInventory("autoencoder-kl")) }),
    shift: { kind: "static", shift: 3 },
    defaults: { width: 1024, height: 1024, steps: 8, guidance: 0 },
    keepLoaded: false,
    memory,
  });
}

describe("the released size", () => {
  const gib = 2 ** 30;
  const planned = async (memory: MemoryLimits, dtype?: DType) => {
    const { device } = dryRun();
    using caption = hold(device.empty([77, 2560]));
    const plan = await releasedPipeline(device, memory, dtype).plan({ promptEmbeds: [caption.value] });
    return plan.memory.stages.map((s) => `${s.stage} ${(s.weightBytes / gib).toFixed(2)} + ${(s.activationBytes / gib).toFixed(2)} GiB`);
  };

  test("has a plan for 1024 x 1024 in bf16, q4_K, and within 8 GiB", async () => {
    expect(await planned({})).toMatchInlineSnapshot(`
      [
        "denoise 11.46 + 1.11 GiB",
        "decode 0.16 + 2.50 GiB",
      ]
    `);
    expect(await planned({}, "q4_K")).toMatchInlineSnapshot(`
      [
        "denoise 4.20 + 1.11 GiB",
        "decode 0.16 + 2.50 GiB",
      ]
    `);
    expect(await planned({ maxGpuBytes: 8 * gib })).toMatchInlineSnapshot(`
      [
        "denoise 6.89 + 1.11 GiB",
        "decode 0.16 + 2.50 GiB",
      ]
    `);
    await expect(planned({ maxGpuBytes: gib / 2 })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[MemoryError: plan: denoise needs 1502.7 MiB, maxGpuBytes is 512.0 MiB: weights 367.7 MiB of 11739.6 MiB, everything else 1135.0 MiB; use a smaller dtype (q8_0, q4_K), or a smaller picture, or maxGpuBytes of 1575707264]`,
    );
  });

  test("has a summary", () => {
    expect(summary(new ZImage(zImageTurbo), { depth: 1 }).toString()).toMatchInlineSnapshot(`
      "ZImage                         6.155 B, bf16 12.31 GB
        all_x_embedder               249.6 K, bf16 499.2 kB
        all_final_layer              1.233 M, bf16 2.465 MB
        noise_refiner                361.8 M, bf16 723.6 MB
        context_refiner              353.9 M, bf16 707.9 MB
        t_embedder TimestepEmbedder  525.6 K, bf16 1.051 MB
        cap_embedder Sequential      9.837 M, bf16 19.67 MB
        x_pad_token [1, 3840]        3.840 K, bf16 7.680 kB
        cap_pad_token [1, 3840]      3.840 K, bf16 7.680 kB
        layers                       5.427 B, bf16 10.85 GB"
    `);
  });
});

/** A quarter of the width, the same proportions: heads of 128, feed-forward 8/3. */
const narrow = { ...zImageTurbo, width: 1024, heads: 8, ffnWidth: 2816 };

function runBlock(device: Device, block: ZImageBlock): Tensor {
  return scope(() => {
    const tokens = 32;
    const x = device.randn([1, tokens, narrow.width], torchCpu(2));
    const condition = device.randn([1, narrow.conditionWidth], torchCpu(3)).mul(0.1);
    const positions = [Array.from({ length: tokens }, (_, i) => [33, Math.floor(i / 8), i % 8])];
    const rope = ropeTables(device, positions, { widths: narrow.ropeAxes, theta: narrow.ropeTheta });
    return block.forward(x, rope, { condition });
  });
}

test.each(["bf16", "f16", "q8_0", "q4_K"] as const)("a wide block with %s weights is what its expanded weights give", async (dtype) => {
  using device = cpu();
  const make = () => new ZImageBlock(narrow, { modulated: true, attention: fusedAttention });
  using stored = make();
  await load(stored, randomWeights(stored), device, { dtype });
  using expanded = make();
  const from = new Map(namedParameters(stored));
  for (const [name, parameter] of namedParameters(expanded)) {
    using values = hold(from.get(name)!.to("f32").copy());
    parameter.fill(values.value);
  }
  using got = hold(runBlock(device, stored));
  using want = hold(runBlock(device, expanded));
  expect(stored.feed_forward.w1.weight.loadedDType).toBe(dtype);
  expect(relativeL2((await got.value.toArray()) as Float32Array, (await want.value.toArray()) as Float32Array)).toBeLessThan(1e-5);
});
