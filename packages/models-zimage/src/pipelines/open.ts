// A Z-Image pipeline from a repository in diffusers layout (model_index.json, transformer/, text_encoder/, tokenizer/, vae/, scheduler/), or from a
// transformer's single file beside such a repository.
import { derivedWeights, LazyModel, type ResidencyOptions, residency, shiftFromConfig } from "@wick/diffusion";
import { Qwen3, qwen3ConfigFromJson, qwenTokenizer, type TokenizerFiles } from "@wick/encoders";
import type { ByteProgress, ModelFiles } from "@wick/hub";
import type { DTypePolicy } from "@wick/nn";
import { type Device, type DType, stripPrefix, translate, type WeightSource } from "@wick/tensor";
import { AutoencoderKl, autoencoderKlConfigFromJson } from "@wick/vae";
import { zImageConfigFromJson } from "../configs-json.ts";
import { zImageNames } from "../names/z-image.ts";
import { ZImage, type ZImageConfig } from "../z-image.ts";
import type { ZImageDefaults } from "./request.ts";
import { findTransformer, folderWeights } from "./transformer-files.ts";
import { ZImagePipeline } from "./z-image-pipeline.ts";

/** Where a Z-Image pipeline comes from, in which formats, and how much memory it may take. */
export interface OpenZImageOptions extends ResidencyOptions {
  /** A repository or folder in diffusers layout, or the transformer's single file (safetensors, GGUF) with `companions`. */
  readonly files: ModelFiles;
  /** The transformer's single file, a path or glob in `files`; default `transformer/`, or the one such file in the root. */
  readonly transformer?: string | undefined;
  /** A repository or folder in diffusers layout with everything but the transformer's weights. */
  readonly companions?: ModelFiles | undefined;
  /** Format of the transformer's weights on the device; default as stored. */
  readonly dtype?: DType | DTypePolicy | undefined;
  /** Format of the text encoder's weights; default as stored. */
  readonly textEncoderDType?: DType | DTypePolicy | undefined;
  /** Makes the network: a variant, such as `(config) => new ZImage(config, { attention })`. Called again for memory plans. */
  readonly model?: ((config: ZImageConfig) => ZImage) | undefined;
  /** Changes the transformer's weights under our names on their way in, e.g. `(source) => withLora(source, lora, 0.8)`. */
  readonly decorate?: ((source: WeightSource, model: ZImage) => WeightSource | Promise<WeightSource>) | undefined;
  /** What requests leave out; default 1024 x 1024, 8 steps, guidance 0. */
  readonly defaults?: Partial<ZImageDefaults> | undefined;
  /** Stops opening. */
  readonly signal?: AbortSignal | undefined;
  /** Bytes of files on their way. */
  readonly onDownload?: ((progress: ByteProgress) => void) | undefined;
}

type Json = Readonly<Record<string, unknown>>;

/** Reads configs and the tokenizer; weights are opened when a stage first needs them. */
export async function zImage(device: Device, options: OpenZImageOptions): Promise<ZImagePipeline> {
  const { signal, onDownload } = options;
  const reading = { ...(signal ? { signal } : {}), ...(onDownload ? { onProgress: onDownload } : {}) };
  const found = await findTransformer(options, reading);
  const { rest } = found;
  const [transformerJson, encoderJson, vaeJson, schedulerJson] = await Promise.all([
    found.configs.readJson<Json>("transformer/config.json", reading),
    ...["text_encoder/config.json", "vae/config.json", "scheduler/scheduler_config.json"].map((path) => rest.readJson<Json>(path, reading)),
  ]);
  const encoderConfig = qwen3ConfigFromJson(encoderJson!);
  // hidden_states[-2]: the last layer and the final norm are never needed.
  const qwen = new Qwen3(encoderConfig, { layers: encoderConfig.layers - 1 });
  const textEncoder = new LazyModel({
    name: "text_encoder",
    model: qwen,
    blocks: qwen.layers,
    open: async (stop, how) => stripPrefix(await folderWeights(rest, "text_encoder", reading)(stop, how), "model."),
    dtype: options.textEncoderDType,
    allowUnused: new RegExp(`^(layers\\.${encoderConfig.layers - 1}\\.|norm\\.|lm_head\\.)`),
  });
  const config = zImageConfigFromJson(transformerJson!);
  const declare = () => (options.model ? options.model(config) : new ZImage(config));
  const network = declare();
  const transformer = new LazyModel({
    name: "transformer",
    model: network,
    blocks: network.blocks,
    open: async (stop, how): Promise<WeightSource> => {
      return derivedWeights(await found.open(stop, how), (source) => {
        const ours = translate(source, zImageNames);
        return options.decorate ? options.decorate(ours, network) : ours;
      });
    },
    dtype: options.dtype,
  });
  const autoencoder = new AutoencoderKl(autoencoderKlConfigFromJson(vaeJson!));
  const vae = new LazyModel({ name: "vae", model: autoencoder, open: folderWeights(rest, "vae", reading) });
  const total = textEncoder.weightBytes + transformer.weightBytes + vae.weightBytes;
  return new ZImagePipeline(device, {
    text: { tokenizer: qwenTokenizer(await tokenizerFiles(rest, reading)), encoder: textEncoder },
    transformer,
    anotherTransformer: declare,
    vae,
    shift: shiftFromConfig(schedulerJson!),
    defaults: { width: 1024, height: 1024, steps: 8, guidance: 0, ...options.defaults },
    ...residency(options, total),
  });
}

/** Whatever tokenizer files the repository has. */
async function tokenizerFiles(files: ModelFiles, reading: object): Promise<TokenizerFiles> {
  const names = ["tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "chat_template.jinja"] as const;
  const found: Record<string, string> = {};
  for (const name of names) {
    // tokenizer.json says all that these two say.
    if (found["tokenizer.json"] && (name === "vocab.json" || name === "merges.txt")) continue;
    if (await files.has(`tokenizer/${name}`, reading)) found[name] = await files.readText(`tokenizer/${name}`, reading);
  }
  return found;
}
