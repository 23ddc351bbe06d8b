// Rotary position embedding over any number of position axes. Tables are computed on the host in f64 and uploaded as f32.
// After black-forest-labs/flux src/flux/math.py (rope) and arXiv:2104.09864.
import { type Device, ShapeError, type Tensor } from "@wick/tensor";

/** Cosines and sines of rotary positions. */
export interface RopeTable {
  /** [b or 1, 1, l, k/2] f32, to broadcast over heads. */
  readonly cos: Tensor;
  /** Of the same shape. */
  readonly sin: Tensor;
}

/** How the head width is shared among position axes, and the base of the frequencies. */
export interface RopeAxes {
  /** Head width given to each position axis; each even, adding up to the head width. */
  readonly widths: readonly number[];
  /** Base of the frequencies. */
  readonly theta: number;
}

/**
 * Tables for positions `ids`: [l][axes] for one sequence, or a batch of such lists of equal length.
 * Frequency j of an axis of width d is theta^(-2j/d); angles are position · frequency, in f64. Throws ShapeError for odd widths, and for positions
 * with another number of axes.
 */
export function ropeTable(device: Device, ids: readonly (readonly number[])[], { widths, theta }: RopeAxes): RopeTable {
  return ropeTables(device, [ids], { widths, theta });
}

/** One table per sequence of a batch: cos, sin [b, 1, l, k/2]. Throws ShapeError for unequal lengths and positions of other axes. */
export function ropeTables(device: Device, batch: readonly (readonly (readonly number[])[])[], { widths, theta }: RopeAxes): RopeTable {
  if (widths.some((w) => !Number.isInteger(w / 2) || w < 0))
    throw new ShapeError("ropeTables", `the width of an axis is an even number, as it is turned in pairs: [${widths.join(", ")}]`);
  const length = batch[0]?.length ?? 0;
  const half = widths.reduce((s, w) => s + w / 2, 0);
  const frequencies = widths.map((w) => Float64Array.from({ length: w / 2 }, (_, j) => theta ** ((-2 * j) / w)));
  const cos = new Float32Array(batch.length * length * half);
  const sin = new Float32Array(cos.length);
  let at = 0;
  for (const ids of batch) {
    if (ids.length !== length) throw new ShapeError("ropeTables", `sequences of a batch have equal lengths: ${ids.length} and ${length}`);
    for (const position of ids) {
      if (position.length !== widths.length)
        throw new ShapeError("ropeTables", `a position has a number for each of the ${widths.length} axes: [${position.join(", ")}]`);
      for (const [axis, table] of frequencies.entries()) {
        for (const frequency of table) {
          const angle = position[axis]! * frequency;
          cos[at] = Math.cos(angle);
          sin[at++] = Math.sin(angle);
        }
      }
    }
  }
  const shape = [batch.length, 1, length, half];
  return { cos: device.tensor(cos, shape, { label: "rope.cos" }), sin: device.tensor(sin, shape, { label: "rope.sin" }) };
}

/** Rotates x [b, n, l, k]; interleaved pairs (FLUX, Z-Image) or half-split pairs (Qwen, LLaMA). */
export const applyRope = (x: Tensor, { cos, sin }: RopeTable, { interleaved }: { interleaved: boolean }): Tensor =>
  x.rope(cos, sin, { interleaved });

/** Positions 0…length-1 on one axis, for language models. */
export const sequencePositions = (length: number): number[][] => Array.from({ length }, (_, i) => [i]);
