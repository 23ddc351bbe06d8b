// Attention with a function of one's own, rotary positions and an adaLN-Zero block around it.
import {
  type AttentionFunction,
  fusedAttention,
  initParameters,
  LayerNorm,
  Mlp,
  Modulation,
  Module,
  ropeTable,
  SelfAttention,
  shiftScaleGate,
} from "@wick/nn";
import { cpu, scope, type Tensor, torchCpu } from "@wick/tensor";

/** Any function of q, k and v [b, n, l, k] will do. */
const sharper: AttentionFunction = (q, k, v, options) => fusedAttention(q.mul(2), k, v, options);

class Block extends Module {
  readonly norm = new LayerNorm(16, { eps: 1e-6, affine: false });
  readonly attn = new SelfAttention({ width: 16, heads: 2, qkNorm: 1e-6, attention: sharper });
  readonly mlp = new Mlp(16, 64);
  readonly mod = new Modulation(16, 6);
  forward(x: Tensor, condition: Tensor, positions: number[][]): Tensor {
    return scope(() => {
      const [shift, scale, gate, shift2, scale2, gate2] = this.mod.forward(condition);
      const [first, second] = [shiftScaleGate(shift, scale, gate), shiftScaleGate(shift2, scale2, gate2)];
      const rope = ropeTable(x.device, positions, { widths: [4, 4], theta: 10_000 });
      const h = first.after(x, this.attn.forward(first.before(this.norm.forward(x)), { rope }));
      return second.after(h, this.mlp.forward(second.before(this.norm.forward(h))));
    });
  }
}

using device = cpu();
using block = new Block();
initParameters(block, device, torchCpu(0));
using x = device.randn([1, 4, 16], torchCpu(1));
using condition = device.randn([1, 16], torchCpu(2));
using y = block.forward(x, condition, [
  [0, 0],
  [0, 1],
  [1, 0],
  [1, 1],
]);
console.log(`${y}`, await y.print());
