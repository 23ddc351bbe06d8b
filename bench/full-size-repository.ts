// A released repository at its full size: the real configurations, tokenizers, names, shapes and shards, and random weights of a trained
// model's magnitudes. Text, transformer and autoencoder of Z-Image take 20.5 GB, those of FLUX.1 schnell 33.7 GB.
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { bytesOf, sizeOf, torchCpu, type WritableTensor, writeFileAtomically, writeSafetensors } from "@wick/tensor";
import { readInventory } from "@wick/testing/inventory";
import { autoencoderConfig, fluxSchnellConfigs, zImageTurboConfigs } from "@wick/testing/released-configs";
import { fluxTokenizerFiles, zImageTokenizerFiles } from "@wick/testing/released-tokenizers";

type Shapes = Readonly<Record<string, readonly number[]>>;
/** A folder's weights: the stem of its files, their names and shapes. */
type Part = readonly [folder: string, stem: string, shapes: Shapes];
/** Files of a released model, weights by shape. */
export interface Repository {
  readonly configs: Readonly<Record<string, object>>;
  readonly tokenizers: () => Record<string, Uint8Array | string>;
  readonly parts: () => readonly Part[];
}

const vae = (): Part => ["vae", "diffusion_pytorch_model", readInventory("autoencoder-kl")];

/** What can be made, by name. */
export const repositories: Readonly<Record<string, Repository>> = {
  "z-image": {
    configs: { ...zImageTurboConfigs, vae: autoencoderConfig },
    tokenizers: zImageTokenizerFiles,
    parts: () => [
      ["text_encoder", "model", readInventory("qwen3-4b")],
      ["transformer", "diffusion_pytorch_model", readInventory("z-image")],
      vae(),
    ],
  },
  "flux1-schnell": {
    configs: { ...fluxSchnellConfigs, vae: autoencoderConfig },
    tokenizers: fluxTokenizerFiles,
    parts: () => [
      ["text_encoder", "model", readInventory("clip-l")],
      ["text_encoder_2", "model", readInventory("t5-xxl")],
      ["transformer", "diffusion_pytorch_model", readInventory("flux1-schnell-diffusers")],
      vae(),
    ],
  },
};

/** Normal values in the pattern that all tensors are cut from; each begins elsewhere in it. */
const patternSize = 4_194_301;
const shardBytes = 5e9;

/** Deviation (and mean) of a parameter's values: products keep the magnitude of what goes in. T5 trains without a scale of its scores. */
function spread(name: string, shape: readonly number[]): { readonly deviation: number; readonly mean: number } {
  const isVector = shape.length === 1;
  if (isVector && /norm\w*(\.\w+)?\.weight$|layer_norm\.weight$|norm\d?\.weight$/.test(name)) return { deviation: 0.1, mean: 1 };
  if (isVector) return { deviation: 0.02, mean: 0 };
  const fanIn = sizeOf(shape) / shape[0]!;
  return { deviation: (/SelfAttention\.q\.weight$/.test(name) ? 1 / 8 : 1) / Math.sqrt(fanIn), mean: 0 };
}

/** bf16 patterns by deviation and mean, cut (not rounded) from f32. */
class Patterns {
  readonly #normal = torchCpu(2026).randn(patternSize, "f32") as Float32Array;
  readonly #made = new Map<string, Uint8Array>();

