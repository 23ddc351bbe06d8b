// How kernels read and write views: storage arrays, row walks, and conversion to and from working blocks of f32 or i32.

import { bytesOf, type DType, dtypeInfo, isFloat } from "../../../dtype.ts";
import { decodeFloats, encodeFloats, f32FromBf16, f32FromF8e4m3, f32FromF8e5m2, f32FromF16 } from "../../../dtype-convert.ts";
import type { Layout } from "../../../layout.ts";
import { collapse } from "../../../layout.ts";
import type { View } from "../../../view.ts";
import type { CpuBuffer, TypedViews } from "../memory.ts";

/** Elements handled at a time: four kilobytes of f32 stay in the first-level cache. */
export const blockLength = 1024;

/** Float values are worked on as f32; integers and booleans as i32 (u32 by its bits). */
export type Block = Float32Array | Int32Array;

const storageKind: Partial<Record<DType, keyof TypedViews>> = { f32: "f32", f16: "u16", bf16: "u16", i32: "i32", u32: "i32", i64: "i32" };

/** The storage of a view, as the array kernels index by element (i64: two words per element, low first). */
export const storageOf = (view: View): TypedViews[keyof TypedViews] => (view.buffer as CpuBuffer).array(storageKind[view.dtype] ?? "u8");

/** The whole buffer of a view as bytes. */
export const bytesOfView = (view: View): Uint8Array => (view.buffer as CpuBuffer).array("u8");

/** The storage of an f32 view. */
export const floatsOf = (view: View): Float32Array => (view.buffer as CpuBuffer).array("f32");

/** The storage of an i32 or u32 view, as i32. */
const intsOf = (view: View): Int32Array => (view.buffer as CpuBuffer).array("i32");

/** An array of raw elements of a given size, for moves that do not look at the values. */
export function rawOf(view: View, elementBytes: number): Uint8Array | Uint16Array | Uint32Array | BigUint64Array {
  const buffer = view.buffer as CpuBuffer;
  return buffer.array(elementBytes === 1 ? "u8" : elementBytes === 2 ? "u16" : elementBytes === 4 ? "u32" : "u64");
}

/** Reads `count` float elements `step` apart, starting at element `from` of the buffer, into f32. */
export function readFloats(view: View, from: number, step: number, out: Float32Array, at: number, count: number): void {
  const { dtype } = view;
  if (dtype === "f32") {
    const x = floatsOf(view);
    for (let i = 0; i < count; i++) out[at + i] = x[from + i * step]!;
  } else if (isFloat(dtype)) {
    decodeFloats(dtype, storageOf(view) as Uint16Array, from, out, at, count, step);
  } else {
    readIntsAsFloats(view, from, step, out, at, count);
  }
}

function readIntsAsFloats(view: View, from: number, step: number, out: Float32Array, at: number, count: number): void {
  const x = storageOf(view);
  const words = view.dtype === "i64" ? 2 : 1;
  const unsigned = view.dtype === "u32";
  for (let i = 0; i < count; i++) {
    const v = x[(from + i * step) * words] as number;
    out[at + i] = unsigned ? v >>> 0 : v;
  }
}

/** Reads `count` integer elements `step` apart into i32 (u32 by its bits, i64 by its low word). */
export function readInts(view: View, from: number, step: number, out: Int32Array, at: number, count: number): void {
  const x = storageOf(view);
  const words = view.dtype === "i64" ? 2 : 1;
  for (let i = 0; i < count; i++) out[at + i] = x[(from + i * step) * words] as number;
}

/** Writes `count` values of a block to elements `step` apart: floats rounded to nearest even, integers wrapped. */
export function writeBlock(view: View, from: number, step: number, values: Block, at: number, count: number): void {
  const { dtype } = view;
  if (isFloat(dtype) && dtype !== "f32") {
    const floats = values instanceof Float32Array ? values : Float32Array.from(values);
    encodeFloats(dtype, floats, at, storageOf(view) as Uint16Array, from, count, step);
    return;
  }
  const x = storageOf(view) as Float32Array;
  if (dtype === "i64") {
    for (let i = 0; i < count; i++) {
      const v = values[at + i]!;
      x[2 * (from + i * step)] = v;
      x[2 * (from + i * step) + 1] = v < 0 ? -1 : 0;
    }
    return;
  }
  for (let i = 0; i < count; i++) x[from + i * step] = values[at + i]!;
}

/** One element as a number. */
export function readOne(view: View, index: number): number {
  switch (view.dtype) {
    case "f16":
      return f32FromF16((storageOf(view) as Uint16Array)[index]!);
    case "bf16":
      return f32FromBf16((storageOf(view) as Uint16Array)[index]!);
    case "f8e4m3":
      return f32FromF8e4m3((storageOf(view) as Uint8Array)[index]!);
    case "f8e5m2":
      return f32FromF8e5m2((storageOf(view) as Uint8Array)[index]!);
    case "u32":
      return intsOf(view)[index]! >>> 0;
    case "i64":
      return intsOf(view)[2 * index]!;
    default:
      return storageOf(view)[index] as number;
  }
}

