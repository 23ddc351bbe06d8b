// How a condition vector steers transformer blocks: shift, scale and gate per block (adaLN-Zero, arXiv:2212.09748), shared between blocks
// (FLUX.2), from a table plus one shared vector (adaLN-single, arXiv:2310.00426), or scale and gate without shift (Z-Image).
import { cat, ShapeError, scope, type Tensor, type Tuple } from "@wick/tensor";
import { Linear } from "./linear.ts";
import { Module } from "./module.ts";
import { type Parameter, param } from "./parameter.ts";

/** What may differ in a Modulation. */
export interface ModulationOptions {
  /** Width of the condition; the block's by default. */
  readonly conditionWidth?: number;
  /** SiLU before the projection, as in FLUX; Z-Image has none in its blocks. */
  readonly activate?: boolean;
  /** True by default. */
  readonly bias?: boolean;
  /** The projection's name in the checkpoint; "lin" by default (FLUX). */
  readonly name?: string;
}

/**
 * Projects the condition to `count` vectors: 6 for adaLN-Zero (shift, scale, gate twice), 3 for one branch, 4 for Z-Image (scale, gate twice),
 * 2 for a last layer. One instance used by several blocks is shared modulation.
 */
export class Modulation<N extends number> extends Module {
  readonly #projection: Linear;
  readonly #name: string;
  readonly #count: N;
  readonly #activate: boolean;
  constructor(width: number, count: N, { conditionWidth = width, activate = true, bias = true, name = "lin" }: ModulationOptions = {}) {
    super();
    this.#projection = new Linear(conditionWidth, count * width, { bias });
    this.#count = count;
    this.#activate = activate;
    this.#name = name;
  }
  override children(): Iterable<readonly [string, unknown]> {
    return [[this.#name, this.#projection]];
  }
  /** condition [b, c] → `count` tensors [b, 1, width], to broadcast over tokens. */
  forward(condition: Tensor): Tuple<Tensor, N> {
    const [b] = condition.dims(2);
    return scope((() => {
      const all = this.#projection.forward(this.#activate ? condition.silu() : condition);
      return all.reshape(b, 1, -1).chunk(this.#count, -1);
    }) as () => Tensor[]) as Tuple<Tensor, N>;
  }
}

/** adaLN-single: a learned table of `count` vectors per block, added to one projection of the condition that all blocks share. */
export class TableModulation<N extends number> extends Module {
  /** [count, width] */
  readonly scale_shift_table: Parameter;
  readonly #count: N;
  constructor(width: number, count: N) {
    super();
    this.scale_shift_table = param(count, width);
    this.#count = count;
  }
  /** shared [b, count · width] → `count` tensors [b, 1, width] */
  forward(shared: Tensor): Tuple<Tensor, N> {
    const [b, total] = shared.dims(2);
    if (total !== this.scale_shift_table.size)
      throw new ShapeError("TableModulation", `the shared vector ${shared} does not fit ${this.scale_shift_table}`);
    return scope((() => {
      const sum = shared.reshape(b, this.#count, -1).add(this.scale_shift_table);
      return sum.chunk(this.#count, 1);
    }) as () => Tensor[]) as Tuple<Tensor, N>;
  }
}

/** The two halves of a block's steering. */
export interface Steering {
  /** Before the branch: x [b, l, d] → x (1 + scale) + shift. */
  before(x: Tensor): Tensor;
  /** After the branch: x + gate · branch. */
  after(x: Tensor, branch: Tensor): Tensor;
}

/** Shift, scale and gate [b, 1, d] as FLUX applies them. */
export const shiftScaleGate = (shift: Tensor, scale: Tensor, gate: Tensor): Steering => ({
  before: (x) => x.modulate(shift, scale),
  after: (x, branch) => x.gatedAdd(gate, branch),
});

/** Scale and gate [b, 1, d] as Z-Image applies them: no shift, and the gate through tanh. */
export const scaleTanhGate = (scale: Tensor, gate: Tensor): Steering => ({
  before: (x) => x.modulate(undefined, scale),
  after: (x, branch) => x.gatedAdd(gate.tanh(), branch),
});

/** No condition: the branch is added as it is (Z-Image's context refiner). */
export const unmodulated: Steering = { before: (x) => x, after: (x, branch) => x.add(branch) };

/** Several condition vectors [b, c] per token, chosen by token: conditions [n][b, c] and index [l] → [b, l, c]. */
export function perToken(conditions: readonly Tensor[], index: Tensor): Tensor {
  return scope(() =>
    cat(
      conditions.map((c) => c.unsqueeze(1)),
      1,
    ).indexSelect(1, index),
  );
}
