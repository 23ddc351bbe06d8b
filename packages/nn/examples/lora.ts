// An adapter merged into the weights on load, and the same adapter attached at run time.
import { attachLora, initParameters, Linear, load, Module, weightsOf, withLora } from "@wick/nn";
import { cpu, torchCpu } from "@wick/tensor";

class Net extends Module {
  readonly proj = new Linear(8, 8);
}
/** An adapter file, as trainers write it: transformer.proj.lora_A.weight and lora_B.weight. */
class AdapterFile extends Module {
  readonly transformer = { proj: { lora_A: new Linear(8, 2, { bias: false }), lora_B: new Linear(2, 8, { bias: false }) } };
}

using device = cpu();
using base = new Net();
using file = new AdapterFile();
initParameters(base, device, torchCpu(0));
initParameters(file, device, torchCpu(1));
using x = device.ones([1, 8]);

using merged = new Net();
await load(merged, withLora(weightsOf(base), weightsOf(file), 0.8), device);
using y = merged.proj.forward(x);
console.log(await y.print());

using style = await attachLora(base, weightsOf(file), { scale: 0.8 });
using same = base.proj.forward(x);
console.log(await same.print());
console.log(style.coverage.targets);
style.detach();
