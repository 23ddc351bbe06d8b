// A module is a class whose fields are its parameters and parts; their paths are the names in a checkpoint.
import { estimateBytes, LayerNorm, Mlp, Module, namedParameters, repeat, summary } from "@wick/nn";
import { fold, type Tensor } from "@wick/tensor";

class Block extends Module {
  readonly norm = new LayerNorm(64);
  readonly mlp = new Mlp(64, 256);
  forward(x: Tensor): Tensor {
    return x.add(this.mlp.forward(this.norm.forward(x)));
  }
}
class Net extends Module {
  readonly blocks = repeat(3, () => new Block());
  forward(x: Tensor): Tensor {
    return fold(this.blocks, x, (h, block) => block.forward(h));
  }
}

const net = new Net();
console.log([...namedParameters(net)].map(([name]) => name).slice(0, 4));
console.log(`${summary(net, { dtype: "q8_0" })}`);
console.log(`${estimateBytes(net, "bf16")} bytes in bf16`);
