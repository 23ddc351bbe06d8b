// A small trained Z-Image model that comes with the package: where its files are, what it can draw, how to sample it.
// It knows no tensors; load the files with @wick/models-zimage or read them as you like.
import { names, type TinyZImageName } from "./names.ts";

export { names as tinyZImageNames, type TinyZImageName } from "./names.ts";
export { isTrainedPrompt, nearestNames } from "./nearest.ts";

/** Path of a file a pipeline reads, as in a diffusers folder. */
export type TinyZImageFile =
  | "model_index.json"
  | "scheduler/scheduler_config.json"
  | "text_encoder/config.json"
  | "text_encoder/model.safetensors"
  | "tokenizer/tokenizer.json"
  | "tokenizer/tokenizer_config.json"
  | "transformer/config.json"
  | "transformer/diffusion_pytorch_model.safetensors"
  | "vae/config.json"
  | "vae/diffusion_pytorch_model.safetensors";

/** Literal URLs, so that bundlers see and copy every file. */
const files: Readonly<Record<TinyZImageFile, URL>> = {
  "model_index.json": new URL("../model/model_index.json", import.meta.url),
  "scheduler/scheduler_config.json": new URL("../model/scheduler/scheduler_config.json", import.meta.url),
  "text_encoder/config.json": new URL("../model/text_encoder/config.json", import.meta.url),
  "text_encoder/model.safetensors": new URL("../model/text_encoder/model.safetensors", import.meta.url),
  "tokenizer/tokenizer.json": new URL("../model/tokenizer/tokenizer.json", import.meta.url),
  "tokenizer/tokenizer_config.json": new URL("../model/tokenizer/tokenizer_config.json", import.meta.url),
  "transformer/config.json": new URL("../model/transformer/config.json", import.meta.url),
  "transformer/diffusion_pytorch_model.safetensors": new URL("../model/transformer/diffusion_pytorch_model.safetensors", import.meta.url),
  "vae/config.json": new URL("../model/vae/config.json", import.meta.url),
  "vae/diffusion_pytorch_model.safetensors": new URL("../model/vae/diffusion_pytorch_model.safetensors", import.meta.url),
};

/** What the package offers: the model's place, its files, what it can draw and how to sample it. */
export interface TinyZImage {
  /** As its model card calls it. */
  readonly name: string;
  /** Folder of the model: a file: URL in Node. Bundled code reads single `files` instead, whose names a bundler may change. */
  readonly modelUrl: URL;
  /** Every file by its path in the folder. */
  readonly files: Readonly<Record<TinyZImageFile, URL>>;
  /** What it can draw. */
  readonly names: readonly TinyZImageName[];
  /** Settings it was made for. prediction = positive + guidance * (positive - negative). */
  readonly defaults: {
    /** The only width it was trained on. */
    readonly widthPixels: number;
    /** The only height it was trained on. */
    readonly heightPixels: number;
    /** Model steps. */
    readonly steps: number;
    /** Scale of classifier-free guidance. */
    readonly guidance: number;
    /** What guidance steers away from. */
    readonly negativePrompt: string;
  };
}

/** The model: 64x64 emoji, 22.7 MB of bf16 weights in the layout of a diffusers repository. */
export const tinyZImage: TinyZImage = {
  name: "tiny-zimage-emoji",
  // From a file no bundler inlines: a data: URL is no base.
  modelUrl: new URL("../", files["transformer/diffusion_pytorch_model.safetensors"]),
  files,
  names,
  defaults: { widthPixels: 64, heightPixels: 64, steps: 12, guidance: 3, negativePrompt: "" },
};
