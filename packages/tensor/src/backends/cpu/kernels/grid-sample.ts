// gridSample: a picture read at given places.
// After pytorch/pytorch aten/src/ATen/native/GridSampler.h.
import type { GridSampleAttrs, Kernel } from "../../../ops/table.ts";
import { readFloats, writeBlock } from "./access.ts";

/** out = x at the places of the grid, see the op table. */
export const gridSample: Kernel<"gridSample"> = (out, { x, grid }, attrs) => {
  const [b, c, h, w] = x.layout.shape as [number, number, number, number];
  const places = grid.layout.shape[1]! * grid.layout.shape[2]!;
  const pixels = new Float32Array(c * h * w);
  const at = new Float32Array(2 * places);
  const result = new Float32Array(c * places);
  const taps = new Taps(h, w, attrs);
  for (let i = 0; i < b; i++) {
    readFloats(x, x.layout.offset + i * pixels.length, 1, pixels, 0, pixels.length);
    readFloats(grid, grid.layout.offset + i * at.length, 1, at, 0, at.length);
    for (let n = 0; n < places; n++) {
      taps.move(at[2 * n]!, at[2 * n + 1]!);
      for (let channel = 0; channel < c; channel++) result[channel * places + n] = taps.sum(pixels, channel * h * w);
    }
    writeBlock(out, out.layout.offset + i * result.length, 1, result, 0, result.length);
  }
};

/** The pixels that make the value at a place, and their weights. */
class Taps {
  readonly #h: number;
  readonly #w: number;
  readonly #attrs: GridSampleAttrs;
  /** In the plane; weights of pixels outside are left out. */
  readonly #pixel = new Int32Array(16);
  readonly #weight = new Float64Array(16);
  #count = 0;
  constructor(h: number, w: number, attrs: GridSampleAttrs) {
    this.#h = h;
    this.#w = w;
    this.#attrs = attrs;
  }

  /** To a place in -1…1. */
  move(gx: number, gy: number): void {
    this.#count = 0;
    const x = this.#inPixels(gx, this.#w);
    const y = this.#inPixels(gy, this.#h);
    const { mode } = this.#attrs;
    if (mode === "bicubic") this.#cubic(x, y);
    else if (mode === "bilinear") this.#linear(this.#padded(x, this.#w), this.#padded(y, this.#h));
    else this.#add(roundHalfToEven(this.#padded(x, this.#w)), roundHalfToEven(this.#padded(y, this.#h)), 1);
  }

  #linear(x: number, y: number): void {
    const left = Math.floor(x);
    const top = Math.floor(y);
    const fx = x - left;
    const fy = y - top;
    this.#add(left, top, (1 - fx) * (1 - fy));
    this.#add(left + 1, top, fx * (1 - fy));
    this.#add(left, top + 1, (1 - fx) * fy);
    this.#add(left + 1, top + 1, fx * fy);
  }

  /** Of the plane that begins at `base`. */
  sum(pixels: Float32Array, base: number): number {
    let sum = 0;
    for (let i = 0; i < this.#count; i++) sum += this.#weight[i]! * pixels[base + this.#pixel[i]!]!;
    return sum;
  }

  #cubic(x: number, y: number): void {
    const left = Math.floor(x);
    const top = Math.floor(y);
    for (let j = -1; j <= 2; j++) {
      const row = this.#padded(top + j, this.#h);
      const down = cubic(y - top - j);
      for (let i = -1; i <= 2; i++) this.#add(this.#padded(left + i, this.#w), row, down * cubic(x - left - i));
    }
  }

  #add(x: number, y: number, weight: number): void {
    if (!(x >= 0 && y >= 0 && x < this.#w && y < this.#h)) return;
    this.#pixel[this.#count] = Math.trunc(y) * this.#w + Math.trunc(x);
    this.#weight[this.#count++] = weight;
  }

  /** 0 is the center of the first pixel. */
  #inPixels(at: number, size: number): number {
    return this.#attrs.alignCorners ? ((at + 1) / 2) * (size - 1) : ((at + 1) * size - 1) / 2;
  }

  /** Places outside are brought to the border, or mirrored at it. */
  #padded(at: number, size: number): number {
    const { paddingMode, alignCorners } = this.#attrs;
    if (paddingMode === "zeros") return at;
    const inside = paddingMode === "border" ? at : alignCorners ? mirrored(at, 0, size - 1) : mirrored(at, -0.5, size);
    return Math.min(size - 1, Math.max(0, inside));
  }
}

/** Mirrored into low … low + span, as often as it needs. */
function mirrored(at: number, low: number, span: number): number {
  if (span === 0) return 0;
  const distance = Math.abs(at - low);
  const rest = distance % span;
  return low + (Math.floor(distance / span) % 2 === 0 ? rest : span - rest);
}

/** Keys' cubic with torch's constant. */
function cubic(distance: number): number {
  const a = -0.75;
  const d = Math.abs(distance);
  if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0;
}

function roundHalfToEven(value: number): number {
  const floor = Math.floor(value);
  if (value - floor !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}
