// A FLUX.1 pipeline from files: a repository in diffusers layout (transformer/, vae/, text_encoder/, …), or single files as the authors and
// ComfyUI publish them (flux1-dev.safetensors, a .gguf, ae.safetensors, t5xxl….safetensors, clip_l.safetensors).

import { derivedWeights, LazyModel, type OpenWeights, RequestError, residency, shiftFromConfig } from "@wick/diffusion";
import type { ModelFiles } from "@wick/hub";
import { type Device, openWeights, translate } from "@wick/tensor";
import { AutoencoderKl, autoencoderKlConfigFromJson, autoencoderKlNames, flux1Autoencoder } from "@wick/vae";
import { type FluxJson, fluxConfigFromJson, fluxConfigFromWeights } from "../configs-json.ts";
import { Flux, type FluxConfig } from "../flux1.ts";
import { flux1Names } from "../names/flux1.ts";
import { type FluxVariant, fluxVariants, variantOf } from "../variants.ts";
import { FluxPipeline } from "./flux-pipeline.ts";
import type { OpenFluxOptions } from "./open-options.ts";
import { openRedux } from "./open-redux.ts";
import { openText } from "./open-text.ts";
import { opening, type Reading } from "./reading.ts";
import { type TransformerStage, transformerStage } from "./transformer-stage.ts";

/** Reads configs and tokenizers; weights are opened when a stage first needs them. */
export async function flux(device: Device, options: OpenFluxOptions): Promise<FluxPipeline> {
  const reading: Reading = {
    ...(options.signal ? { signal: options.signal } : {}),
    ...(options.onDownload ? { onProgress: options.onDownload } : {}),
  };
  const found = await findTransformer(options, reading);
  const variant = await chooseVariant(options, found, reading);
  const transformer = openTransformer(options, { ...found, config: variant.config }, reading);
  const vae = await openVae(options, reading);
  const text = options.text === false ? undefined : await openText(options, variant.maxTextTokens, reading);
  const redux = await openRedux(options, variant.config.textWidth, reading);
  const total = [transformer.whole, vae, text?.t5.weights, text?.clip.weights, redux].reduce(
    (sum, part) => sum + (part?.weightBytes ?? 0),
    0,
  );
  return new FluxPipeline(device, {
    variant,
    text,
    redux,
    transformer,
    vae,
    defaults: { ...variant.defaults, ...options.defaults },
    ...residency(options, total),
    precomputeModulation: options.precomputeModulation ?? false,
  });
}

/** The stored network with the input channels of the wanted one, when those are more: control adapters bring them. */
function widenedFor(wanted: FluxConfig, stored: FluxConfig): FluxConfig {
  const inChannels = Math.round((wanted.inChannels / wanted.outChannels) * stored.outChannels);
  return inChannels > stored.inChannels ? { ...stored, inChannels } : stored;
}

/** A transformer that was found: its configuration, its files, and what else tells its release. */
interface FoundTransformer {
  readonly config: FluxConfig;
  /** Path or glob of the weights. */
  readonly weights: string;
  readonly hints: readonly string[];
}

const singleFiles = "*.{safetensors,gguf,sft}";
const notTransformers = /^(ae|vae|t5|clip|sigc?lip|flux1-redux|diffusion_pytorch_model)/i;

async function findTransformer({ files, transformer, variant }: OpenFluxOptions, reading: Reading): Promise<FoundTransformer> {
  if (transformer === undefined && (await files.has("transformer/config.json", reading))) {
    const config = fluxConfigFromJson(await files.readJson<FluxJson>("transformer/config.json", reading));
    return { config, weights: "transformer/*.safetensors", hints: [await pipelineClass(files, reading), files.name] };
  }
  const candidates = (await files.match(transformer ?? singleFiles, reading)).filter(
    (p) => transformer !== undefined || !notTransformers.test(p),
  );
  if (candidates.length !== 1) {
    const listed = candidates.length > 0 ? candidates.join(", ") : "no transformer/config.json and no single file";
    throw new RequestError("flux", `cannot tell the transformer in ${files.name}: ${listed}; name its file with the option transformer`);
  }
  const [path] = candidates as [string];
  const hints = [path, files.name];
  if (typeof variant === "object") return { config: variant.config, weights: path, hints };
  return { config: await configOfFile(files, path, reading), weights: path, hints };
}

