// FLUX.1's text encoders and tokenizers from a repository in diffusers layout, or from the single files t5xxl… and clip_l….
import { activationBytes, LazyModel, type ModelBytes, RequestError, walkBlocks } from "@wick/diffusion";
import {
  ClipPromptEncoder,
  ClipTextEncoder,
  clipConfigFromJson,
  clipL,
  clipNames,
  clipTokenizer,
  T5Encoder,
  T5PromptEncoder,
  type TokenizerFiles,
  t5ConfigFromJson,
  t5Names,
  t5Tokenizer,
  t5Xxl,
} from "@wick/encoders";
import type { ModelFiles } from "@wick/hub";
import type { BlockRun, Module } from "@wick/nn";
import { type Device, hold, type NameFamily, openWeights, translate } from "@wick/tensor";
import { type FoundPart, findPart } from "./find-part.ts";
import type { OpenFluxOptions } from "./open-options.ts";
import type { TextStage } from "./parts.ts";
import { opening, type Reading } from "./reading.ts";

/** A text stage whose weights say how large they are. */
interface OpenedText extends TextStage {
  readonly weights: LazyModel<Module>;
}

/** Reads configs and tokenizers; throws RequestError naming what neither `files` nor the companions have. */
export async function openText(
  options: OpenFluxOptions,
  maxTokens: number,
  reading: Reading,
): Promise<{ readonly t5: OpenedText; readonly clip: OpenedText }> {
  const places = [options.files, ...(options.companions ? [options.companions] : [])];
  const clip = await find(places, { folder: "text_encoder", single: "clip_l*.{safetensors,gguf}" }, reading);
  const t5 = await find(places, { folder: "text_encoder_2", single: "t5*xxl*.{safetensors,gguf}" }, reading);
  const clipModel = new ClipTextEncoder(clip.config ? clipConfigFromJson(clip.config) : clipL);
  const t5Model = new T5Encoder(t5.config ? t5ConfigFromJson(t5.config) : t5Xxl);
  const clipFiles = await tokenizerFiles(places, "tokenizer", reading);
  const t5Files = await tokenizerFiles(places, "tokenizer_2", reading);
  const lazy = <M extends Module>(name: string, model: M, blocks: readonly Module[], { place, weights }: FoundPart, names: NameFamily) =>
    new LazyModel({
      name,
      model,
      blocks,
      open: async (signal, how) => translate(await openWeights(await place.openAll(weights, opening(reading, signal, how))), names),
      dtype: options.textEncoderDType,
    });
  const t5Weights = lazy("text_encoder_2", t5Model, t5Model.encoder.block, t5, t5Names);
  const clipWeights = lazy("text_encoder", clipModel, clipModel.encoder.layers, clip, clipNames);
  return {
    t5: {
      encoder: new T5PromptEncoder(t5Tokenizer(t5Files), t5Model, { maxLength: maxTokens }),
      weights: t5Weights,
      network: t5Model,
      activationBytes: encoderActivations(t5Weights, () => new T5Encoder(t5Model.config), maxTokens),
    },
    clip: {
      encoder: new ClipPromptEncoder(clipTokenizer(clipFiles), clipModel),
      weights: clipWeights,
      network: clipModel,
      activationBytes: encoderActivations(clipWeights, () => new ClipTextEncoder(clipModel.config), clipModel.config.positions),
    },
  };
}

/** A text encoder that runs on token ids. */
interface RunnableEncoder extends Module {
  run(device: Device, ids: readonly (readonly number[])[]): BlockRun<unknown>;
}

/** Measures an encoder on a prompt of `tokens`, on a twin without data. */
export const encoderActivations = (weights: LazyModel<Module>, twin: () => RunnableEncoder, tokens: number) => (bytes: ModelBytes) =>
  activationBytes(twin(), weights.policy, bytes.stored, (model, device) => {
    using _ = hold(walkBlocks(model.run(device, [new Array<number>(tokens).fill(0)])));
  });

async function find(places: readonly ModelFiles[], part: { folder: string; single: string }, reading: Reading): Promise<FoundPart> {
  return (await findPart(places, part, reading)) ?? missing(places, `neither ${part.folder}/ nor ${part.single}`);
}

const missing = (places: readonly ModelFiles[], what: string): never => {
  const names = places.map((p) => p.name).join(" and ");
  throw new RequestError("flux", `${names}: ${what}; pass companions: a repository that has it, or text: false to bring embeddings`);
};

/** Whatever tokenizer files the first place with such a folder has. */
async function tokenizerFiles(places: readonly ModelFiles[], folder: string, reading: Reading): Promise<TokenizerFiles> {
  const texts = ["tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"];
  for (const place of places) {
    const present = await place.match(`${folder}/*`, reading);
    if (present.length === 0) continue;
    const has = (name: string) => present.includes(`${folder}/${name}`);
    const found: Record<string, string | Uint8Array> = {};
    // tokenizer.json says all that the vocabulary files say.
    const skipped = has("tokenizer.json") ? ["vocab.json", "merges.txt"] : [];
    for (const name of texts.filter((n) => has(n) && !skipped.includes(n)))
      found[name] = await place.readText(`${folder}/${name}`, reading);
    if (!has("tokenizer.json") && has("spiece.model")) found["spiece.model"] = await bytesOf(place, `${folder}/spiece.model`, reading);
    return found as TokenizerFiles;
  }
  return missing(places, `no ${folder}/`);
}

async function bytesOf(place: ModelFiles, path: string, reading: Reading): Promise<Uint8Array> {
  const source = await place.open(path, reading);
  try {
    return await source.read(0, source.sizeBytes);
  } finally {
    await source.close();
  }
}
