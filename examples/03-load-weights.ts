// A released layout of weights, loaded: another dialect's names, block quantization on the way, an adapter, and the report of what does not fit.
// The weights are random and made here, so that nothing is downloaded; the calls are those for the real files.
// Run: npm run example -- 03
import { ZImage, zImageFromFused, zImageNames, zImageTurbo } from "@wick/models-zimage";
import { attachLora, estimateBytes, initParameters, Linear, load, Module, save, summary, weightsOf, withLora } from "@wick/nn";
import { cpu, invert, memorySink, memorySource, openSafetensors, remap, torchCpu, translate, WeightsError } from "@wick/tensor";

// The real model is a value: its memory is known before a byte is read.
const real = new ZImage(zImageTurbo);
const gib = (bytes: number) => `${(bytes / 2 ** 30).toFixed(2)} GiB`;
console.log(`Z-Image Turbo: ${gib(estimateBytes(real, "bf16"))} in bf16, ${gib(estimateBytes(real, "q8_0"))} in q8_0`);

// A small one of the same architecture is a spread of its config.
const config = {
  ...zImageTurbo,
  width: 128,
  heads: 2,
  layers: 2,
  refinerLayers: 1,
  ffnWidth: 256,
  captionWidth: 32,
  ropeAxes: [16, 24, 24],
};
using device = cpu();
using original = new ZImage(config);
initParameters(original, device, torchCpu(0), (site, generator) => generator.randn(site.parameter.size));
const file = memorySink(); // or a path: save(original, "small.safetensors")
await save(original, file);
const checkpoint = await openSafetensors([memorySource(file.bytes(), "small.safetensors")]); // openWeights("small.safetensors") for a real file

// As ComfyUI writes it, with q, k and v in one tensor. Whichever dialect a file is in, the model sees its own names.
const comfy = remap(checkpoint, invert(zImageFromFused));
for (const written of [checkpoint, comfy]) {
  const { dialect, entries } = translate(written, zImageNames);
  console.log(`${written.entries.size} tensors in the ${dialect} layout are ${entries.size} of the model's`);
}

using model = new ZImage(config);
await load(model, translate(comfy, zImageNames), device, { dtype: "q8_0" }); // quantized tensor by tensor while it streams
console.log(`${summary(model, { depth: 1 })}`);

// An adapter as trainers write it: merged into the weights on load, or attached and detached at run time, also on quantized weights.
class Adapter extends Module {
  readonly transformer = {
    layers: [{ attention: { to_q: { lora_A: new Linear(128, 4, { bias: false }), lora_B: new Linear(4, 128, { bias: false }) } } }],
  };
}
using adapter = new Adapter();
initParameters(adapter, device, torchCpu(1));
using merged = new ZImage(config);
const withStyle = withLora(checkpoint, weightsOf(adapter), 0.8);
await load(merged, withStyle, device);
console.log(`merged: ${withStyle.coverage.targets.join(", ")} changed, ${withStyle.coverage.unmatched.length} names unmatched`);
using attached = await attachLora(model, weightsOf(adapter), { scale: 0.8 });
console.log(`attached "${attached.name}" to ${attached.coverage.targets.length} layer of the quantized model`);

// A file that does not fit is refused before any byte of it is read, with everything that is wrong in one message.
const wider = new ZImage({ ...config, ffnWidth: 512, layers: 3 });
await load(wider, checkpoint, device).catch((error: unknown) => {
  if (!(error instanceof WeightsError)) throw error;
  console.log(`as it should be: ${error.message.split("\n").slice(0, 6).join("\n")}\n  …`);
});
