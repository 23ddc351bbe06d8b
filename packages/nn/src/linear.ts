// y = x Wᵀ + b.
import type { Epilogue, Tensor } from "@wick/tensor";
import { Module } from "./module.ts";
import { type Parameter, param } from "./parameter.ts";

export class Linear extends Module {
  /** [out, in]; any float or quantized dtype. */
  readonly weight: Parameter;
  /** [out] */
  readonly bias: Parameter | undefined;
  constructor(inWidth: number, outWidth: number, { bias = true }: { bias?: boolean } = {}) {
    super();
    this.weight = param(outWidth, inWidth);
    this.bias = bias ? param(outWidth) : undefined;
  }
  /** x [..., in] → [..., out]; `then` is fused into the product and sees the biased result. */
  forward(x: Tensor, then?: Epilogue): Tensor {
    return x.linear(this.weight, this.bias, then);
  }
}
