// Parity of each encoder with transformers, as functions of a device and of config changes: the CPU, GPU and mutation tests share them.
import { load } from "@wick/nn";
import { type Device, renameAll, type Tensor } from "@wick/tensor";
import { type GoldenTensor, type ModuleGolden, readModuleGolden, rowsOfInput } from "@wick/testing/module-golden";
import { type Comparison, expectModuleParity } from "@wick/testing/module-parity";
import { Qwen3, type Qwen3Config } from "../src/index.ts";

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

const qwen3Tiny: Qwen3Config = {
  vocabSize: 97,
  width: 48,
  ffnWidth: 80,
  layers: 4,
  heads: 4,
  kvHeads: 2,
  headWidth: 16,
  ropeTheta: 1e6,
  eps: 1e-6,
};

/** Lengths of the two prompts of the golden; the second is padded. */
const qwen3Lengths = [23, 14];

export const qwen3Parity: ParityCase<Qwen3Config> = async (device, changes = {}) => {
  const golden = await openGolden("qwen3");
  using model = new Qwen3({ ...qwen3Tiny, ...changes });
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
