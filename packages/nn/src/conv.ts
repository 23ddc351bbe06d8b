// Convolution layers over [b, c, h, w] and [b, c, l].
import type { Epilogue, Pair, Tensor } from "@wick/tensor";
import { Module } from "./module.ts";
import { type Parameter, param } from "./parameter.ts";

/** How a convolution moves over its input; PyTorch's names and defaults. */
export interface ConvLayerOptions {
  /** Step of the window; 1 by default. */
  readonly stride?: Pair;
  /** Zeros at both ends; 0 by default. */
  readonly padding?: Pair;
  /** Distance between the window's taps; 1 by default. */
  readonly dilation?: Pair;
  /** Groups of channels that do not mix; 1 by default. */
  readonly groups?: number;
  /** True by default. */
  readonly bias?: boolean;
}

const pair = (p: Pair): readonly [number, number] => (typeof p === "number" ? [p, p] : p);

/** torch.nn.Conv2d: x [b, c, h, w] → [b, out, h', w']. */
export class Conv2d extends Module {
  /** [out, in/groups, kh, kw] */
  readonly weight: Parameter;
  /** [out] */
  readonly bias: Parameter | undefined;
  readonly #options: ConvLayerOptions;
  constructor(inChannels: number, outChannels: number, kernel: Pair, options: ConvLayerOptions = {}) {
    super();
    this.weight = param(outChannels, inChannels / (options.groups ?? 1), ...pair(kernel));
    this.bias = (options.bias ?? true) ? param(outChannels) : undefined;
    this.#options = options;
  }
  /** x [b, in, h, w] → [b, out, h', w']; `then` is fused and sees the biased result. */
  forward(x: Tensor, then?: Epilogue): Tensor {
    const { bias: _, ...geometry } = this.#options;
    return x.conv2d(this.weight, { ...geometry, bias: this.bias, then });
  }
}

/** torch.nn.ConvTranspose2d: x [b, c, h, w] → [b, out, h', w']. */
export class ConvTranspose2d extends Module {
  /** [in, out/groups, kh, kw] */
  readonly weight: Parameter;
  /** [out] */
  readonly bias: Parameter | undefined;
  readonly #options: ConvLayerOptions & { readonly outputPadding?: Pair };
  constructor(inChannels: number, outChannels: number, kernel: Pair, options: ConvLayerOptions & { readonly outputPadding?: Pair } = {}) {
    super();
    this.weight = param(inChannels, outChannels / (options.groups ?? 1), ...pair(kernel));
    this.bias = (options.bias ?? true) ? param(outChannels) : undefined;
    this.#options = options;
  }
  /** x [b, in, h, w] → [b, out, h', w'] */
  forward(x: Tensor): Tensor {
    const { bias: _, ...geometry } = this.#options;
    return x.convTranspose2d(this.weight, { ...geometry, bias: this.bias });
  }
}

/** One number each: the only direction of a sequence. */
export interface Conv1dLayerOptions {
  /** Step of the window; 1 by default. */
  readonly stride?: number;
  /** Zeros at both ends; 0 by default. */
  readonly padding?: number;
  /** Distance between the window's taps; 1 by default. */
  readonly dilation?: number;
  /** Groups of channels that do not mix; 1 by default. */
  readonly groups?: number;
  /** True by default. */
  readonly bias?: boolean;
}

/** torch.nn.Conv1d: x [b, c, l] → [b, out, l']. */
export class Conv1d extends Module {
  /** [out, in/groups, k] */
  readonly weight: Parameter;
  /** [out] */
  readonly bias: Parameter | undefined;
  readonly #options: Conv1dLayerOptions;
  constructor(inChannels: number, outChannels: number, kernel: number, options: Conv1dLayerOptions = {}) {
    super();
    this.weight = param(outChannels, inChannels / (options.groups ?? 1), kernel);
    this.bias = (options.bias ?? true) ? param(outChannels) : undefined;
    this.#options = options;
  }
  /** x [b, in, l] → [b, out, l'] */
  forward(x: Tensor): Tensor {
    const { bias: _, ...geometry } = this.#options;
    return x.conv1d(this.weight, { ...geometry, bias: this.bias });
  }
}

/** torch.nn.ConvTranspose1d: x [b, c, l] → [b, out, l']. */
export class ConvTranspose1d extends Module {
  /** [in, out/groups, k] */
  readonly weight: Parameter;
  /** [out] */
  readonly bias: Parameter | undefined;
  readonly #options: Conv1dLayerOptions & { readonly outputPadding?: number };
  constructor(
    inChannels: number,
    outChannels: number,
    kernel: number,
    options: Conv1dLayerOptions & { readonly outputPadding?: number } = {},
  ) {
    super();
    this.weight = param(inChannels, outChannels / (options.groups ?? 1), kernel);
    this.bias = (options.bias ?? true) ? param(outChannels) : undefined;
    this.#options = options;
  }
  /** x [b, in, l] → [b, out, l'] */
  forward(x: Tensor): Tensor {
    const { bias: _, ...geometry } = this.#options;
    return x.convTranspose1d(this.weight, { ...geometry, bias: this.bias });
  }
}
