// The files of three released repositories, by their real names and layouts, at tiny widths with seeded random weights: the configurations,
// tokenizers, shards and indices are as published, only counts and widths are smaller. (FLUX's tokenizer_2 lacks tokenizer.json: the
// reader takes spiece.model instead.)
import {
  ClipTextEncoder,
  clipConfigFromJson,
  Qwen3,
  qwen3ConfigFromJson,
  SiglipVision,
  siglipConfigFromJson,
  T5Encoder,
  t5ConfigFromJson,
} from "@wick/encoders";
import { Flux, flux1FromDiffusers, fluxConfigFromJson, Redux, reduxConfigFromJson } from "@wick/models-flux";
import { ZImage, zImageConfigFromJson } from "@wick/models-zimage";
import { type DType, invert, memorySink, remap, renameAll, type WeightSource, writableTensors, writeSafetensors } from "@wick/tensor";
import { randomWeights } from "@wick/testing/memory-weights";
import { autoencoderConfig, fluxReduxConfigs, fluxSchnellConfigs, zImageTurboConfigs } from "@wick/testing/released-configs";
import { fluxTokenizerFiles, zImageTokenizerFiles } from "@wick/testing/released-tokenizers";
import { AutoencoderKl, autoencoderKlConfigFromJson } from "@wick/vae";

/** Contents by path. */
export type RepositoryFiles = Record<string, Uint8Array | string>;

/** A checkpoint in `count` shards with its index, or in one file without. */
async function shards(folder: string, stem: string, count: number, source: WeightSource, dtype: DType): Promise<RepositoryFiles> {
  const tensors = [...writableTensors(source, () => dtype)];
  const files: RepositoryFiles = {};
  const map: Record<string, string> = {};
  const perShard = Math.ceil(tensors.length / count);
  for (let i = 0; i < count; i++) {
    const number = (n: number) => String(n).padStart(5, "0");
    const name = count === 1 ? `${stem}.safetensors` : `${stem}-${number(i + 1)}-of-${number(count)}.safetensors`;
    const part = tensors.slice(i * perShard, (i + 1) * perShard);
    const sink = memorySink();
    await writeSafetensors(sink, part, { format: "pt" });
    files[`${folder}${name}`] = sink.bytes();
    for (const tensor of part) map[tensor.name] = name;
  }
  if (count > 1) files[`${folder}${stem}.safetensors.index.json`] = JSON.stringify({ metadata: { total_size: 0 }, weight_map: map });
  return files;
}

const vaeConfig = { ...autoencoderConfig, block_out_channels: [8, 8, 8, 8], layers_per_block: 1, norm_num_groups: 4 };

async function vaeFiles(dtype: DType): Promise<RepositoryFiles> {
  const weights = randomWeights(new AutoencoderKl(autoencoderKlConfigFromJson(vaeConfig)), 3);
  return { "vae/config.json": JSON.stringify(vaeConfig), ...(await shards("vae/", "diffusion_pytorch_model", 1, weights, dtype)) };
}

/** Tongyi-MAI/Z-Image-Turbo. */
export async function zImageTurbo(): Promise<RepositoryFiles> {
  const configs = zImageTurboConfigs;
  const transformer = {
    ...configs.transformer,
    axes_dims: [4, 6, 6],
    cap_feat_dim: 16,
    dim: 32,
    n_heads: 2,
    n_kv_heads: 2,
    n_layers: 2,
    n_refiner_layers: 1,
  };
  const encoder = {
    ...configs.text_encoder,
    head_dim: 8,
    hidden_size: 16,
    intermediate_size: 32,
    num_attention_heads: 2,
    num_hidden_layers: 2,
    num_key_value_heads: 1,
  };
  const text = renameAll(randomWeights(new Qwen3(qwen3ConfigFromJson(encoder)), 1), (name) => `model.${name}`);
  return {
    ".gitattributes": "*.safetensors filter=lfs\n",
    "README.md": "# Z-Image-Turbo\n",
    "model_index.json": JSON.stringify(configs.model_index),
    "scheduler/scheduler_config.json": JSON.stringify(configs.scheduler),
    "text_encoder/config.json": JSON.stringify(encoder),
    "text_encoder/generation_config.json": "{}",
    ...(await shards("text_encoder/", "model", 3, text, "bf16")),
    ...zImageTokenizerFiles(),
    "transformer/config.json": JSON.stringify(transformer),
    ...(await shards("transformer/", "diffusion_pytorch_model", 3, randomWeights(new ZImage(zImageConfigFromJson(transformer)), 2), "f32")),
    ...(await vaeFiles("bf16")),
  };
}

