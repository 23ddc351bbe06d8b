// Classifier-free guidance over velocities.
import { ShapeError, scope, type Tensor } from "@wick/tensor";

/** Strength and limits of classifier-free guidance. */
export interface Guidance {
  /** prediction = positive + scale · (positive - negative); 0 is off. ComfyUI's cfg is this plus 1. */
  readonly scale: number;
  /** Off after 1 - sigma passes this (Z-Image cfg_truncation; 1 never). */
  readonly truncation?: number;
  /** If set, the result's norm is limited to this factor of the positive one's (Z-Image cfg_normalization). */
  readonly normalization?: number;
  /** Combines the predictions in another way. */
  readonly rule?: GuidanceRule;
}

/** Where a run is when it combines two predictions. */
export interface GuidancePoint {
  /** Strength in force; 0 is off. */
  readonly scale: number;
  /** Noise level of this evaluation. */
  readonly sigma: number;
  /** The whole schedule: `sigma === sigmas[0]` in the first evaluation. */
  readonly sigmas: readonly number[];
  /** What was evaluated [b, ...]; x - sigma · velocity is the predicted data. */
  readonly x: Tensor;
}

/** Two velocities [b, ...] → the one to follow; tensors made on the way are released. Called where the scale is above 0. */
export type GuidanceRule = (positive: Tensor, negative: Tensor, point: GuidancePoint) => Tensor;

/** The usual rule: positive + scale · (positive - negative), its norm limited if asked for. */
export const classifierFree =
  (normalization?: number): GuidanceRule =>
  (positive, negative, { scale }) =>
    combineGuidance(positive, negative, scale, normalization);

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

/** What `rule` (the usual one by default) makes of two velocities, owned by the caller; throws ShapeError when that has another shape. */
export function guided(positive: Tensor, negative: Tensor, point: GuidancePoint, rule: GuidanceRule = classifierFree()): Tensor {
  return scope(() => {
    const followed = rule(positive, negative, point);
    if (followed.shape.join() !== positive.shape.join()) throw new ShapeError("guidanceRule", `returned ${followed} for ${positive}`);
    return followed === positive || followed === negative ? followed.copy() : followed;
  });
}
