// Watching what modules return, and changing it, without touching their code.
import { capture, initParameters, Linear, Module, patch, repeat } from "@wick/nn";
import { cpu, fold, scope, type Tensor, torchCpu } from "@wick/tensor";

class Net extends Module {
  readonly layers = repeat(3, () => new Linear(4, 4));
  forward(x: Tensor): Tensor {
    return scope(() => fold(this.layers, x, (h, layer) => layer.forward(h).silu()));
  }
}

using device = cpu();
using net = new Net();
initParameters(net, device, torchCpu(0));
using x = device.ones([1, 4]);

using taps = capture(net, ["layers.*"], () => net.forward(x));
for (const [path, calls] of taps.calls) console.log(`${path}: ${calls.join(", ")}`);
taps.result.dispose();

using _ = patch(net, ["layers.1"], (output) => output.mul(0));
using silenced = net.forward(x);
console.log(await silenced.print());
