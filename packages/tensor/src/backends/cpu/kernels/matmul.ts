// matmul: panels of b's columns are expanded to f32 one at a time (never the whole weight), then 4 x 4 dot products in f64.
import { isQuantized } from "../../../dtype.ts";
import type { Kernel } from "../../../ops/table.ts";
import { dequantizeInto } from "../../../quant/decode.ts";
import type { View } from "../../../view.ts";
import { bytesOfView, readFloats, spanBytes, Walker } from "./access.ts";
import { ResultSink } from "./expression.ts";

/** Floats in an expanded panel: 1 MiB. */
const panelFloats = 262_144;

/** out = a @ b with epilogue, see the op table. */
export const matmul: Kernel<"matmul"> = (out, { a, b, operands }, { epilogue }) => {
  const [m, n] = out.layout.shape.slice(-2) as [number, number];
  const k = a.layout.shape.at(-1)!;
  if (out.layout.shape.includes(0)) return;
  const sink = new ResultSink(out, epilogue, operands);
  const columns = Math.min(n, Math.max(16, Math.floor(panelFloats / Math.max(1, k))));
  const bPanel = new Float32Array(columns * k);
  const aPanel = new Float32Array(4 * k);
  const tile = new Float32Array(4 * columns);
  const batches = new BatchOffsets(a, b);
  for (let batch = 0; batch < batches.count; batch++) {
    const [aAt, bAt] = batches.at(batch);
    for (let j = 0; j < n; j += columns) {
      const width = Math.min(columns, n - j);
      expandColumns(b, bAt, j, width, k, bPanel);
      for (let i = 0; i < m; i += 4) {
        const height = Math.min(4, m - i);
        expandRows(a, aAt, i, height, k, aPanel);
        multiplyPanel(aPanel, bPanel, tile, height, width, k);
        for (let r = 0; r < height; r++) sink.put((batch * m + i + r) * n + j, width, tile, r * width);
      }
    }
  }
};

/** First elements of the matrices of each batch. */
class BatchOffsets {
  readonly count: number;
  readonly #a: Walker;
  readonly #b: Walker | undefined;
  readonly #bOffset: number;

  constructor(a: View, b: View) {
    const lead = ({ layout: { shape, strides, offset } }: View) => ({ shape: shape.slice(0, -2), strides: strides.slice(0, -2), offset });
    this.#a = new Walker(lead(a));
    this.#b = b.layout.shape.length > 2 ? new Walker(lead(b)) : undefined;
    this.#bOffset = b.layout.offset;
    this.count = this.#a.size;
  }

  at(batch: number): [number, number] {
    return [this.#a.offsetAt(batch), this.#b?.offsetAt(batch) ?? this.#bOffset];
  }
}

/** Rows i … i + height - 1 of a matrix, k values each, as f32. */
function expandRows(a: View, offset: number, i: number, height: number, k: number, panel: Float32Array): void {
  const [rowStep, step] = a.layout.strides.slice(-2) as [number, number];
  for (let r = 0; r < height; r++) readFloats(a, offset + (i + r) * rowStep, step, panel, r * k, k);
}

/** Columns j … j + width - 1 of b as rows of k f32 values. */
function expandColumns(b: View, offset: number, j: number, width: number, k: number, panel: Float32Array): void {
  const [step, columnStep] = b.layout.strides.slice(-2) as [number, number];
  const { dtype } = b;
  if (isQuantized(dtype)) {
    const bytes = bytesOfView(b);
    for (let c = 0; c < width; c++) dequantizeInto(dtype, bytes, spanBytes(dtype, offset + (j + c) * columnStep), panel, c * k, k);
    return;
  }
  if (step === 1 || columnStep !== 1) {
    for (let c = 0; c < width; c++) readFloats(b, offset + (j + c) * columnStep, step, panel, c * k, k);
    return;
  }
  const row = new Float32Array(width);
  for (let p = 0; p < k; p++) {
    readFloats(b, offset + p * step + j, 1, row, 0, width);
    for (let c = 0; c < width; c++) panel[c * k + p] = row[c]!;
  }
}

/** tile[height][width] = a[height][k] · b[width][k]ᵀ, accumulated in f64. */
function multiplyPanel(a: Float32Array, b: Float32Array, tile: Float32Array, height: number, width: number, k: number): void {
  let c = 0;
  if (height === 4) for (; c + 4 <= width; c += 4) dots4x4(a, b, c * k, tile, c, width, k);
  for (; c < width; c++) {
    for (let r = 0; r < height; r++) {
      let sum = 0;
      for (let p = 0; p < k; p++) sum += a[r * k + p]! * b[c * k + p]!;
      tile[r * width + c] = sum;
    }
  }
}

function dots4x4(a: Float32Array, b: Float32Array, bAt: number, tile: Float32Array, at: number, width: number, k: number): void {
  dots2x4(a, 0, b, bAt, tile, at, width, k);
  dots2x4(a, 2 * k, b, bAt, tile, at + 2 * width, width, k);
}

/** Two rows against four columns: eight sums fit the registers. */
function dots2x4(
  a: Float32Array,
  aAt: number,
  b: Float32Array,
  bAt: number,
  tile: Float32Array,
  at: number,
  width: number,
  k: number,
): void {
  let s0 = 0;
  let s1 = 0;
  let s2 = 0;
  let s3 = 0;
  let t0 = 0;
  let t1 = 0;
  let t2 = 0;
  let t3 = 0;
  for (let p = 0; p < k; p++) {
    const x = a[aAt + p]!;
    const y = a[aAt + k + p]!;
    const b0 = b[bAt + p]!;
    const b1 = b[bAt + k + p]!;
    const b2 = b[bAt + 2 * k + p]!;
    const b3 = b[bAt + 3 * k + p]!;
    s0 += x * b0;
    s1 += x * b1;
    s2 += x * b2;
    s3 += x * b3;
    t0 += y * b0;
    t1 += y * b1;
    t2 += y * b2;
    t3 += y * b3;
  }
  tile.set([s0, s1, s2, s3], at);
  tile.set([t0, t1, t2, t3], at + width);
}
