// The models the command line can run, by the pipeline class that a repository's model_index.json names.
import { fileURLToPath } from "node:url";
import type { BaseRequest } from "@wick/diffusion";
import type { ByteProgress, ModelFiles } from "@wick/hub";
import type { Image } from "@wick/image";
import type { LoraCoverage, LoraWeightSource, Module } from "@wick/nn";
import type { Device, DType, NameRules, Tensor, WeightSource } from "@wick/tensor";
import { CliError, UsageError } from "../cli-error.ts";
import type { ScaledFile } from "../option-types.ts";
import { embeddedName } from "./embedded.ts";
import { findFiles, type HubOptions } from "./find-files.ts";
import type { VariedPicture } from "./redux.ts";
import { UsedFiles } from "./used-files.ts";

/** A finished step with a look at the picture so far. */
export interface PainterStep {
  readonly index: number;
  readonly count: number;
  readonly elapsedMs: number;
  preview(): Promise<readonly Image[]>;
}

/** What commands need of a pipeline; the pipelines of the model packages are such. */
export interface Painter extends Disposable {
  readonly parts: { readonly defaults: PainterDefaults; readonly keepLoaded: boolean };
  /** By name, for profiles. */
  readonly networks: Readonly<Record<string, Module>>;
  steps(request: PaintRequest): AsyncGenerator<PainterStep, Tensor, void>;
  decode(latents: Tensor, request: PaintRequest): Promise<readonly Image[]>;
}

/** What a request leaves out. */
export interface PainterDefaults {
  readonly width: number;
  readonly height: number;
  readonly steps: number;
  readonly guidance: number;
}

export interface PaintRequest extends Omit<BaseRequest, "prompt"> {
  /** Absent where pictures to vary stand alone. */
  readonly prompt?: string | undefined;
  readonly negativePrompt?: string | undefined;
  readonly guidance?: number | undefined;
  /** FLUX: classifier-free guidance beside the distilled one. */
  readonly trueCfg?: number | undefined;
  /** FLUX: pictures to vary. */
  readonly redux?: readonly VariedPicture[] | undefined;
  /** What to start from, edit, fill or follow. */
  readonly image?: Image | undefined;
  readonly strength?: number | undefined;
  /** White is made anew, black is kept. */
  readonly mask?: Image | undefined;
}

/** How to open a model. */
export interface OpenModelOptions extends HubOptions {
  readonly model?: string | undefined;
  readonly revision?: string | undefined;
  readonly dtype?: DType | undefined;
  readonly textEncoderDType?: DType | undefined;
  /** Most device memory that a picture may take. */
  readonly maxGpuBytes?: number | undefined;
  /** The transformer's single file in the model's place. */
  readonly transformer?: string | undefined;
  /** A repository or folder with the parts that the model's place lacks. */
  readonly companions?: string | undefined;
  /** Repository or folder of FLUX.1 Redux, for requests with pictures to vary. */
  readonly redux?: string | undefined;
  /** False: requests have no prompts, so that text encoders are not looked for. */
  readonly text?: boolean | undefined;
  readonly loras?: readonly ScaledFile[] | undefined;
  readonly signal: AbortSignal;
  readonly onDownload?: ((progress: ByteProgress) => void) | undefined;
  readonly onNotice?: ((text: string) => void) | undefined;
  /** Called once for each adapter, with what of it is used. */
  readonly onAdapter?: ((path: string, coverage: LoraCoverage) => void) | undefined;
}

/** A model found and understood; weights are read when they are needed. */
export interface OpenedModel extends Disposable {
  readonly painter: Painter;
  readonly isEmbedded: boolean;
  /** What was asked for: "embedded", a repository or a path. */
  readonly name: string;
  /** Commit of a repository. */
  readonly revision: string | undefined;
  /** Class in model_index.json. */
  readonly pipeline: string;
  readonly files: UsedFiles;
  /** Numbers the noise is drawn in. */
  readonly noiseDType: "f32" | "bf16";
}

interface Family {
  readonly noiseDType: "f32" | "bf16";
  readonly open: (device: Device, parts: FamilyParts) => Promise<Painter>;
}

/** What a family's pipeline is made from. */
interface FamilyParts {
  readonly files: ModelFiles;
  readonly companions: ModelFiles | undefined;
  readonly redux: ModelFiles | undefined;
  readonly options: OpenModelOptions;
  readonly defaults: Partial<PainterDefaults>;
}

const zImageFamily: Family = {
  noiseDType: "f32",
  open: async (device, { files, companions, options, defaults }) => {
    const { zImage, zImageLoraNames } = await import("@wick/models-zimage");
    const { dtype, textEncoderDType, maxGpuBytes, signal, onDownload, transformer } = options;
    const decorate = adapting(options, zImageLoraNames);
    const weights = { files, companions, transformer, dtype, textEncoderDType, decorate };
    return zImage(device, { ...weights, maxGpuBytes, signal, onDownload, defaults });
  },
};

const fluxFamily: Family = {
  noiseDType: "bf16",
  open: async (device, { files, companions, redux, options, defaults }) => {
    const { flux, flux1LoraNames } = await import("@wick/models-flux");
    const { dtype, textEncoderDType, maxGpuBytes, signal, onDownload, transformer, text } = options;
    const decorate = adapting(options, flux1LoraNames);
    return flux(device, {
      files,
      companions,
      redux,
      text,
      transformer,
      dtype,
      textEncoderDType,
      maxGpuBytes,
      // The modulations' weights go first, which leaves more room for the others.
      precomputeModulation: maxGpuBytes !== undefined,
      signal,
      onDownload,
      defaults,
      decorate,
    }) as Promise<Painter>;
  },
};

