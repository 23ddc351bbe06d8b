// What projected queries and keys go through before attention: heads, their norm, joining streams, rotary positions. One kernel where it can be.
import { cat, type QkStream, qkNormRope, type Tensor } from "@wick/tensor";
import { splitHeads } from "./attention.ts";
import type { Module } from "./module.ts";
import { RmsNorm } from "./norm.ts";
import { applyRope, type RopeTable } from "./rope.ts";

/** A norm over the last dimension, for queries and keys. */
export interface HeadNorm extends Module {
  /** x [b, n, l, headWidth] → the same shape */
  forward(x: Tensor): Tensor;
}

/** Projected queries or keys of one stream of tokens. */
export interface HeadStream {
  /** [b, l, (n k)]; may be a part of a fused projection. */
  readonly x: Tensor;
  /** Of every head. */
  readonly norm: HeadNorm;
}

/** Whether heads are cut from the streams, and which pairs turn. */
export interface RotatedHeadsOptions {
  /** n */
  readonly heads: number;
  /** Over the tokens of all streams. */
  readonly rope: RopeTable;
  /** Neighbours are pairs (FLUX, Z-Image), or the two halves of a head (Qwen, LLaMA). */
  readonly interleaved: boolean;
}

/**
 * Queries or keys of streams one after another → heads [b, n, Σ l, k], normalised and rotated. In one kernel where every norm is an RmsNorm;
 * step by step, with the same values, where one is another module or is being captured or patched.
 */
export function rotatedHeads(streams: readonly HeadStream[], { heads, rope, interleaved }: RotatedHeadsOptions): Tensor {
  const fused = streams.flatMap(({ x, norm }): QkStream[] => {
    const parts = norm instanceof RmsNorm ? norm.fusable : undefined;
    return parts ? [{ x, ...parts }] : [];
  });
  if (fused.length === streams.length) return qkNormRope(fused, { heads, interleaved, ...rope });
  const normed = streams.map(({ x, norm }) => norm.forward(splitHeads(x, heads)));
  return applyRope(joinStreams(normed), rope, { interleaved });
}

/** Heads [b, n, l, k] of streams one after another; a single stream is not copied. */
export const joinStreams = (streams: readonly Tensor[]): Tensor => (streams.length === 1 ? streams[0]! : cat(streams, 2));
