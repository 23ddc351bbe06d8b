// Options of the fused ops: one home for the ops themselves and for what runs where a backend has no kernel for them (composed.ts).
import type { Tensor } from "../tensor.ts";
import type { Epilogue } from "./epilogue.ts";

/** Epsilon, weight and bias of a norm, and what follows it. */
export interface NormOptions {
  /** [d], any float dtype. */
  readonly weight?: Tensor | undefined;
  /** [d], any float dtype. */
  readonly bias?: Tensor | undefined;
  /** Added to the variance before its root. */
  readonly eps: number;
  /** Fused into the norm; sees the weighted and biased result. */
  readonly then?: Epilogue | undefined;
}

/** Masks, lengths and scale of attention. */
export interface AttentionOptions {
  /** Broadcast to [b, n, l, s]: u8 keeps where nonzero (torch's bool mask), a float mask or bias is added to the scores. */
  readonly mask?: Tensor | undefined;
  /** [b] integers: keys at positions ≥ lengths[b] are ignored. */
  readonly lengths?: Tensor | undefined;
  /** Query i sees key j only if j ≤ i. */
  readonly causal?: boolean;
  /** Default 1/√k. */
  readonly scale?: number;
}

/** Projected queries (or keys) of one stream of tokens, and the norm of their heads. */
export interface QkStream {
  /** [b, l, n·k], with any strides: it may be a part of a fused projection. */
  readonly x: Tensor;
  /** [k], any float dtype. */
  readonly weight?: Tensor | undefined;
  /** Added to the mean square before its root. */
  readonly eps: number;
}

/** What all streams share. */
export interface QkNormRopeOptions {
  /** n */
  readonly heads: number;
  /** f32, broadcast to [b, n, Σ l, k/2]; over the tokens of all streams. */
  readonly cos: Tensor;
  /** As `cos`. */
  readonly sin: Tensor;
  /** Pairs (2i, 2i+1) as FLUX and Z-Image; otherwise (i, i + k/2) as Qwen and LLaMA. */
  readonly interleaved: boolean;
}
