// Classifier-free guidance over velocities.
import { scope, type Tensor } from "@wick/tensor";

/** Strength and limits of classifier-free guidance. */
export interface Guidance {
  /** prediction = positive + scale · (positive - negative); 0 is off. ComfyUI's cfg is this plus 1. */
  readonly scale: number;
  /** Off after 1 - sigma passes this (Z-Image cfg_truncation; 1 never). */
  readonly truncation?: number;
  /** If set, the result's norm is limited to this factor of the positive one's (Z-Image cfg_normalization). */
  readonly normalization?: number;
}

/** The guidance scale in force at `sigma`. */
export function guidanceAt({ scale, truncation = 1 }: Guidance, sigma: number): number {
  return truncation < 1 && 1 - sigma > truncation ? 0 : scale;
}

/** Combines two velocities [b, ...] in f32; norms are taken per sample. */
export function combineGuidance(positive: Tensor, negative: Tensor, scale: number, normalization?: number): Tensor {
  return scope(() => {
    const p = positive.to("f32");
    const guided = p.add(p.sub(negative).mul(scale));
    if (!normalization) return guided;
    const norm = (x: Tensor) =>
      x
        .flatten(1)
        .norm(1)
        .reshape([x.dim(0), ...new Array<number>(x.rank - 1).fill(1)]);
    const [limit, size] = [norm(p).mul(normalization), norm(guided)];
    return guided.mul(size.gt(limit).where(limit.div(size), 1));
  });
}
