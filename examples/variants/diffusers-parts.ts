// Small parts that several models of diffusers share, under the names that its checkpoints have.
import { gelu, Linear, Module } from "@wick/nn";
import type { Epilogue, Tensor } from "@wick/tensor";

export class LinearSiluLinear extends Module {
  readonly linear_1: Linear;
  readonly linear_2: Linear;
  constructor(inWidth: number, width: number) {
    super();
    this.linear_1 = new Linear(inWidth, width);
    this.linear_2 = new Linear(width, width);
  }
  /** x [..., in] → [..., width] */
  forward(x: Tensor): Tensor {
    return this.linear_2.forward(this.linear_1.forward(x).silu());
  }
}

/** Linear, GELU, Linear: net.0.proj and net.2. */
export class GeluFeedForward extends Module {
  readonly net: readonly [{ readonly proj: Linear }, typeof gelu, Linear];
  constructor(width: number) {
    super();
    this.net = [{ proj: new Linear(width, 4 * width) }, gelu, new Linear(4 * width, width)];
  }
  /** x [..., d] → [..., d]; `then` is fused into the second product. */
  forward(x: Tensor, then?: Epilogue): Tensor {
    return this.net[2].forward(this.net[0].proj.forward(x).gelu(), then);
  }
}
