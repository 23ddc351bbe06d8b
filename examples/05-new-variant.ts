// New diffusion transformers from the same parts: a Lumina-2-like and a Chroma-like model, a change to one of them, and a look inside.
// Run: npm run example -- 05
import { type AttentionFunction, capture, fusedAttention, initParameters, namedParameters, summary } from "@wick/nn";
import { cpu, hold, scope, type Tensor, torchCpu } from "@wick/tensor";
import { Chroma, chroma } from "./variants/chroma.ts";
import { Lumina2, type Lumina2Config, lumina2 } from "./variants/lumina2.ts";

// Declared at the released size: nothing is allocated.
for (const model of [new Lumina2(lumina2), new Chroma(chroma)]) {
  const { type, parameters } = { type: model.constructor.name, parameters: summary(model).parameters };
  console.log(`${type}: ${(parameters / 1e9).toFixed(2)} billion parameters in ${[...namedParameters(model)].length} tensors`);
}

// A small one of our own is a spread; an attention function of our own is an argument.
const small: Lumina2Config = {
  ...lumina2,
  width: 48,
  heads: 4,
  kvHeads: 2,
  layers: 3,
  refinerLayers: 1,
  ffnWidth: 128,
  latentChannels: 4,
  captionWidth: 20,
  ropeAxes: [4, 4, 4],
};
const softer: AttentionFunction = (q, k, v, options) => fusedAttention(q.mul(0.5), k, v, options);

using device = cpu();
using latents = hold(device.randn([1, 4, 8, 8], torchCpu(1)));
using caption = hold(device.randn([1, 7, 20], torchCpu(2)));

async function velocity(attention: AttentionFunction): Promise<Float32Array> {
  using model = new Lumina2(small, attention);
  initParameters(model, device, torchCpu(0));
  const run = () => model.forward(latents.value, 0.25, caption.value);
  using taps = capture(model, ["layers.*"], run);
  for (const path of taps.calls.keys()) {
    using size = hold(scope(() => taps.output<Tensor>(path).square().mean().sqrt()));
    console.log(`${path}: root mean square ${(await size.value.item()).toFixed(3)}`);
  }
  using out = hold(taps.result);
  return (await out.value.toArray()) as Float32Array;
}

const [usual, changed] = [await velocity(fusedAttention), await velocity(softer)];
const moved = Math.sqrt(usual.reduce((sum, v, i) => sum + (v - changed[i]!) ** 2, 0) / usual.reduce((sum, v) => sum + v * v, 0));
console.log(`softer attention moves the velocity by ${moved.toFixed(4)}`);
