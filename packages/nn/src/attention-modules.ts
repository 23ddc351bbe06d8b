// Attention with its projections: over one stream (self, grouped, causal) or over two streams joined (FLUX, SD3). Blocks that need other
// arrangements write their own; these are the common forms, with every part replaceable.
import { type AttentionOptions, cat, type Epilogue, ShapeError, scope, type Tensor } from "@wick/tensor";
import { type AttentionFunction, fusedAttention, mergeHeads, splitHeads } from "./attention.ts";
import { Linear } from "./linear.ts";
import { Module } from "./module.ts";
import { RmsNorm } from "./norm.ts";
import { applyRope, type RopeTable } from "./rope.ts";
import { type HeadNorm, rotatedHeads } from "./rotated-heads.ts";

/** Sizes and parts of an attention module. */
export interface AttentionConfig {
  /** Of the tokens. */
  readonly width: number;
  /** Query heads. */
  readonly heads: number;
  /** Fewer key and value heads than query heads: grouped-query attention (arXiv:2305.13245). */
  readonly kvHeads?: number;
  /** width / heads by default. */
  readonly headWidth?: number;
  /** Biases in to_q, to_k and to_v; false by default. */
  readonly qkvBias?: boolean;
  /** A bias in to_out; false by default. */
  readonly outBias?: boolean;
  /** Norm of queries and keys per head: an eps for RMS norm, or one's own modules; none by default. */
  readonly qkNorm?: number | (() => HeadNorm);
  /** Pairs of the rotary embedding: neighbours (FLUX, Z-Image), or the two halves of a head (Qwen, LLaMA). */
  readonly interleaved?: boolean;
  /** What attends; the fused kernel by default. */
  readonly attention?: AttentionFunction;
}

/** What one call of an attention module takes beside its tokens. */
export interface AttendOptions extends AttentionOptions {
  /** Turns queries and keys by their positions; none by default. */
  readonly rope?: RopeTable | undefined;
}

/** Queries, keys and values of one stream, by names of diffusers: to_q, to_k, to_v, to_out.0, norm_q, norm_k. */
export class SelfAttention extends Module {
  /** Queries. */
  readonly to_q: Linear;
  /** Keys. */
  readonly to_k: Linear;
  /** Values. */
  readonly to_v: Linear;
  /** Back from the heads to the width of the tokens. */
  readonly to_out: readonly [Linear];
  /** Of queries, per head. */
  readonly norm_q: HeadNorm | undefined;
  /** Of keys, per head. */
  readonly norm_k: HeadNorm | undefined;
  readonly #config: AttentionConfig;
  constructor(config: AttentionConfig) {
    super();
    const { width, heads, kvHeads = heads, headWidth = width / heads, qkvBias = false, outBias = false, qkNorm } = config;
    if (!Number.isInteger(headWidth) || heads % kvHeads !== 0) {
      throw new ShapeError("SelfAttention", `width ${width} does not divide into ${heads} heads, or ${heads} heads into ${kvHeads} groups`);
    }
    this.to_q = new Linear(width, heads * headWidth, { bias: qkvBias });
    this.to_k = new Linear(width, kvHeads * headWidth, { bias: qkvBias });
    this.to_v = new Linear(width, kvHeads * headWidth, { bias: qkvBias });
    this.to_out = [new Linear(heads * headWidth, width, { bias: outBias })];
    const norm = typeof qkNorm === "number" ? () => new RmsNorm(headWidth, { eps: qkNorm }) : qkNorm;
    this.norm_q = norm?.();
    this.norm_k = norm?.();
    this.#config = config;
  }
  /** x [b, l, d] → q [b, n, l, k], k and v [b, m, l, k]; normed and rotated. */
  project(x: Tensor, rope?: RopeTable): readonly [q: Tensor, k: Tensor, v: Tensor] {
    const { heads, kvHeads = heads, interleaved = true } = this.#config;
    const turned = (layer: Linear, n: number, norm: HeadNorm | undefined): Tensor => {
      const projected = layer.forward(x);
      if (norm && rope) return rotatedHeads([{ x: projected, norm }], { heads: n, rope, interleaved });
      const normed = norm ? norm.forward(splitHeads(projected, n)) : splitHeads(projected, n);
      return rope ? applyRope(normed, rope, { interleaved }) : normed;
    };
    const v = splitHeads(this.to_v.forward(x), kvHeads);
    return [turned(this.to_q, heads, this.norm_q), turned(this.to_k, kvHeads, this.norm_k), v];
  }
  /** attended [b, n, l, k] → [b, l, d]; `then` is fused into the projection. */
  output(attended: Tensor, then?: Epilogue): Tensor {
    return this.to_out[0].forward(mergeHeads(attended), then);
  }
  /** The function that combines q, k and v. */
  get attention(): AttentionFunction {
    return this.#config.attention ?? fusedAttention;
  }
  /** x [b, l, d] → [b, l, d] */
  forward(x: Tensor, { rope, ...options }: AttendOptions = {}, then?: Epilogue): Tensor {
    return scope(() => {
      const [q, k, v] = this.project(x, rope);
      return this.output(this.attention(q, k, v, options), then);
    });
  }
}

/** Two streams with weights of their own that attend to both: first's tokens come first in the joined sequence. */
export class JointAttention extends Module {
  /** Of the first stream. */
  readonly first: SelfAttention;
  /** Of the second stream. */
  readonly second: SelfAttention;
  constructor(config: AttentionConfig) {
    super();
    this.first = new SelfAttention(config);
    this.second = new SelfAttention(config);
  }
  /** a [b, l, d], b [b, s, d]; rope covers l + s tokens → both streams, in the same shapes. */
  forward(a: Tensor, b: Tensor, { rope, ...options }: AttendOptions = {}): readonly [Tensor, Tensor] {
    return scope((): readonly [Tensor, Tensor] => {
      const [la, lb] = [a.dim(1), b.dim(1)];
      const [qa, ka, va] = this.first.project(a, rope && narrowRope(rope, 0, la));
      const [qb, kb, vb] = this.second.project(b, rope && narrowRope(rope, la, lb));
      const joined = this.first.attention(cat([qa, qb], 2), cat([ka, kb], 2), cat([va, vb], 2), options);
      const [outA, outB] = joined.split([la, lb], 2);
      return [this.first.output(outA), this.second.output(outB)];
    });
  }
}

/** Rows `start`… of a table [b, 1, l, k/2]. */
export const narrowRope = ({ cos, sin }: RopeTable, start: number, length: number): RopeTable => ({
  cos: cos.narrow(2, start, length),
  sin: sin.narrow(2, start, length),
});
