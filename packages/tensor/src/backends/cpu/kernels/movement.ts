// copy and fill: moves of raw elements between strided views; values are never interpreted.
import { isQuantized } from "../../../dtype.ts";
import { collapse, type Layout } from "../../../layout.ts";
import type { Kernel } from "../../../ops/table.ts";
import type { View } from "../../../view.ts";
import { bytesOfView, rawOf, spanBytes, unitBytes, Walker, writeBlock } from "./access.ts";

type RawArray = ReturnType<typeof rawOf>;

/** Copies x to out, both strided with one shape; quantized views move whole rows. */
export const copy: Kernel<"copy"> = (out, { x }) => {
  if (out.layout.shape.includes(0)) return;
  if (isQuantized(x.dtype)) {
    copyRows(out, x);
    return;
  }
  const bytes = unitBytes(x.dtype);
  moveElements(rawOf(out, bytes), out.layout, rawOf(x, bytes), x.layout);
};

/** Moves elements from one layout to another of the same shape. */
export function moveElements(to: RawArray, toLayout: Layout, from: RawArray, fromLayout: Layout): void {
  const { shape, strides } = collapse([toLayout, fromLayout]);
  const [ts, fs] = strides as [number[], number[]];
  const inner = shape.at(-1) ?? 1;
  const [tStep, fStep] = [ts.at(-1) ?? 1, fs.at(-1) ?? 1];
  const lead = shape.slice(0, -1);
  const toRows = new Walker({ shape: lead, strides: ts.slice(0, -1), offset: toLayout.offset });
  const fromRows = new Walker({ shape: lead, strides: fs.slice(0, -1), offset: fromLayout.offset });
  for (let row = 0; row < toRows.size; row++) {
    moveRun(to as Uint32Array, toRows.offsetAt(row), tStep, from as Uint32Array, fromRows.offsetAt(row), fStep, inner);
  }
}

function moveRun(to: Uint32Array, at: number, toStep: number, from: Uint32Array, start: number, fromStep: number, count: number): void {
  if (toStep === 1 && fromStep === 1 && count >= 32) {
    to.set(from.subarray(start, start + count), at);
    return;
  }
  for (let i = 0; i < count; i++) to[at + i * toStep] = from[start + i * fromStep]!;
}

/** Rows of blocks: the last dimension is whole and contiguous, leading strides are in values. */
function copyRows(out: View, x: View): void {
  const width = x.layout.shape.at(-1)!;
  const rowBytes = spanBytes(x.dtype, width);
  const rowsOf = ({ layout }: View) =>
    new Walker({ shape: layout.shape.slice(0, -1), strides: layout.strides.slice(0, -1), offset: layout.offset });
  const [toRows, fromRows] = [rowsOf(out), rowsOf(x)];
  const [to, from] = [bytesOfView(out), bytesOfView(x)];
  for (let row = 0; row < toRows.size; row++) {
    const start = spanBytes(x.dtype, fromRows.offsetAt(row));
    to.set(from.subarray(start, start + rowBytes), spanBytes(x.dtype, toRows.offsetAt(row)));
  }
}

/** Sets every element of a strided view to one value. */
export const fill: Kernel<"fill"> = (out, _, { value }) => {
  const walker = new Walker(out.layout);
  const block = out.dtype === "i32" || out.dtype === "u32" || out.dtype === "i64" ? Int32Array.of(value) : Float32Array.of(value);
  if (walker.size === 0) return;
  const bytes = unitBytes(out.dtype);
  const raw = rawOf(out, bytes) as Uint32Array;
  const first = walker.offsetAt(0);
  writeBlock(out, first, 1, block, 0, 1);
  const pattern = raw[first]!;
  walker.visit(0, walker.size, (_done, offset, count) => {
    if (walker.step === 1) raw.fill(pattern, offset, offset + count);
    else for (let i = 0; i < count; i++) raw[offset + i * walker.step] = pattern;
  });
};