/** All elements of a small contiguous float view as f32, e.g. a norm's weight; undefined stays undefined. */
export function vectorOf(view: View | undefined, length: number): Float32Array | undefined {
  if (!view) return undefined;
  if (view.dtype === "f32") return floatsOf(view).subarray(view.layout.offset, view.layout.offset + length);
  const out = new Float32Array(length);
  readFloats(view, view.layout.offset, 1, out, 0, length);
  return out;
}

/** A stepping visit of runs: `visit(done, offset, count)` sees elements `offset, offset + step, …`. */
export type RunVisitor = (done: number, offset: number, count: number) => void;

/** Walks a layout in row-major order from any linear position, as runs of evenly spaced elements. */
export class Walker {
  readonly size: number;
  /** Distance of neighbours inside a run, in elements. */
  readonly step: number;
  readonly #shape: number[];
  readonly #strides: number[];
  readonly #offset: number;

  constructor(layout: Layout) {
    const { shape, strides } = collapse([layout]);
    this.#shape = shape.length ? shape : [1];
    this.#strides = shape.length ? strides[0]! : [0];
    this.#offset = layout.offset;
    this.size = layout.shape.reduce((n, d) => n * d, 1);
    this.step = this.#strides.at(-1)!;
  }

  /** True if all elements are one and the same. */
  get constant(): boolean {
    return this.#strides.every((s) => s === 0);
  }

  /** Offset of the element at a linear position. */
  offsetAt(position: number): number {
    let offset = this.#offset;
    for (let d = this.#shape.length - 1; d >= 0 && position > 0; d--) {
      const size = this.#shape[d]!;
      offset += (position % size) * this.#strides[d]!;
      position = Math.floor(position / size);
    }
    return offset;
  }

  /** Visits the runs that make up positions `start` … `start + count - 1`. */
  visit(start: number, count: number, visitor: RunVisitor): void {
    const inner = this.#shape.at(-1)!;
    for (let done = 0; done < count; ) {
      const position = start + done;
      const run = Math.min(inner - (position % inner), count - done);
      visitor(done, this.offsetAt(position), run);
      done += run;
    }
  }
}

/** Reads linear stretches of a strided view into blocks. */
export class Reader {
  readonly walker: Walker;
  readonly #view: View;

  constructor(view: View) {
    this.#view = view;
    this.walker = new Walker(view.layout);
  }

  floats(start: number, count: number, out: Float32Array, at = 0): void {
    const { step } = this.walker;
    this.walker.visit(start, count, (done, offset, n) => readFloats(this.#view, offset, step, out, at + done, n));
  }

  ints(start: number, count: number, out: Int32Array, at = 0): void {
    const { step } = this.walker;
    this.walker.visit(start, count, (done, offset, n) => readInts(this.#view, offset, step, out, at + done, n));
  }
}

/** Writes blocks to linear stretches of a strided view. */
export class Writer {
  readonly #walker: Walker;
  readonly #view: View;

  constructor(view: View) {
    this.#view = view;
    this.#walker = new Walker(view.layout);
  }

  put(start: number, count: number, values: Block, at = 0): void {
    const { step } = this.#walker;
    this.#walker.visit(start, count, (done, offset, n) => writeBlock(this.#view, offset, step, values, at + done, n));
  }
}

/** Element offsets of every row (all dimensions but the last) of a layout, in row-major order. */
export function rowOffsets({ shape, strides, offset }: Layout): { rows: number; at: (row: number) => number } {
  const walker = new Walker({ shape: shape.slice(0, -1), strides: strides.slice(0, -1), offset });
  return { rows: walker.size, at: (row) => walker.offsetAt(row) };
}

/** Bytes of one element of a plain dtype, or of one block of a quantized one. */
export const unitBytes = (dtype: DType): number => dtypeInfo[dtype].blockBytes;

/** Byte distance of `count` elements of a dtype (whole blocks). */
export const spanBytes = (dtype: DType, count: number): number => bytesOf(dtype, count);

/** Rows of a view (last stride 1) as f32, by row number. */
export function rowReader(view: View): { rows: number; width: number; read: (row: number, out: Float32Array, at?: number) => void } {
  const { rows, at: offsetAt } = rowOffsets(view.layout);
  const width = view.layout.shape.at(-1) ?? 1;
  const step = view.layout.strides.at(-1) ?? 1;
  return { rows, width, read: (row, out, at = 0) => readFloats(view, offsetAt(row), step, out, at, width) };
}
