// The released FLUX.1 networks without their weights: summary, and the memory plan of a request at the released size.
import { LazyModel, type MemoryLimits } from "@wick/diffusion";
import { ClipTextEncoder, clipL, clipNames, siglipNames, T5Encoder, t5Names, t5Xxl } from "@wick/encoders";
import { type Module, namedParameters, summary } from "@wick/nn";
import { type Device, type DType, dryRun, type NameFamily, translate } from "@wick/tensor";
import { inventorySource, readInventory } from "@wick/testing/inventory";
import { AutoencoderKl, flux1Autoencoder } from "@wick/vae";
import { describe, expect, test } from "vitest";
import {
  Flux,
  FluxPipeline,
  type FluxRequest,
  flux1Dev,
  flux1Redux,
  flux1ReduxPrior,
  fluxVariants,
  Redux,
  ReduxPrior,
  type TextStage,
  transformerStage,
} from "../src/index.ts";
import { joined } from "../src/pipelines/open-redux.ts";
import { encoderActivations } from "../src/pipelines/open-text.ts";

interface Opened {
  readonly memory?: MemoryLimits;
  readonly dtype?: DType;
  readonly precomputeModulation?: boolean;
}

const shapesOfModule = (model: Module) => Object.fromEntries([...namedParameters(model)].map(([name, p]) => [name, p.shape]));

/** Sources of names and shapes only. */
function releasedPipeline(device: Device, release: string, { memory, dtype, precomputeModulation = false }: Opened = {}): FluxPipeline {
  const variant = fluxVariants[release]!;
  const inventory = { fill: "fill", depth: "control", canny: "control", schnell: "schnell" }[release.split("-")[0]!] ?? "dev";
  const lazy = <M extends Module>(name: string, model: M, blocks: readonly Module[], stored: string, names: NameFamily) =>
    new LazyModel({ name, model, blocks, dtype, open: async () => translate(inventorySource(readInventory(stored)), names) });
  const stage = (
    weights: LazyModel<T5Encoder> | LazyModel<ClipTextEncoder>,
    twin: () => T5Encoder | ClipTextEncoder,
    tokens: number,
  ): TextStage => ({
    encoder: { tokens: () => [], encode: () => Promise.reject(new Error("there are no weights")) },
    weights,
    activationBytes: encoderActivations(weights, twin, tokens),
  });
  const [t5, clip, vae] = [new T5Encoder(t5Xxl), new ClipTextEncoder(clipL), new AutoencoderKl(flux1Autoencoder)];
  const prior = new ReduxPrior(flux1ReduxPrior);
  return new FluxPipeline(device, {
    variant,
    redux: new LazyModel({
      name: "redux",
      model: prior,
      open: async () =>
        joined({
          image_encoder: translate(inventorySource(readInventory("siglip-so400m")), siglipNames),
          image_embedder: inventorySource(shapesOfModule(new Redux(flux1Redux))),
        }),
    }),
    text: {
      t5: stage(lazy("text_encoder_2", t5, t5.encoder.block, "t5-xxl", t5Names), () => new T5Encoder(t5Xxl), variant.maxTextTokens),
      clip: stage(lazy("text_encoder", clip, clip.encoder.layers, "clip-l", clipNames), () => new ClipTextEncoder(clipL), clipL.positions),
    },
    transformer: transformerStage(new Flux(variant.config), async () => inventorySource(readInventory(`flux1-${inventory}`)), dtype),
    vae: new LazyModel({ name: "vae", model: vae, open: async () => inventorySource(readInventory("autoencoder-kl")) }),
    defaults: variant.defaults,
    keepLoaded: false,
    precomputeModulation,
    memory,
  });
}

const gib = 2 ** 30;
const picture = { width: 1024, height: 1024, rgb: new Uint8Array(3 * 1024 * 1024) };

async function planned(release: string, opened: Opened = {}, request: Partial<FluxRequest> = {}): Promise<string[]> {
  const { device } = dryRun();
  const { memory } = await releasedPipeline(device, release, opened).plan({ prompt: "a fox", ...request });
  expect(device.liveBytes).toBe(0);
  return memory.stages.map(
    ({ stage, weightBytes, activationBytes, streamBytes }) =>
      `${stage} ${(weightBytes / gib).toFixed(2)} + ${(activationBytes / gib).toFixed(2)} GiB${streamBytes === undefined ? "" : ", streamed"}`,
  );
}

