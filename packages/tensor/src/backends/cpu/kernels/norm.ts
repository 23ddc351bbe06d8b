// norm (layer, RMS) and groupNorm: two-pass statistics in f64.
import type { Kernel } from "../../../ops/table.ts";
import { readFloats, rowReader, vectorOf } from "./access.ts";
import { ResultSink } from "./expression.ts";

/** out = layer or RMS norm of x over the last dimension with epilogue, see the op table. */
export const norm: Kernel<"norm"> = (out, { x, weight, bias, operands }, { kind, eps, epilogue }) => {
  const { rows, width, read } = rowReader(x);
  if (rows * width === 0) return;
  const row = new Float32Array(width);
  const w = vectorOf(weight, width);
  const b = vectorOf(bias, width);
  const sink = new ResultSink(out, epilogue, operands);
  for (let r = 0; r < rows; r++) {
    read(r, row);
    const mean = kind === "layer" ? meanOf(row) : 0;
    const scale = 1 / Math.sqrt(meanSquare(row, mean) + eps);
    for (let i = 0; i < width; i++) row[i] = (row[i]! - mean) * scale * (w ? w[i]! : 1) + (b ? b[i]! : 0);
    sink.put(r * width, width, row, 0);
  }
};

function meanOf(values: Float32Array): number {
  let sum = 0;
  for (const v of values) sum += v;
  return sum / values.length;
}

function meanSquare(values: Float32Array, mean: number): number {
  let sum = 0;
  for (const v of values) sum += (v - mean) * (v - mean);
  return sum / values.length;
}

/** out = group norm of x [b, c, spatial…] with epilogue, see the op table. */
export const groupNorm: Kernel<"groupNorm"> = (out, { x, weight, bias, operands }, { groups, eps, epilogue }) => {
  const [b, c] = x.layout.shape as [number, number];
  const area = x.layout.shape.slice(2).reduce((n, d) => n * d, 1);
  if (b * c * area === 0) return;
  const channels = c / groups;
  const w = vectorOf(weight, c);
  const shift = vectorOf(bias, c);
  const sink = new ResultSink(out, epilogue, operands);
  const values = new Float32Array(channels * area);
  for (let g = 0; g < b * groups; g++) {
    readFloats(x, x.layout.offset + g * values.length, 1, values, 0, values.length);
    const mean = meanOf(values);
    const scale = 1 / Math.sqrt(meanSquare(values, mean) + eps);
    for (let i = 0; i < channels; i++) {
      const channel = (g % groups) * channels + i;
      scaleChannel(values, i * area, area, mean, scale * (w ? w[channel]! : 1), shift ? shift[channel]! : 0);
    }
    sink.put(g * values.length, values.length, values, 0);
  }
};

function scaleChannel(values: Float32Array, at: number, count: number, mean: number, scale: number, shift: number): void {
  for (let i = at; i < at + count; i++) values[i] = (values[i]! - mean) * scale + shift;
}
