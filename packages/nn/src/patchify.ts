// Images to tokens and back, in the two feature orders that released models use.
import type { Tensor } from "@wick/tensor";

/** Order of a token's features: FLUX packs (c ph pw), Z-Image (ph pw c). */
export type PatchOrder = "channels-first" | "channels-last";

const token = (order: PatchOrder): string => (order === "channels-first" ? "(c p q)" : "(p q c)");

/** x [b, c, h, w] with h and w multiples of `patch` → tokens [b, (h/patch · w/patch), c · patch²], row-major. */
export function patchify(x: Tensor, patch: number, order: PatchOrder): Tensor {
  return x.rearrange(`b c (h p) (w q) -> b (h w) ${token(order)}`, { p: patch, q: patch });
}

/** The inverse: tokens [b, rows · columns, c · patch²] → [b, c, rows · patch, columns · patch]. */
export function unpatchify(x: Tensor, patch: number, order: PatchOrder, size: { rows: number; columns: number }): Tensor {
  return x.rearrange(`b (h w) ${token(order)} -> b c (h p) (w q)`, { h: size.rows, w: size.columns, p: patch, q: patch });
}
