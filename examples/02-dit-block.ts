// A diffusion transformer block from parts, looked at from inside: adaLN-Zero, an attention function of one's own, taps.
// Run: npm run example -- 02
import {
  type AttentionFunction,
  capture,
  fusedAttention,
  initParameters,
  LayerNorm,
  Mlp,
  Modulation,
  Module,
  type RopeTable,
  repeat,
  ropeTable,
  SelfAttention,
  shiftScaleGate,
  summary,
  timestepEmbedding,
} from "@wick/nn";
import { cpu, fold, hold, scope, type Tensor, torchCpu } from "@wick/tensor";

const width = 32;

class Block extends Module {
  readonly norm = new LayerNorm(width, { eps: 1e-6, affine: false });
  readonly attn: SelfAttention;
  readonly mlp = new Mlp(width, 4 * width);
  readonly mod = new Modulation(width, 6);
  constructor(attention: AttentionFunction) {
    super();
    this.attn = new SelfAttention({ width, heads: 2, qkNorm: 1e-6, attention });
  }
  /** x [b, l, d], condition [b, d] → [b, l, d] */
  forward(x: Tensor, condition: Tensor, rope: RopeTable): Tensor {
    const [shift, scale, gate, shift2, scale2, gate2] = this.mod.forward(condition);
    const [first, second] = [shiftScaleGate(shift, scale, gate), shiftScaleGate(shift2, scale2, gate2)];
    const attended = first.after(x, this.attn.forward(first.before(this.norm.forward(x)), { rope }));
    return second.after(attended, this.mlp.forward(second.before(this.norm.forward(attended))));
  }
}

class Net extends Module {
  readonly blocks: readonly Block[];
  constructor(attention: AttentionFunction) {
    super();
    this.blocks = repeat(3, () => new Block(attention));
  }
  forward(x: Tensor, condition: Tensor, rope: RopeTable): Tensor {
    // State i is released as soon as state i + 1 exists.
    return fold(this.blocks, x, (h, block) => block.forward(h, condition, rope));
  }
}

/** Attention is a function of q, k and v [b, n, l, k]: log-scaled for long sequences. */
const logScaled: AttentionFunction = (q, k, v, options) => fusedAttention(q.mul(Math.log(q.dim(2)) / Math.log(64)), k, v, options);

using device = cpu();
using net = new Net(fusedAttention);
console.log(`${summary(net, { depth: 2 })}`); // shapes only: nothing is on the device yet

initParameters(net, device, torchCpu(0));
using x = device.randn([1, 16, width], torchCpu(1));
using condition = scope(() => timestepEmbedding(device, [0.7], width));
const patches = Array.from({ length: 16 }, (_, i) => [Math.floor(i / 4), i % 4]); // row and column of 4 x 4
using rope = hold(ropeTable(device, patches, { widths: [8, 8], theta: 10_000 }));

// Every output of the named modules, by path; a model without taps runs as if there were none.
using taps = capture(net, ["blocks.*.attn", "blocks.*"], () => net.forward(x, condition, rope.value));
using result = taps.result;
for (const path of taps.calls.keys()) console.log(`${path}: root mean square ${await rms(taps.output(path))}`);

// The same weights with the other attention function.
using other = new Net(logScaled);
initParameters(other, device, torchCpu(0));
using moved = scope(() => other.forward(x, condition, rope.value).sub(result));
console.log(`the other attention function moves the result by ${await rms(moved)}`);

async function rms(t: Tensor): Promise<string> {
  using value = scope(() => t.square().mean().sqrt());
  return (await value.item()).toFixed(4);
}
