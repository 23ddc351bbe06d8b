// FLUX's attention under the names that diffusers' checkpoints have: separate projections, a norm for every head of q and k.
// After huggingface/diffusers src/diffusers/models/transformers/transformer_flux.py (Apache-2.0). Shapes: b batch, l tokens, d width, n heads.
import { type AttentionFunction, Linear, Module, mergeHeads, RmsNorm, type RopeTable, repeat, splitHeads } from "@wick/nn";
import type { Tensor } from "@wick/tensor";

export interface FluxAttentionConfig {
  readonly width: number;
  readonly heads: number;
}

/** The fields that FLUX's attention has in diffusers. */
export class Attention extends Module {
  readonly to_q: Linear;
  readonly to_k: Linear;
  readonly to_v: Linear;
  readonly norm_q: RmsNorm;
  readonly norm_k: RmsNorm;
  constructor({ width, heads }: FluxAttentionConfig) {
    super();
    [this.to_q, this.to_k, this.to_v] = linears(width);
    [this.norm_q, this.norm_k] = headNorms(width / heads);
  }
}

export class JointAttention extends Attention {
  readonly to_out: readonly [Linear];
  readonly add_q_proj: Linear;
  readonly add_k_proj: Linear;
  readonly add_v_proj: Linear;
  readonly norm_added_q: RmsNorm;
  readonly norm_added_k: RmsNorm;
  readonly to_add_out: Linear;
  constructor(cfg: FluxAttentionConfig) {
    super(cfg);
    [this.add_q_proj, this.add_k_proj, this.add_v_proj] = linears(cfg.width);
    [this.norm_added_q, this.norm_added_k] = headNorms(cfg.width / cfg.heads);
    [this.to_add_out, this.to_out] = [new Linear(cfg.width, cfg.width), [new Linear(cfg.width, cfg.width)]];
  }
}

const linears = (width: number) => repeat(3, () => new Linear(width, width)) as readonly [Linear, Linear, Linear];
const headNorms = (width: number) => repeat(2, () => new RmsNorm(width, { eps: 1e-6 })) as readonly [RmsNorm, RmsNorm];

type Projections = readonly [q: Linear, k: Linear, v: Linear, normQ: RmsNorm, normK: RmsNorm];
export const own = (a: Attention): Projections => [a.to_q, a.to_k, a.to_v, a.norm_q, a.norm_k];
export const added = (a: JointAttention): Projections => [a.add_q_proj, a.add_k_proj, a.add_v_proj, a.norm_added_q, a.norm_added_k];

/** What all blocks of a run share. */
export interface Setting {
  readonly heads: number;
  readonly rope: RopeTable;
  readonly attention: AttentionFunction;
}

/** x [b, l, d] → q, k, v [b, n, l, k] */
export function project(x: Tensor, [q, k, v, normQ, normK]: Projections, { heads: n }: Setting): readonly Tensor[] {
  const heads = (l: Linear) => splitHeads(l.forward(x), n);
  return [normQ.forward(heads(q)), normK.forward(heads(k)), heads(v)];
}

export function attend([q, k, v]: readonly Tensor[], { attention, rope }: Setting): Tensor {
  const turned = (x: Tensor) => x.rope(rope.cos, rope.sin, { interleaved: true });
  return mergeHeads(attention(turned(q!), turned(k!), v!));
}