describe("memory plans of 1024 x 1024", () => {
  test("dev in bf16, in q4_K, and within 8 GiB with modulations made ahead", async () => {
    expect(await planned("dev")).toMatchInlineSnapshot(`
      [
        "encodePooled 0.23 + 0.01 GiB",
        "encode 8.87 + 0.20 GiB",
        "denoise 22.17 + 0.55 GiB",
        "decode 0.16 + 2.50 GiB",
      ]
    `);
    expect(await planned("dev", { dtype: "q4_K" })).toMatchInlineSnapshot(`
      [
        "encodePooled 0.12 + 0.01 GiB",
        "encode 2.67 + 0.20 GiB",
        "denoise 6.32 + 0.55 GiB",
        "decode 0.16 + 2.50 GiB",
      ]
    `);
    expect(await planned("dev", { memory: { maxGpuBytes: 8 * gib }, precomputeModulation: true })).toMatchInlineSnapshot(`
      [
        "encodePooled 0.23 + 0.01 GiB",
        "encode 7.80 + 0.20 GiB, streamed",
        "modulate 6.07 + 0.12 GiB",
        "denoise 7.34 + 0.66 GiB, streamed",
        "decode 0.16 + 2.50 GiB",
      ]
    `);
    await expect(planned("dev", { memory: { maxGpuBytes: gib } })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[MemoryError: plan: denoise needs 1330.9 MiB, maxGpuBytes is 1024.0 MiB: weights 770.5 MiB of 22700.1 MiB, everything else 560.4 MiB; use precomputeModulation: true, or a smaller dtype (q8_0, q4_K), or a smaller picture, or maxGpuBytes of 1395552384]`,
    );
  });

  test("dev with Redux beside a prompt", async () => {
    expect((await planned("dev", {}, { redux: [{ image: picture }] })).slice(2)).toMatchInlineSnapshot(`
      [
        "encodeRedux 0.89 + 0.09 GiB",
        "denoise 22.17 + 0.65 GiB",
        "decode 0.16 + 2.50 GiB",
      ]
    `);
  });

  test("of the other releases", async () => {
    const given: Record<string, Partial<FluxRequest>> = {
      schnell: {},
      "krea-dev": {},
      "kontext-dev": { image: picture },
      "fill-dev": { image: picture, mask: picture },
      "depth-dev": { image: picture },
      "canny-dev": { image: picture },
    };
    expect(Object.keys(given).sort()).toEqual(
      Object.keys(fluxVariants)
        .filter((name) => name !== "dev")
        .sort(),
    );
    const plans: Record<string, string> = {};
    for (const [release, request] of Object.entries(given)) plans[release] = (await planned(release, {}, request)).slice(2).join("; ");
    expect(plans).toMatchInlineSnapshot(`
      {
        "canny-dev": "encodePicture 0.16 + 1.52 GiB; denoise 22.17 + 0.55 GiB; decode 0.16 + 2.50 GiB",
        "depth-dev": "encodePicture 0.16 + 1.52 GiB; denoise 22.17 + 0.55 GiB; decode 0.16 + 2.50 GiB",
        "fill-dev": "encodePicture 0.16 + 1.53 GiB; denoise 22.17 + 0.56 GiB; decode 0.16 + 2.50 GiB",
        "kontext-dev": "encodePicture 0.16 + 1.52 GiB; denoise 22.17 + 1.02 GiB; decode 0.16 + 2.50 GiB",
        "krea-dev": "denoise 22.17 + 0.55 GiB; decode 0.16 + 2.50 GiB",
        "schnell": "denoise 22.15 + 0.51 GiB; decode 0.16 + 2.50 GiB",
      }
    `);
  });
});

test("dev has a summary", () => {
  expect(summary(new Flux(flux1Dev), { depth: 1 }).toString()).toMatchInlineSnapshot(`
    "Flux                       11.90 B, bf16 23.80 GB
      img_in Linear            199.7 K, bf16 399.4 kB
      time_in MlpEmbedder      10.23 M, bf16 20.46 MB
      vector_in MlpEmbedder    11.80 M, bf16 23.61 MB
      guidance_in MlpEmbedder  10.23 M, bf16 20.46 MB
      txt_in Linear            12.59 M, bf16 25.17 MB
      double_blocks            6.457 B, bf16 12.91 GB
      single_blocks            5.380 B, bf16 10.76 GB
      final_layer LastLayer    19.08 M, bf16 38.15 MB"
  `);
});
