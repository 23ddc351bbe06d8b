// A pipeline with the weights of the transformer golden and the goldens' tiny VAE, and its comparison with diffusers, on any device.
import { LazyModel } from "@wick/diffusion";
import type { Image } from "@wick/image";
import { ZImage, ZImagePipeline, type ZImagePipelineParts, type ZImageRequest, zImageConfigFromJson } from "@wick/models-zimage";
import { type Device, hold, renameAll, scope, translate, type WeightSource } from "@wick/tensor";
import { relativeL2 } from "@wick/testing";
import { goldenInput, type ModuleGolden, readModuleGolden } from "@wick/testing/module-golden";
import { AutoencoderKl, autoencoderKlConfigFromJson, autoencoderKlNames } from "@wick/vae";
import { captionsOf, openGolden } from "./parity-cases.ts";

const vaeGolden = (): Promise<ModuleGolden> => readModuleGolden(new URL("../../vae/test/goldens/kl-tiled.safetensors", import.meta.url));

export interface TinyPipelineOptions extends Partial<Pick<ZImagePipelineParts, "keepLoaded" | "memory" | "shift">> {
  /** Replaces the transformer's weights. */
  readonly decorate?: (source: WeightSource) => WeightSource;
  /** Replaces the autoencoder's weights. */
  readonly decorateVae?: (source: WeightSource) => WeightSource;
}

const same = (source: WeightSource): WeightSource => source;

/** Takes embeddings only: it has no text encoder. */
export async function tinyPipeline(device: Device, options: TinyPipelineOptions = {}): Promise<ZImagePipeline> {
  const golden = await openGolden("pipeline-turbo");
  const vae = await vaeGolden();
  const model = new ZImage(zImageConfigFromJson(golden.config));
  return new ZImagePipeline(device, {
    text: undefined,
    transformer: new LazyModel({
      name: "transformer",
      model,
      blocks: model.blocks,
      open: async () => (options.decorate ?? same)(renameAll(golden.weights, (n) => n)),
    }),
    vae: new LazyModel({
      name: "vae",
      model: new AutoencoderKl(autoencoderKlConfigFromJson(vae.config)),
      open: async () => (options.decorateVae ?? same)(translate(vae.weights, autoencoderKlNames)),
    }),
    shift: options.shift ?? { kind: "static", shift: 3 },
    defaults: { width: 80, height: 48, steps: 8, guidance: 0 },
    keepLoaded: options.keepLoaded ?? true,
    memory: options.memory,
  });
}

/** Room for the latents and activations, and for this part of what streaming saves. */
export async function limitFor(device: Device, request: ZImageRequest, part: number): Promise<number> {
  using pipe = await tinyPipeline(device, { keepLoaded: false });
  const { total, least } = await pipe.parts.transformer.bytes();
  const denoise = (await pipe.plan(request)).memory.stages.find((s) => s.stage === "denoise")!;
  return denoise.activationBytes + least + Math.floor(part * (total - least));
}

/** The golden's inputs as a request has them; the tensors are the caller's. */
export function requestOf(device: Device, golden: ModuleGolden) {
  const options = JSON.parse(golden.metadata.get("options")!) as Record<string, number | boolean | undefined>;
  const latents = golden.inputs.get("latents");
  const number = (key: string) => (typeof options[key] === "number" ? (options[key] as number) : undefined);
  const negatives = captionsOf(device, golden, "negative");
  return {
    promptEmbeds: captionsOf(device, golden),
    ...(negatives.length > 0 ? { negativePromptEmbeds: negatives } : {}),
    ...(latents ? { latents: device.tensor(latents.values as Float32Array, latents.shape) } : {}),
    ...(golden.inputs.has("picture") ? { image: pictureOf(golden, "picture"), posterior: "sample" as const } : {}),
    ...(golden.inputs.has("mask") ? { mask: pictureOf(golden, "mask") } : {}),
    steps: number("steps"),
    seed: number("seed"),
    strength: number("strength"),
    guidance: number("guidance"),
    guidanceTruncation: number("truncation"),
    guidanceNormalization: number("normalization"),
  };
}

function pictureOf(golden: ModuleGolden, name: string): Image {
  const { shape, values } = goldenInput(golden, name);
  const [height, width] = shape as [number, number];
  const channels = shape[2] ?? 1;
  const rgb = Uint8Array.from({ length: width * height * 3 }, (_, i) => values[channels === 3 ? i : Math.floor(i / 3)]!);
  return { width, height, rgb };
}

export interface PipelineComparison {
  /** Relative L2 of the latents after every step. */
  readonly steps: readonly number[];
  /** Largest difference of the noise levels. */
  readonly sigmas: number;
  /** Relative L2 of the decoded picture in -1…1. */
  readonly image: number;
}

/** Runs the pipeline golden `name`; `changes` are for tests that must fail. */
export async function comparePipeline(
  device: Device,
  name: string,
  changes: Partial<ZImageRequest> = {},
  options: TinyPipelineOptions = {},
): Promise<PipelineComparison> {
  const golden = await openGolden(`pipeline-${name}`);
  using pipe = await tinyPipeline(device, options);
  using given = hold(requestOf(device, golden));
  const request: ZImageRequest = { ...given.value, ...changes };
  const expected = (path: string) => golden.outputs.get(path)!.values;
  const run = pipe.steps(request);
  const steps: number[] = [];
  let step = await run.next();
  for (; !step.done; step = await run.next()) {
    steps.push(relativeL2((await step.value.latents.toArray()) as Float32Array, expected(`latents.${step.value.index}`)));
  }
  using latents = hold(step.value);
  const vae = await pipe.parts.vae.ensure(device);
  using pixels = hold(scope(() => vae.decode(latents.value)));
  const { sigmas } = pipe.check(request);
  const wanted = Array.from(expected("sigmas")).slice(-sigmas.length);
  return {
    steps,
    sigmas: Math.max(...sigmas.map((s, i) => Math.abs(s - wanted[i]!))),
    image: relativeL2((await pixels.value.toArray()) as Float32Array, expected("image")),
  };
}
