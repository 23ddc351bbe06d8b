// Sinusoidal timestep embedding, computed on the host. Frequencies and angles are rounded to f32 as in the references: a guidance of 3.5 makes
// an angle of 3500, which f32 holds to 2e-4 only, and models were trained with that.
// After black-forest-labs/flux src/flux/modules/layers.py (timestep_embedding); Z-Image uses the same table.
import type { Device, Tensor } from "@wick/tensor";
import { Linear } from "./linear.ts";
import { Module } from "./module.ts";

/** What may differ in a timestep embedding. */
export interface TimestepOptions {
  /** Factor on t before the sinusoid; 1000 for FLUX and Z-Image. */
  readonly scale?: number;
  /** Longest period of the sinusoids; 10,000 by default. */
  readonly maxPeriod?: number;
}

/** values [b] on the host → [b, width]: cosines first, then sines, frequency i is maxPeriod^(-i/(width/2)). */
export function timestepEmbedding(
  device: Device,
  values: readonly number[],
  width: number,
  { scale = 1000, maxPeriod = 10_000 }: TimestepOptions = {},
): Tensor {
  const half = Math.floor(width / 2);
  const slope = Math.fround(-Math.log(maxPeriod));
  const frequencies = Float32Array.from({ length: half }, (_, i) => Math.exp(Math.fround(Math.fround(slope * i) / half)));
  const table = new Float32Array(values.length * width);
  for (const [row, value] of values.entries()) {
    for (let i = 0; i < half; i++) {
      const angle = Math.fround(Math.fround(value * scale) * frequencies[i]!);
      table[row * width + i] = Math.cos(angle);
      table[row * width + half + i] = Math.sin(angle);
    }
  }
  return device.tensor(table, [values.length, width], { label: "timestep" });
}

/** Linear, SiLU, Linear, named as FLUX names them. */
export class MlpEmbedder extends Module {
  /** From the embedding to the model's width. */
  readonly in_layer: Linear;
  /** After SiLU, width to width. */
  readonly out_layer: Linear;
  constructor(inWidth: number, width: number) {
    super();
    this.in_layer = new Linear(inWidth, width);
    this.out_layer = new Linear(width, width);
  }
  /** x [b, in] → [b, width] */
  forward(x: Tensor): Tensor {
    return this.out_layer.forward(this.in_layer.forward(x).silu());
  }
}
