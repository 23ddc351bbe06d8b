// Writing a checkpoint, reading it under other names, quantizing it on the way, and what a mismatch says.
import { initParameters, Linear, load, Module, save } from "@wick/nn";
import { cpu, memorySink, memorySource, openSafetensors, remap, torchCpu } from "@wick/tensor";

class Attention extends Module {
  readonly to_q = new Linear(64, 64);
  readonly to_k = new Linear(64, 64);
}
class Fused extends Module {
  readonly qk = new Linear(64, 128);
}

using device = cpu();
using split = new Attention();
initParameters(split, device, torchCpu(1));
const file = memorySink();
await save(split, file);
const checkpoint = await openSafetensors([memorySource(file.bytes())]);

using fused = new Fused();
const renamed = remap(checkpoint, { "qk.{p}": { cat: ["to_q.{p}", "to_k.{p}"] } });
await load(fused, renamed, device, { dtype: "q8_0", onProgress: ({ name }) => console.log(`loaded ${name}`) });
console.log(`${fused.qk.weight}`);

await load(fused, checkpoint, device).catch((error: Error) => console.log(error.message));