  of({ deviation, mean }: { readonly deviation: number; readonly mean: number }): Uint8Array {
    const key = `${deviation} ${mean}`;
    let made = this.#made.get(key);
    if (!made) {
      const bits = new Uint32Array(this.#normal.map((x) => mean + deviation * x).buffer);
      made = new Uint8Array(Uint16Array.from(bits, (u) => u >>> 16).buffer);
      this.#made.set(key, made);
    }
    return made;
  }

  /** `length` bytes from where a hash of the name says. */
  *bytes(name: string, shape: readonly number[], length: number): Generator<Uint8Array> {
    const pattern = this.of(spread(name, shape));
    let hash = 2166136261;
    for (const c of name) hash = Math.imul(hash ^ c.charCodeAt(0), 16777619);
    let from = 2 * ((hash >>> 0) % patternSize);
    for (let left = length; left > 0; from = 0) {
      const piece = pattern.subarray(from, Math.min(pattern.length, from + left));
      yield piece;
      left -= piece.length;
    }
  }
}

function writableTensor(patterns: Patterns, name: string, shape: readonly number[]): WritableTensor {
  const bytes = () => patterns.bytes(name, shape, bytesOf("bf16", sizeOf(shape)));
  return { name, dtype: "bf16", shape, bytes };
}

/** Fills shards up to their limit, in the order of the names. */
function shardsOf(tensors: readonly WritableTensor[]): WritableTensor[][] {
  const shards: WritableTensor[][] = [[]];
  let used = 0;
  for (const tensor of tensors) {
    const size = bytesOf(tensor.dtype, sizeOf(tensor.shape));
    if (used + size > shardBytes && used > 0) {
      shards.push([]);
      used = 0;
    }
    shards.at(-1)!.push(tensor);
    used += size;
  }
  return shards;
}

async function writePart(folder: string, [part, stem, shapes]: Part, patterns: Patterns): Promise<void> {
  const shards = shardsOf(Object.entries(shapes).map(([name, shape]) => writableTensor(patterns, name, shape)));
  const number = (n: number) => String(n).padStart(5, "0");
  const map: Record<string, string> = {};
  for (const [i, shard] of shards.entries()) {
    const name = shards.length === 1 ? `${stem}.safetensors` : `${stem}-${number(i + 1)}-of-${number(shards.length)}.safetensors`;
    await writeFileAtomically(join(folder, part, name), (sink) => writeSafetensors(sink, shard, { format: "pt" }));
    for (const tensor of shard) map[tensor.name] = name;
  }
  if (shards.length > 1)
    writeFileSync(join(folder, part, `${stem}.safetensors.index.json`), JSON.stringify({ metadata: { total_size: 0 }, weight_map: map }));
}

/** Keys of configurations that count blocks. */
const countKeys = /^(num_layers|num_single_layers|num_hidden_layers|num_decoder_layers|n_layers|n_refiner_layers)$/;

/** A repository with the first blocks of each kind only, as wide as ever; the autoencoder stays whole. */
export function withFewerBlocks({ configs, tokenizers, parts }: Repository, blocks: number): Repository {
  const fewer = (key: string, value: unknown) => (countKeys.test(key) ? Math.min(Number(value), blocks) : value);
  const cut = (config: object) => Object.fromEntries(Object.entries(config).map(([key, value]) => [key, fewer(key, value)]));
  const isKept = (name: string) => Number(/(?:block|blocks|layers)\.(\d+)\./.exec(name)?.[1] ?? 0) < blocks;
  const cutPart = (part: Part): Part => {
    const [folder, stem, shapes] = part;
    return folder === "vae" ? part : [folder, stem, Object.fromEntries(Object.entries(shapes).filter(([name]) => isKept(name)))];
  };
  return {
    configs: Object.fromEntries(Object.entries(configs).map(([name, config]) => [name, name === "vae" ? config : cut(config)])),
    tokenizers,
    parts: () => parts().map(cutPart),
  };
}

/** Writes a repository in diffusers layout into `folder`. */
export async function makeRepository(folder: string, { configs, tokenizers, parts }: Repository): Promise<void> {
  const write = (path: string, content: Uint8Array | string) => {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), content);
  };
  for (const [name, config] of Object.entries(configs)) {
    const file = { model_index: "model_index.json", scheduler: "scheduler/scheduler_config.json" }[name] ?? `${name}/config.json`;
    write(file, JSON.stringify(config));
  }
  for (const [path, content] of Object.entries(tokenizers())) write(path, content);
  const patterns = new Patterns();
  for (const part of parts()) await writePart(folder, part, patterns);
}
