// Attention as a value: blocks take the function that combines q, k and v, so that a researcher can replace it.
import { type AttentionOptions, scaledDotProductAttention, type Tensor } from "@wick/tensor";

/** q [b, n, l, k], k [b, m, s, k], v [b, m, s, e] → [b, n, l, e]. */
export type AttentionFunction = (q: Tensor, k: Tensor, v: Tensor, options?: AttentionOptions) => Tensor;

/** The fused kernel; never holds the score matrix. */
export const fusedAttention: AttentionFunction = (q, k, v, options) => scaledDotProductAttention(q, k, v, options);

/** x [b, l, (n k)] → [b, n, l, k]; a view. */
export const splitHeads = (x: Tensor, heads: number): Tensor => x.rearrange("b l (n k) -> b n l k", { n: heads });
/** x [b, n, l, k] → [b, l, (n k)]; free after attention. */
export const mergeHeads = (x: Tensor): Tensor => x.rearrange("b n l k -> b l (n k)");
