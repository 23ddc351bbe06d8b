// A Linear layer with its activation fused in, and a low-rank adapter beside it.
import { initParameters, Linear } from "@wick/nn";
import { cpu, epilogue, torchCpu } from "@wick/tensor";

using device = cpu();
using layer = new Linear(4, 3);
initParameters(layer, device, torchCpu(0));
using x = device.tensor([1, 2, 3, 4], [1, 4]);

using y = layer.forward(
  x,
  epilogue((v) => v.relu()),
);
console.log(await y.print());

layer.attach({ name: "style", down: device.ones([1, 4]), up: device.ones([3, 1]), bias: undefined, scale: 0.1 });
using adapted = layer.forward(x);
console.log(await adapted.print());