/** Pipelines by class name. */
export const families: Readonly<Record<string, Family>> = {
  ZImagePipeline: zImageFamily,
  FluxPipeline: fluxFamily,
  FluxKontextPipeline: fluxFamily,
  FluxFillPipeline: fluxFamily,
  FluxControlPipeline: fluxFamily,
};

/** Merges the adapters of --lora, in order, as the weights are read. */
function adapting({ loras = [], signal, onAdapter }: OpenModelOptions, names: readonly NameRules[]) {
  if (loras.length === 0) return undefined;
  const reported = new Set<string>();
  return async (base: WeightSource): Promise<WeightSource> => {
    const [{ openWeights }, { withLora }] = await Promise.all([import("@wick/tensor"), import("@wick/nn")]);
    let source = base;
    const opened: WeightSource[] = [];
    try {
      for (const { path, scale } of loras) {
        opened.push(await openWeights(path, { signal }));
        const adapted = merged(withLora, source, opened.at(-1)!, { path, scale, names });
        if (!reported.has(path)) onAdapter?.(path, adapted.coverage);
        reported.add(path);
        source = adapted;
      }
      return source;
    } catch (error) {
      await Promise.all(opened.map((lora) => lora.close()));
      throw error;
    }
  };
}

/** `withLora`, whose complaints name the file. */
function merged(
  withLora: typeof import("@wick/nn")["withLora"],
  base: WeightSource,
  lora: WeightSource,
  { path, scale, names }: { readonly path: string; readonly scale: number; readonly names: readonly NameRules[] },
): LoraWeightSource {
  try {
    return withLora(base, lora, scale, { names });
  } catch (error) {
    const { message, detail = message } = error as Error & { readonly detail?: string };
    throw new CliError(`${path}: ${detail}`, 1, { cause: error });
  }
}

/** Opens the embedded model, a repository or a folder. */
export async function openModel(device: Device, options: OpenModelOptions): Promise<OpenedModel> {
  const { model = embeddedName, signal } = options;
  const isEmbedded = model === embeddedName;
  const files = new UsedFiles(isEmbedded ? await embeddedFiles() : await findFiles(model, options));
  if (options.revision !== undefined && (isEmbedded || (await files.revision({ signal })) === undefined))
    throw new UsageError(`--revision is for repositories, which ${model} is not; leave it out`);
  const pipeline = await pipelineClass(files, model, options);
  const family = families[pipeline];
  if (pipeline === "FluxPriorReduxPipeline")
    throw new CliError(
      `${model} varies pictures for another model; use --model black-forest-labs/FLUX.1-dev --redux PICTURE --redux-model ${model}`,
    );
  if (!family) {
    throw new CliError(`${model} is a ${pipeline}, which is not supported; supported are ${Object.keys(families).join(" and ")}`);
  }
  if (options.redux !== undefined && family !== fluxFamily)
    throw new UsageError("--redux is for FLUX; name such a model, as in --model black-forest-labs/FLUX.1-dev");
  const beside = async (place: string | undefined) =>
    place === undefined ? undefined : await findFiles(place, { ...options, revision: undefined });
  const [companions, redux] = [await beside(options.companions), await beside(options.redux)];
  const painter = await family.open(device, { files, companions, redux, options, defaults: isEmbedded ? await embeddedDefaults() : {} });
  const revision = isEmbedded ? undefined : await files.revision({ signal });
  return {
    painter,
    isEmbedded,
    name: model,
    revision,
    pipeline,
    files,
    noiseDType: family.noiseDType,
    [Symbol.dispose]: () => painter[Symbol.dispose](),
  };
}

async function embeddedFiles(): Promise<ModelFiles> {
  const [{ localFolder }, { tinyZImage }] = await Promise.all([import("@wick/hub"), import("@wick/tiny-zimage")]);
  return localFolder(fileURLToPath(tinyZImage.modelUrl));
}

async function embeddedDefaults(): Promise<Partial<PainterDefaults>> {
  const { defaults } = (await import("@wick/tiny-zimage")).tinyZImage;
  return { width: defaults.widthPixels, height: defaults.heightPixels, steps: defaults.steps, guidance: defaults.guidance };
}

/** The class in model_index.json, or what the weights of a lone file say. */
async function pipelineClass(files: ModelFiles, model: string, { transformer, signal, onDownload }: OpenModelOptions): Promise<string> {
  const reading = { signal, ...(onDownload ? { onProgress: onDownload } : {}) };
  if (await files.has("model_index.json", reading)) {
    const index = await files.readJson<{ _class_name?: unknown }>("model_index.json", reading);
    return typeof index._class_name === "string" ? index._class_name : "model without a pipeline class";
  }
  for (const path of await files.match(transformer ?? "*.{safetensors,gguf,sft}", reading)) {
    const pipeline = await pipelineOfFile(files, path, signal);
    if (pipeline !== undefined) return pipeline;
  }
  throw new CliError(
    `${model} has no model_index.json and no file of FLUX.1 or Z-Image; give a repository or folder in diffusers layout, or look at it with wick inspect`,
  );
}

/** The pipeline that a transformer's single file is for, by the names in its header. */
async function pipelineOfFile(files: ModelFiles, path: string, signal: AbortSignal): Promise<string | undefined> {
  const [{ openWeights }, { recognise }] = await Promise.all([import("@wick/tensor"), import("./recognise.ts")]);
  const source = await openWeights(await files.open(path, { via: "ranges", signal }), { signal });
  try {
    const { architecture = "" } = recognise(source) ?? {};
    if (architecture.startsWith("FLUX.1")) return "FluxPipeline";
    return architecture === "Z-Image" ? "ZImagePipeline" : undefined;
  } finally {
    await source.close();
  }
}
