// Where the transformer's weights are: the folder transformer/ of a repository, or a single file as ComfyUI and GGUF releases have it, whose
// configuration lies with its companions.
import { type OpenWeights, RequestError } from "@wick/diffusion";
import type { ByteProgress, ModelFiles } from "@wick/hub";
import { openSafetensors, openWeights } from "@wick/tensor";

/** Options of every read. */
export interface Reading {
  /** Stops reading. */
  readonly signal?: AbortSignal;
  /** Called as bytes arrive. */
  readonly onProgress?: (progress: ByteProgress) => void;
}

/** Where to look. */
export interface TransformerPlace {
  readonly files: ModelFiles;
  /** A single file: a path or glob in `files`. */
  readonly transformer?: string | undefined;
  /** A repository with everything but the transformer's weights. */
  readonly companions?: ModelFiles | undefined;
}

const singleFiles = "*.{safetensors,gguf,sft}";
const notTransformers = /^(ae|vae|qwen|text_encoder|diffusion_pytorch_model)/i;
const configFile = "transformer/config.json";

/** Weights of one folder of a repository; where only headers are wanted, nothing is downloaded for them. */
export const folderWeights =
  (files: ModelFiles, folder: string, reading: Reading): OpenWeights =>
  async (stop, how) =>
    openSafetensors(await files.openAll(`${folder}/*.safetensors`, openOptions(reading, stop, how)));

const openOptions = (reading: Reading, stop?: AbortSignal, how?: Parameters<OpenWeights>[1]) => ({
  ...reading,
  ...(stop ? { signal: stop } : {}),
  ...(how?.headersOnly ? ({ via: "ranges" } as const) : {}),
});

/**
 * The transformer's weights, and where its configuration and the other parts are. Throws RequestError when the file cannot be told, or when it is
 * alone.
 */
export async function findTransformer(
  place: TransformerPlace,
  reading: Reading,
): Promise<{ readonly open: OpenWeights; readonly configs: ModelFiles; readonly rest: ModelFiles }> {
  const { files, transformer, companions } = place;
  const isWhole = await files.has("text_encoder/config.json", reading);
  const rest = isWhole || !companions ? files : companions;
  const hasFolder = await files.has(configFile, reading);
  const configs = hasFolder ? files : rest;
  if (transformer === undefined && hasFolder) return { open: folderWeights(files, "transformer", reading), configs, rest };
  const path = await singleFile(place, reading);
  if (!isWhole && !companions)
    throw new RequestError(
      "zImage",
      `${files.name} is a transformer alone; pass companions: a repository that has configs, text encoder and VAE, such as Tongyi-MAI/Z-Image-Turbo`,
    );
  const open: OpenWeights = async (stop, how) =>
    openWeights(await files.open(path, openOptions(reading, stop, how)), stop ? { signal: stop } : {});
  return { open, configs, rest };
}

async function singleFile({ files, transformer }: TransformerPlace, reading: Reading): Promise<string> {
  const found = await files.match(transformer ?? singleFiles, reading);
  const candidates = transformer === undefined ? found.filter((path) => !notTransformers.test(path)) : found;
  if (candidates.length === 1) return candidates[0]!;
  const listed = candidates.length > 0 ? candidates.join(", ") : `no ${configFile} and no single file`;
  throw new RequestError("zImage", `cannot tell the transformer in ${files.name}: ${listed}; name its file with the option transformer`);
}
