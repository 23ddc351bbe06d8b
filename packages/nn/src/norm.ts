// Normalisation layers; statistics in f32 on every device.
import { type Epilogue, scope, type Tensor, UnsupportedError } from "@wick/tensor";
import { Module } from "./module.ts";
import { type Parameter, param } from "./parameter.ts";

/** Layer norm over the last dimension; without `affine` it has no parameters, as DiT blocks use it before modulation. */
export class LayerNorm extends Module {
  /** [width]; absent without `affine`. */
  readonly weight: Parameter | undefined;
  /** [width]; absent without `affine` or with `bias: false`. */
  readonly bias: Parameter | undefined;
  readonly #eps: number;
  constructor(width: number, { eps = 1e-5, affine = true, bias = affine }: { eps?: number; affine?: boolean; bias?: boolean } = {}) {
    super();
    this.weight = affine ? param(width) : undefined;
    this.bias = bias ? param(width) : undefined;
    this.#eps = eps;
  }
  /** x [..., width] → the same shape */
  forward(x: Tensor, then?: Epilogue): Tensor {
    return x.layerNorm({ weight: this.weight, bias: this.bias, eps: this.#eps, then });
  }
}

/** Root-mean-square norm over the last dimension. The scale's name differs between checkpoints: "weight", or "scale" in FLUX.1. */
export class RmsNorm extends Module {
  readonly #scale: Parameter;
  readonly #name: string;
  readonly #eps: number;
  constructor(width: number, { eps, name = "weight" }: { eps: number; name?: string }) {
    super();
    this.#scale = param(width);
    this.#name = name;
    this.#eps = eps;
  }
  override children(): Iterable<readonly [string, unknown]> {
    return [[this.#name, this.#scale]];
  }
  /** What a kernel that goes on after the norm takes instead of calling `forward`; undefined while a tap or a subclass has replaced that. */
  get fusable():
    | {
        /** [width] */
        readonly weight: Tensor;
        /** Added to the mean square before its root. */
        readonly eps: number;
      }
    | undefined {
    return this.forward === RmsNorm.prototype.forward ? { weight: this.#scale, eps: this.#eps } : undefined;
  }
  /** x [..., width] → the same shape */
  forward(x: Tensor, then?: Epilogue): Tensor {
    return x.rmsNorm({ weight: this.#scale, eps: this.#eps, then });
  }
}

/** Group norm over [b, c, ...]. */
export class GroupNorm extends Module {
  /** [c] */
  readonly weight: Parameter;
  /** [c] */
  readonly bias: Parameter;
  readonly #groups: number;
  readonly #eps: number;
  constructor(groups: number, channels: number, { eps = 1e-5 }: { eps?: number } = {}) {
    super();
    this.weight = param(channels);
    this.bias = param(channels);
    this.#groups = groups;
    this.#eps = eps;
  }
  /** x [b, c, ...] → the same shape */
  forward(x: Tensor, then?: Epilogue): Tensor {
    return x.groupNorm(this.#groups, { weight: this.weight, bias: this.bias, eps: this.#eps, then });
  }
}

/** Sees [c] as [1, c, 1, …]. */
const overChannels =
  (rank: number) =>
  (t: Tensor): Tensor =>
    t.to("f32").reshape(1, -1, ...new Array<number>(rank - 2).fill(1));

/** Batch norm as inference uses it: the running statistics of training, over channels of [b, c, ...]. */
export class BatchNorm extends Module {
  /** [c] */
  readonly running_mean: Parameter;
  /** [c] */
  readonly running_var: Parameter;
  /** [channels]; absent without `affine`. */
  readonly weight: Parameter | undefined;
  /** [channels]; absent without `affine`. */
  readonly bias: Parameter | undefined;
  readonly #eps: number;
  constructor(channels: number, { eps = 1e-5, affine = true }: { eps?: number; affine?: boolean } = {}) {
    super();
    this.weight = affine ? param(channels) : undefined;
    this.bias = affine ? param(channels) : undefined;
    this.running_mean = param(channels);
    this.running_var = param(channels);
    this.#eps = eps;
  }
  /** x [b, c, ...] → the same shape: (x - mean) / sqrt(var + eps), scaled and shifted. */
  forward(x: Tensor): Tensor {
    return scope(() => {
      const perChannel = overChannels(x.rank);
      const inverse = perChannel(this.running_var).add(this.#eps).rsqrt();
      const scale = this.weight ? inverse.mul(perChannel(this.weight)) : inverse;
      const y = x.sub(perChannel(this.running_mean)).mul(scale);
      return this.bias ? y.add(perChannel(this.bias)) : y;
    });
  }
  /** The inverse of `forward`: y · sqrt(var + eps) + mean, as autoencoders need it; only without affine parameters. */
  inverse(y: Tensor): Tensor {
    if (this.weight) throw new UnsupportedError("BatchNorm", "only a batch norm without affine parameters is inverted");
    return scope(() => {
      const perChannel = overChannels(y.rank);
      return y.mul(perChannel(this.running_var).add(this.#eps).sqrt()).add(perChannel(this.running_mean));
    });
  }
}
