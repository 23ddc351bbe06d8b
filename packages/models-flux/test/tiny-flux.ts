// Pipelines at the goldens' tiny widths, and what the pipeline goldens hold.
import { LazyModel } from "@wick/diffusion";
import { siglipConfigFromJson, siglipNames } from "@wick/encoders";
import type { Image } from "@wick/image";
import { type Device, hold, renameAll, scope, type Tensor, translate, type WeightSource } from "@wick/tensor";
import { type GoldenTensor, goldenInput, type ModuleGolden, readModuleGolden } from "@wick/testing/module-golden";
import { AutoencoderKl, autoencoderKlConfigFromJson, autoencoderKlNames } from "@wick/vae";
import {
  Flux,
  type FluxConfig,
  FluxPipeline,
  type FluxPipelineParts,
  type FluxVariant,
  fluxVariants,
  ReduxPrior,
  transformerStage,
  unpackLatents,
} from "../src/index.ts";
import { joined } from "../src/pipelines/open-redux.ts";
import { configOf, type FluxGolden, goldenUrl, openGolden, tensorOf, weightsOf } from "./parity-cases.ts";

export const readPipelineGolden = (name: string): Promise<ModuleGolden> => readModuleGolden(goldenUrl(`pipeline-${name}`));
const vaeGolden = (): Promise<ModuleGolden> => readModuleGolden(new URL("../../vae/test/goldens/kl-tiled.safetensors", import.meta.url));

export interface TinyOptions
  extends Partial<Pick<FluxPipelineParts, "keepLoaded" | "memory" | "precomputeModulation" | "defaults" | "text" | "redux">> {
  readonly variant?: FluxVariant;
  /** Changes of the network's constants, for tests that must fail. */
  readonly changes?: Partial<FluxConfig>;
  /** Replaces the transformer's weights. */
  readonly decorate?: (source: WeightSource) => WeightSource;
}

/** A pipeline with the weights of the transformer golden `name` and the goldens' tiny VAE. */
export async function tinyFlux(device: Device, name: FluxGolden, options: TinyOptions = {}): Promise<FluxPipeline> {
  const golden = await openGolden(name);
  const known = { dev: "dev", schnell: "schnell", kontext: "kontext-dev", fill: "fill-dev", control: "canny-dev" }[name];
  const config = { ...configOf(golden), ...options.changes };
  const variant = { ...(options.variant ?? fluxVariants[known]!), config };
  const model = new Flux(config);
  const weights = async () => (options.decorate ?? ((s) => s))(await weightsOf(golden, "black-forest-labs"));
  const vae = await vaeGolden();
  return new FluxPipeline(device, {
    variant,
    text: options.text,
    redux: options.redux,
    transformer: transformerStage(model, weights),
    vae: new LazyModel({
      name: "vae",
      model: new AutoencoderKl(autoencoderKlConfigFromJson(vae.config)),
      open: async () => translate(vae.weights, autoencoderKlNames),
    }),
    defaults: { ...variant.defaults, width: 80, height: 48, ...options.defaults },
    keepLoaded: options.keepLoaded ?? true,
    memory: options.memory,
    precomputeModulation: options.precomputeModulation ?? false,
  });
}

/** SigLIP of the encoders' golden with the embedder of the pipeline golden. */
export async function tinyRedux(): Promise<LazyModel<ReduxPrior>> {
  const golden = await readPipelineGolden("redux");
  const siglip = await readModuleGolden(new URL("../../encoders/test/goldens/siglip.safetensors", import.meta.url));
  const encoder = siglipConfigFromJson(siglip.config);
  const model = new ReduxPrior({ encoder, embedder: { featureWidth: encoder.width, textWidth: 24 } });
  const prefix = "image_embedder.";
  const embedder = renameAll(golden.weights, (name) => (name.startsWith(prefix) ? name.slice(prefix.length) : undefined));
  const open = async () => joined({ image_encoder: translate(siglip.weights, siglipNames), image_embedder: embedder });
  return new LazyModel({ name: "redux", model, open, blocks: model.image_encoder.encoder.layers });
}

/** A stored picture [h, w, 3]. */
export function pictureOf({ shape, values }: GoldenTensor): Image {
  return { width: shape[1]!, height: shape[0]!, rgb: values as Uint8Array };
}

/** Inputs of a pipeline golden as a request has them; owned by the caller. */
export function requestInputs(device: Device, golden: ModuleGolden) {
  const input = (name: string): Tensor => tensorOf(device, goldenInput(golden, name));
  const embeddings = (prefix: string) => ({ text: input(`${prefix}txt`), pooled: input(`${prefix}y`) });
  const [height, width] = [Number(golden.metadata.get("height")), Number(golden.metadata.get("width"))];
  const unpacked = (tokens: Tensor) => {
    using owned = hold(tokens);
    return scope(() => unpackLatents(owned.value, { rows: height / 16, columns: width / 16 }).contiguous());
  };
  return {
    height,
    width,
    embeddings: embeddings(""),
    ...(golden.inputs.has("negative_txt") ? { negativeEmbeddings: embeddings("negative_") } : {}),
    ...(golden.inputs.has("image_rgb") ? { image: pictureOf(goldenInput(golden, "image_rgb")) } : {}),
    ...(golden.inputs.has("mask_rgb") ? { mask: pictureOf(goldenInput(golden, "mask_rgb")) } : {}),
    ...(golden.inputs.has("latents") ? { latents: unpacked(input("latents")) } : {}),
  };
}

/** Packed latents [b, c, h, w] as the goldens hold them. */
export async function packedValues(latents: Tensor): Promise<Float32Array> {
  using tokens = hold(scope(() => latents.rearrange("b c (h p) (w q) -> b (h w) (c p q)", { p: 2, q: 2 })));
  return (await tokens.value.toArray()) as Float32Array;
}
