// Layouts of AutoencoderTiny checkpoints. Ours are diffusers' names; the other layout is madebyollin/taesd taesd.py, whose files hold one half
// each and whose decoder starts with a parameterless clamp, so that its layers count one higher.
import { type Dialect, type NameFamily, type NameRules, renameAll, type WeightSource } from "@wick/tensor";

/** Layers that the decoder of a published file may have. */
const MOST_LAYERS = 32;

function decoderRules(): NameRules {
  const rules: Record<string, string> = {};
  for (let layer = 0; layer < MOST_LAYERS; layer++) {
    rules[`decoder.layers.${layer}.{p}`] = `decoder.${layer + 1}.{p}`;
    rules[`decoder.layers.${layer}.conv.{j}.{p}`] = `decoder.${layer + 1}.conv.{j}.{p}`;
  }
  return rules;
}

/** Our names on the left, those of taesd.py on the right, with `encoder.` and `decoder.` before the names of each file. */
export const autoencoderTinyFromTaesd: NameRules = {
  "encoder.layers.{i}.{p}": "encoder.{i}.{p}",
  "encoder.layers.{i}.conv.{j}.{p}": "encoder.{i}.conv.{j}.{p}",
  ...decoderRules(),
};

const diffusers: Dialect = {
  name: "diffusers",
  matches: (e) => e.has("decoder.layers.0.weight") || e.has("encoder.layers.0.weight"),
  rules: {},
};
const taesd: Dialect = {
  name: "taesd",
  matches: (e) => e.has("decoder.1.weight") || e.has("encoder.0.weight"),
  rules: autoencoderTinyFromTaesd,
};

/** Every published layout: use with `translate(source, autoencoderTinyNames)`; `joinTaesd` makes one source of two files. */
export const autoencoderTinyNames: NameFamily = {
  model: "AutoencoderTiny",
  prefixes: ["tae.", "taesd_"],
  dialects: [diffusers, taesd],
};

/** The two files of the original release, such as taef1_encoder and taef1_decoder, as one checkpoint for `autoencoderTinyNames`. */
export function joinTaesd(encoder: WeightSource, decoder: WeightSource): WeightSource {
  const halves = [renameAll(encoder, (name) => `encoder.${name}`), renameAll(decoder, (name) => `decoder.${name}`)] as const;
  const half = (name: string): WeightSource => halves[name.startsWith("decoder.") ? 1 : 0];
  return {
    entries: new Map([...halves[0].entries, ...halves[1].entries]),
    metadata: new Map([...encoder.metadata, ...decoder.metadata]),
    stream: (name, options) => half(name).stream(name, options),
    async close() {
      await encoder.close();
      await decoder.close();
    },
  };
}