async function pipelineClass(files: ModelFiles, reading: Reading): Promise<string> {
  if (!(await files.has("model_index.json", reading))) return "";
  return String((await files.readJson<{ _class_name?: unknown }>("model_index.json", reading))._class_name ?? "");
}

/** Reads the header only. */
async function configOfFile(files: ModelFiles, path: string, reading: Reading): Promise<FluxConfig> {
  const source = await openWeights(await files.open(path, { ...reading, via: "ranges" }), reading);
  try {
    return fluxConfigFromWeights(translate(source, flux1Names).entries);
  } finally {
    await source.close();
  }
}

async function chooseVariant(
  { files, variant, decorate }: OpenFluxOptions,
  { config: stored, hints }: FoundTransformer,
  reading: Reading,
): Promise<FluxVariant> {
  if (typeof variant === "object") return { ...variant, config: decorate ? widenedFor(variant.config, stored) : stored };
  const named = variant === undefined ? variantOf(stored, hints) : fluxVariants[variant];
  if (!named) throw new RequestError("flux", `unknown variant "${variant}"; known are ${Object.keys(fluxVariants).join(", ")}`);
  const config = decorate ? widenedFor(named.config, stored) : stored;
  if (
    named.config.guidance !== config.guidance ||
    named.config.inChannels / named.config.outChannels !== config.inChannels / config.outChannels
  ) {
    throw new RequestError(
      "flux",
      `the transformer is not of the variant ${named.name}: it has ${config.inChannels} input channels and ${config.guidance ? "a" : "no"} guidance embedder`,
    );
  }
  const scheduler = "scheduler/scheduler_config.json";
  const shift = (await files.has(scheduler, reading)) ? shiftFromConfig(await files.readJson<object>(scheduler, reading)) : named.shift;
  return { ...named, config, shift };
}

function openTransformer(options: OpenFluxOptions, { config, weights }: FoundTransformer, reading: Reading): TransformerStage {
  const declare = () => (options.model ? options.model(config) : new Flux(config));
  const model = declare();
  const open: OpenWeights = async (signal, how) => {
    const bytes = await options.files.openAll(weights, opening(reading, signal, how));
    return derivedWeights(await openWeights(bytes, signal ? { signal } : {}), (source) => {
      const ours = translate(source, flux1Names);
      return options.decorate ? options.decorate(ours, model) : ours;
    });
  };
  return { ...transformerStage(model, open, options.dtype), another: declare };
}

/** The VAE in diffusers layout or as `ae.safetensors`, from `files` or the companions. */
async function openVae(
  { files, companions, vaeConfig = flux1Autoencoder }: OpenFluxOptions,
  reading: Reading,
): Promise<LazyModel<AutoencoderKl>> {
  const single = ["ae.safetensors", "ae.sft"];
  for (const place of [files, ...(companions ? [companions] : [])]) {
    const lazy = (model: AutoencoderKl, weights: string) =>
      new LazyModel({
        name: "vae",
        model,
        open: async (signal, how) =>
          translate(await openWeights(await place.openAll(weights, opening(reading, signal, how))), autoencoderKlNames),
      });
    if (await place.has("vae/config.json", reading)) {
      return lazy(
        new AutoencoderKl(autoencoderKlConfigFromJson(await place.readJson<FluxJson>("vae/config.json", reading))),
        "vae/*.safetensors",
      );
    }
    for (const path of single) if (await place.has(path, reading)) return lazy(new AutoencoderKl(vaeConfig), path);
  }
  throw new RequestError("flux", `${files.name} has neither vae/ nor ae.safetensors; pass companions: a repository that has one`);
}
