// Feed-forward parts of transformer blocks: two layers with an activation between, or a gated unit (arXiv:2002.05202).
import { type Epilogue, epilogue, scope, type Tensor, type Value } from "@wick/tensor";
import { Linear } from "./linear.ts";
import { Module } from "./module.ts";

/** Activations that fuse into the layer before them; `gelu` is the tanh approximation. */
export type FusedActivation = "gelu" | "geluErf" | "geluQuick" | "silu" | "relu";

const activations: Readonly<Record<FusedActivation, Epilogue>> = {
  gelu: epilogue((y: Value) => y.gelu()),
  geluErf: epilogue((y: Value) => y.geluErf()),
  geluQuick: epilogue((y: Value) => y.geluQuick()),
  silu: epilogue((y: Value) => y.silu()),
  relu: epilogue((y: Value) => y.relu()),
};

/** What may differ in an Mlp. */
export interface MlpOptions {
  /** Between the layers; "gelu", the tanh form, by default. */
  readonly activation?: FusedActivation;
  /** Biases in both layers; true by default. */
  readonly bias?: boolean;
  /** Names of the two layers in the checkpoint: "0" and "2" (as torch's Sequential) by default. */
  readonly names?: readonly [first: string, second: string];
}

/** Linear, activation, Linear. */
export class Mlp extends Module {
  readonly #first: Linear;
  readonly #second: Linear;
  readonly #names: readonly [string, string];
  readonly #activation: Epilogue;
  constructor(width: number, hidden: number, { activation = "gelu", bias = true, names = ["0", "2"] }: MlpOptions = {}) {
    super();
    this.#first = new Linear(width, hidden, { bias });
    this.#second = new Linear(hidden, width, { bias });
    this.#names = names;
    this.#activation = activations[activation];
  }
  override children(): Iterable<readonly [string, unknown]> {
    return [
      [this.#names[0], this.#first],
      [this.#names[1], this.#second],
    ];
  }
  /** x [..., width] → the same shape; `then` is fused into the second product. */
  forward(x: Tensor, then?: Epilogue): Tensor {
    return scope(() => this.#second.forward(this.#first.forward(x, this.#activation), then));
  }
}

/** What may differ in a SwiGlu. */
export interface SwiGluOptions {
  /** Biases in all layers; false by default. */
  readonly bias?: boolean;
  /** Names in the checkpoint: w1, w3, w2 by default (LLaMA, Z-Image); gate_proj, up_proj, down_proj in Qwen. */
  readonly names?: SwiGluNames;
}

/** What a checkpoint calls the three layers of a SwiGlu. */
export interface SwiGluNames {
  /** The layer that goes through SiLU. */
  readonly gate: string;
  /** The layer that the gate multiplies. */
  readonly up: string;
  /** The layer back to the block's width. */
  readonly down: string;
}

/** down(silu(gate(x)) · up(x)). */
export class SwiGlu extends Module {
  readonly #gate: Linear;
  readonly #up: Linear;
  readonly #down: Linear;
  readonly #names: SwiGluNames;
  constructor(width: number, hidden: number, { bias = false, names = { gate: "w1", up: "w3", down: "w2" } }: SwiGluOptions = {}) {
    super();
    this.#gate = new Linear(width, hidden, { bias });
    this.#up = new Linear(width, hidden, { bias });
    this.#down = new Linear(hidden, width, { bias });
    this.#names = names;
  }
  override children(): Iterable<readonly [string, unknown]> {
    const { gate, up, down } = this.#names;
    return [
      [gate, this.#gate],
      [down, this.#down],
      [up, this.#up],
    ];
  }
  /** x [..., width] → the same shape; `then` is fused into the last product. */
  forward(x: Tensor, then?: Epilogue): Tensor {
    return scope(() => {
      const up = this.#up.forward(x);
      const gated = this.#gate.forward(
        x,
        epilogue((g, u) => g.silu().mul(u), up),
      );
      return this.#down.forward(gated, then);
    });
  }
}