/** black-forest-labs/FLUX.1-schnell. */
export async function fluxSchnell(): Promise<RepositoryFiles> {
  const configs = fluxSchnellConfigs;
  const transformer = {
    ...configs.transformer,
    attention_head_dim: 16,
    axes_dims_rope: [4, 6, 6],
    joint_attention_dim: 16,
    num_attention_heads: 2,
    num_layers: 2,
    num_single_layers: 2,
    pooled_projection_dim: 16,
  };
  const clip = {
    ...configs.text_encoder,
    hidden_size: 16,
    intermediate_size: 32,
    num_attention_heads: 2,
    num_hidden_layers: 2,
    projection_dim: 16,
  };
  const t5 = { ...configs.text_encoder_2, d_ff: 32, d_kv: 8, d_model: 16, num_decoder_layers: 2, num_heads: 2, num_layers: 2 };
  const diffusers = remap(randomWeights(new Flux(fluxConfigFromJson(transformer)), 4), invert(flux1FromDiffusers));
  const clipWeights = renameAll(randomWeights(new ClipTextEncoder(clipConfigFromJson(clip)), 5), (name) => `text_model.${name}`);
  return {
    ".gitattributes": "*.safetensors filter=lfs\n",
    "LICENSE.md": "Apache License 2.0\n",
    "README.md": "# FLUX.1 [schnell]\n",
    "model_index.json": JSON.stringify(configs.model_index),
    // The authors' single files stand beside the folders and are not needed: reading one would fail.
    "ae.safetensors": "not read",
    "flux1-schnell.safetensors": "not read",
    "scheduler/scheduler_config.json": JSON.stringify(configs.scheduler),
    "text_encoder/config.json": JSON.stringify(clip),
    ...(await shards("text_encoder/", "model", 1, clipWeights, "bf16")),
    "text_encoder_2/config.json": JSON.stringify(t5),
    ...(await shards("text_encoder_2/", "model", 2, randomWeights(new T5Encoder(t5ConfigFromJson(t5)), 6), "bf16")),
    ...fluxTokenizerFiles(),
    "transformer/config.json": JSON.stringify(transformer),
    ...(await shards("transformer/", "diffusion_pytorch_model", 3, diffusers, "bf16")),
    ...(await vaeFiles("bf16")),
  };
}

/** black-forest-labs/FLUX.1-Redux-dev, whose tokens are as wide as the text of `fluxSchnell`. */
export async function fluxRedux(): Promise<RepositoryFiles> {
  const { feature_extractor, image_embedder, image_encoder } = fluxReduxConfigs;
  const encoder = {
    ...image_encoder,
    hidden_size: 16,
    image_size: 28,
    intermediate_size: 32,
    num_attention_heads: 2,
    num_hidden_layers: 2,
  };
  const embedder = { ...image_embedder, redux_dim: 16, txt_in_features: 16 };
  const vision = renameAll(randomWeights(new SiglipVision(siglipConfigFromJson(encoder)), 7), (name) => `vision_model.${name}`);
  const redux = randomWeights(new Redux(reduxConfigFromJson(embedder)), 8);
  return {
    ".gitattributes": "*.safetensors filter=lfs\n",
    "README.md": "# FLUX.1 Redux [dev]\n",
    "model_index.json": JSON.stringify(fluxReduxConfigs.model_index),
    "flux1-redux-dev.safetensors": "not read",
    "feature_extractor/preprocessor_config.json": JSON.stringify({ ...feature_extractor, size: { height: 28, width: 28 } }),
    "image_embedder/config.json": JSON.stringify(embedder),
    ...(await shards("image_embedder/", "diffusion_pytorch_model", 1, redux, "bf16")),
    "image_encoder/config.json": JSON.stringify(encoder),
    ...(await shards("image_encoder/", "model", 1, vision, "bf16")),
  };
}
