// Between latents and image tokens: packing, position ids, and the mask channels of Fill.
// After black-forest-labs/flux @ 802fb47 src/flux/sampling.py (prepare, prepare_fill, prepare_kontext, unpack).
import { patchify, unpatchify } from "@wick/nn";
import type { Tensor } from "@wick/tensor";
import type { Position } from "./flux1.ts";

/** Latent rows and columns that make one token. */
export const tokenSide = 2;

/** latents [b, c, h, w] → tokens [b, (h/2 · w/2), c · 4]; the channel is the slowest feature. */
export const packLatents = (latents: Tensor): Tensor => patchify(latents, tokenSide, "channels-first");

/** The inverse for a picture of `rows` x `columns` tokens. */
export const unpackLatents = (tokens: Tensor, size: { rows: number; columns: number }): Tensor =>
  unpatchify(tokens, tokenSide, "channels-first", size);

/** Positions (image, row, column) of a grid of tokens, row by row. Image 0 is the one being made, 1 the reference of Kontext. */
export const imagePositions = (rows: number, columns: number, image = 0): Position[] =>
  Array.from({ length: rows * columns }, (_, i) => [image, Math.floor(i / columns), i % columns]);

/** Text tokens all sit at the origin. */
export const textPositions = (count: number): Position[] => Array.from({ length: count }, () => [0, 0, 0]);

/** mask [b, 1, H, W] of pixels → tokens [b, l, 4 · factor²]: the pixels under a latent pixel become its channels, then it is packed. */
export const maskTokens = (mask: Tensor, factor: number): Tensor =>
  packLatents(mask.rearrange("b 1 (h p) (w q) -> b (p q) h w", { p: factor, q: factor }));
