// Parity of each encoder with transformers, as functions of a device and of config changes: the CPU, GPU and mutation tests share them.
import { load } from "@wick/nn";
import { type Device, renameAll, type Tensor } from "@wick/tensor";
import { type GoldenTensor, goldenInput, type ModuleGolden, readModuleGolden, rowsOfInput } from "@wick/testing/module-golden";
import { type Comparison, expectModuleParity } from "@wick/testing/module-parity";
import {
  type ClipConfig,
  ClipTextEncoder,
  clipConfigFromJson,
  Qwen3,
  type Qwen3Config,
  qwen3ConfigFromJson,
  type SiglipConfig,
  SiglipVision,
  siglipConfigFromJson,
  type T5Config,
  T5Encoder,
  t5ConfigFromJson,
} from "../src/index.ts";

/** Compares a whole golden on a device; `changes` are wrong constants that must make it fail. */
export type ParityCase<C> = (device: Device, changes?: Partial<C>) => Promise<readonly Comparison[]>;

export const openGolden = (name: string): Promise<ModuleGolden> =>
  readModuleGolden(new URL(`./goldens/${name}.safetensors`, import.meta.url));

/** The activated half of a gated feed-forward, which ours computes with the gate. */
function gated(output: (path: string) => GoldenTensor, path: string): Float64Array {
  const gate = output(path).values;
  const up = output(path.replace("gate_proj", "up_proj")).values;
  return Float64Array.from(gate, (g, i) => (g / (1 + Math.exp(-g))) * up[i]!);
}

/** Lengths of the two prompts of the golden; the second is padded. */
const qwen3Lengths = [23, 14];

export const qwen3Parity: ParityCase<Qwen3Config> = async (device, changes = {}) => {
  const golden = await openGolden("qwen3");
  using model = new Qwen3({ ...qwen3ConfigFromJson(golden.config), ...changes });
  await load(
    model,
    renameAll(golden.weights, (name) => name.replace(/^model\./, "")),
    device,
  );
  const ids = rowsOfInput(golden, "input_ids");
  const states = [0, 1, 2, 3, 4];
  const run = () =>
    Object.fromEntries(
      states.map((layer) => [`hidden_states.${layer}`, model.forward(device, ids, { layer, lengths: qwen3Lengths })] as const),
    );
  return await expectModuleParity(model, golden, run, {
    prefix: "model.",
    view: { "**.q_norm": tokensFirst, "**.k_norm": tokensFirst },
    expected: { "**.gate_proj": gated },
    absent: { "**.self_attn:1": "the fused attention never holds the probabilities" },
  });
};

const tokensFirst = (x: Tensor): Tensor => x.rearrange("b n l k -> b l n k");

export const t5Parity: ParityCase<T5Config> = async (device, changes = {}) => {
  const golden = await openGolden("t5");
  using model = new T5Encoder({ ...t5ConfigFromJson(golden.config), ...changes });
  await load(model, golden.weights, device);
  const ids = rowsOfInput(golden, "input_ids");
  return await expectModuleParity(model, golden, () => ({ last_hidden_state: model.forward(device, ids) }), {
    absent: { "hidden_states.*": "the outputs of the blocks, which are compared" },
  });
};

export const clipParity: ParityCase<ClipConfig> = async (device, changes = {}) => {
  const golden = await openGolden("clip");
  using model = new ClipTextEncoder({ ...clipConfigFromJson(golden.config), ...changes });
  await load(
    model,
    renameAll(golden.weights, (name) => name.replace(/^text_model\./, "")),
    device,
  );
  const ids = rowsOfInput(golden, "input_ids");
  const run = () => {
    const { hidden, pooled } = model.forward(device, ids);
    return { last_hidden_state: hidden, pooler_output: pooled };
  };
  return await expectModuleParity(model, golden, run, {
    prefix: "text_model.",
    expected: { "**.mlp.fc1": (output, path) => output(path).values.map((v) => v / (1 + Math.exp(-1.702 * v))) },
    absent: { "hidden_states.*": "the outputs of the embeddings and the layers, which are compared" },
  });
};

export const siglipParity: ParityCase<SiglipConfig> = async (device, changes = {}) => {
  const golden = await openGolden("siglip");
  using model = new SiglipVision({ ...siglipConfigFromJson(golden.config), ...changes });
  await load(
    model,
    renameAll(golden.weights, (name) => name.replace(/^vision_model\./, "")),
    device,
  );
  const { shape, values } = goldenInput(golden, "pixel_values");
  using pixels = device.tensor(values as Float32Array, shape);
  return await expectModuleParity(model, golden, () => ({ last_hidden_state: model.forward(pixels) }), {
    prefix: "vision_model.",
    expected: { "**.mlp.fc1": (output, path) => output(path).values.map(geluTanh) },
  });
};

const geluTanh = (v: number): number => 0.5 * v * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (v + 0.044715 * v ** 3)));
