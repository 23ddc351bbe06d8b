// y = x Wᵀ + b, and low-rank adapters beside the weight, which may be quantized: y += scale · (x Aᵀ) Bᵀ (arXiv:2106.09685).
import { chainEpilogues, type Epilogue, epilogue, scope, type Tensor } from "@wick/tensor";
import { Module } from "./module.ts";
import { type Parameter, param } from "./parameter.ts";

/** A low-rank change of a Linear layer; the layer that it is attached to releases its tensors. */
export interface LowRank {
  /** Of the adapter it belongs to. */
  readonly name: string;
  /** [rank, in] */
  readonly down: Tensor;
  /** [out, rank] */
  readonly up: Tensor;
  /** [out]; added to the product before scaling. */
  readonly bias: Tensor | undefined;
  /** Factor on the whole change; may be set between forward passes. */
  scale: number;
}

/** torch.nn.Linear: x [..., in] → [..., out], in any weight format, with adapters beside it. */
export class Linear extends Module {
  /** [out, in]; any float or quantized dtype. */
  readonly weight: Parameter;
  /** [out] */
  readonly bias: Parameter | undefined;
  #adapters: readonly LowRank[] = [];
  constructor(inWidth: number, outWidth: number, { bias = true }: { bias?: boolean } = {}) {
    super();
    this.weight = param(outWidth, inWidth);
    this.bias = bias ? param(outWidth) : undefined;
  }
  /** x [..., in] → [..., out]; `then` is fused into the product and sees the biased (and adapted) result. */
  forward(x: Tensor, then?: Epilogue): Tensor {
    if (this.#adapters.length === 0) return x.linear(this.weight, this.bias, then);
    return scope(() => {
      const change = adapterChange(this.#adapters, ({ down, up, bias }) => ({ low: x.matmul(down.t()), up, bias }))!;
      const adapted = epilogue((y, c) => y.add(c), change);
      return x.linear(this.weight, this.bias, chainEpilogues(adapted, then));
    });
  }
  /** Adapters in the order they were attached. */
  get adapters(): readonly LowRank[] {
    return this.#adapters;
  }
  /** Adds an adapter; the layer owns its tensors from here on. */
  attach(adapter: LowRank): void {
    this.#adapters = [...this.#adapters, adapter];
  }
  /** Removes and releases the adapters called `name`, or all. */
  detach(name?: string): void {
    const gone = this.#adapters.filter((a) => name === undefined || a.name === name);
    this.#adapters = this.#adapters.filter((a) => !gone.includes(a));
    for (const { down, up, bias } of gone) for (const t of [down, up, bias]) t?.dispose();
  }
  override releaseExtras(): void {
    this.detach();
  }
}

/** An adapter's product with the input, and the rows of its other half that are wanted. */
export interface LowRankProduct {
  /** x Aᵀ: [..., rank] */
  readonly low: Tensor;
  /** [out, rank] */
  readonly up: Tensor;
  /** [out] */
  readonly bias: Tensor | undefined;
}

/** The sum over `adapters` of scale · ((x Aᵀ) Bᵀ + bias), [..., out]; undefined without adapters. */
export function adapterChange(adapters: readonly LowRank[], product: (adapter: LowRank) => LowRankProduct): Tensor | undefined {
  return adapters.reduce<Tensor | undefined>((sum, adapter) => {
    const { low, up, bias } = product(adapter);
    const { scale } = adapter;
    const biased = bias && epilogue((y, b) => y.add(b), bias);
    const scaled = epilogue((y) => y.mul(scale));
    const summed = sum && epilogue((y, s) => y.add(s), sum);
    return low.matmul(up.t(), chainEpilogues(chainEpilogues(biased, scaled), summed));
  }, undefined);
}
