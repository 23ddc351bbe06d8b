// conv and convTranspose: one output plane at a time, one weight against a whole row at a time, f64 sums.
import type { ConvAttrs, Kernel } from "../../../ops/table.ts";
import type { View } from "../../../view.ts";
import { readFloats } from "./access.ts";
import { ResultSink } from "./expression.ts";

interface Plane {
  readonly values: Float32Array | Float64Array;
  readonly height: number;
  readonly width: number;
}

/** out = x convolved with weight, with epilogue, see the op table. */
export const conv: Kernel<"conv"> = (out, { x, weight, operands }, attrs) => {
  const [b, c, h, w] = x.layout.shape as [number, number, number, number];
  const [, o, oh, ow] = out.layout.shape as [number, number, number, number];
  if (b * o * oh * ow === 0) return;
  const [, each, kh, kw] = weight.layout.shape as [number, number, number, number];
  const sink = new ResultSink(out, attrs.epilogue, operands);
  const filter = new Float32Array(each * kh * kw);
  const image = new Float32Array(c * h * w);
  const sums = new Float64Array(oh * ow);
  const result = new Float32Array(oh * ow);
  for (let i = 0; i < b; i++) {
    readFloats(x, x.layout.offset + i * image.length, 1, image, 0, image.length);
    for (let j = 0; j < o; j++) {
      readFloats(weight, weight.layout.offset + j * filter.length, 1, filter, 0, filter.length);
      sums.fill(0);
      const first = Math.floor(j / (o / attrs.groups)) * each;
      for (let p = 0; p < each; p++) {
        const from = { values: image.subarray((first + p) * h * w, (first + p + 1) * h * w), height: h, width: w };
        spreadPlane(from, { values: sums, height: oh, width: ow }, filter, p * kh * kw, kh, kw, attrs, true);
      }
      result.set(sums);
      sink.put((i * o + j) * oh * ow, oh * ow, result, 0);
    }
  }
};

/** out = x convolved with the transpose of weight, with epilogue, see the op table. */
export const convTranspose: Kernel<"convTranspose"> = (out, { x, weight, operands }, attrs) => {
  const [b, c, h, w] = x.layout.shape as [number, number, number, number];
  const [, o, oh, ow] = out.layout.shape as [number, number, number, number];
  if (b * o * oh * ow === 0) return;
  const [, each, kh, kw] = weight.layout.shape as [number, number, number, number];
  const sink = new ResultSink(out, attrs.epilogue, operands);
  const image = new Float32Array(c * h * w);
  const filters = wholeWeight(weight);
  const sums = new Float64Array(oh * ow);
  const result = new Float32Array(oh * ow);
  const channels = c / attrs.groups;
  for (let i = 0; i < b; i++) {
    readFloats(x, x.layout.offset + i * image.length, 1, image, 0, image.length);
    for (let j = 0; j < o; j++) {
      sums.fill(0);
      const group = Math.floor(j / each);
      for (let p = group * channels; p < (group + 1) * channels; p++) {
        const from = { values: image.subarray(p * h * w, (p + 1) * h * w), height: h, width: w };
        spreadPlane({ values: sums, height: oh, width: ow }, from, filters, (p * each + (j % each)) * kh * kw, kh, kw, attrs, false);
      }
      result.set(sums);
      sink.put((i * o + j) * oh * ow, oh * ow, result, 0);
    }
  }
};

function wholeWeight(weight: View): Float32Array {
  const out = new Float32Array(weight.layout.shape.reduce((n, d) => n * d, 1));
  readFloats(weight, weight.layout.offset, 1, out, 0, out.length);
  return out;
}

/**
 * Couples a fine plane (a convolution's input) and a coarse one (its output) through a filter: fine position = coarse · stride - padding + tap · dilation.
 * `gather` adds fine to coarse (convolution), else coarse to fine (its transpose).
 */
function spreadPlane(
  fine: Plane,
  coarse: Plane,
  filter: Float32Array,
  at: number,
  kh: number,
  kw: number,
  { stride, padding, dilation }: ConvAttrs,
  gather: boolean,
): void {
  for (let ky = 0; ky < kh; ky++) {
    for (let kx = 0; kx < kw; kx++) {
      const weight = filter[at + ky * kw + kx]!;
      const [y0, x0] = [ky * dilation[0] - padding[0], kx * dilation[1] - padding[1]];
      const [first, last] = coarseRange(x0, stride[1], fine.width, coarse.width);
      for (let y = 0; y < coarse.height; y++) {
        const fy = y * stride[0] + y0;
        if (fy < 0 || fy >= fine.height) continue;
        const [f, c] = [fy * fine.width + x0, y * coarse.width];
        if (gather) gatherRow(coarse.values, c, fine.values, f, stride[1], first, last, weight);
        else scatterRow(fine.values, f, coarse.values, c, stride[1], first, last, weight);
      }
    }
  }
}

/** First and one past the last coarse column whose fine column lies inside. */
function coarseRange(x0: number, stride: number, fineWidth: number, coarseWidth: number): [number, number] {
  const first = Math.max(0, Math.ceil(-x0 / stride));
  return [first, Math.min(coarseWidth, Math.floor((fineWidth - 1 - x0) / stride) + 1)];
}

type Row = Float32Array | Float64Array;

function gatherRow(to: Row, at: number, from: Row, start: number, stride: number, first: number, last: number, weight: number): void {
  for (let x = first; x < last; x++) to[at + x] = to[at + x]! + weight * from[start + x * stride]!;
}

function scatterRow(to: Row, at: number, from: Row, start: number, stride: number, first: number, last: number, weight: number): void {
  for (let x = first; x < last; x++) to[at + x * stride] = to[at + x * stride]! + weight * from[start + x]!;
}
