// What every kernel is given, and how views become bindings that respect the device's limits.
import { bytesOf, type DType, dtypeInfo, isQuantized } from "../../../dtype.ts";
import { UnsupportedError } from "../../../errors.ts";
import { contiguousLayout, type Layout, narrowLayout } from "../../../layout.ts";
import type { KernelTable } from "../../../ops/table.ts";
import { type Shape, sizeOf } from "../../../shape.ts";
import type { View } from "../../../view.ts";
import type { Binding, Dispatch } from "../encoder.ts";
import type { Program, ProgramSpec } from "../pipelines.ts";
import { type GpuBuffer, storeOf } from "../store.ts";
import type { DeviceTraits } from "../traits.ts";

/** Kernels decide from layouts, dtypes, attributes and traits alone: their dispatches are replayed for like calls (launch-plans.ts). */
export interface KernelContext {
  readonly traits: DeviceTraits;
  program(key: string, spec: () => ProgramSpec): Program;
  record(d: Dispatch): void;
  /** Memory that lives until `drop`; the pool may hand it to the next op at once. */
  scratch(byteLength: number, label: string): GpuBuffer;
  drop(buffer: GpuBuffer): void;
  /**
   * Memory of up to 256 bytes for what `compute` derives from the present contents of a view's buffer; it is computed again only after a write into that
   * buffer. `key` tells what is derived, and from which part.
   */
  derived(of: View, key: string, compute: (memory: GpuBuffer) => void): GpuBuffer;
  /** Other kernels, for composed paths. */
  readonly kernels: KernelTable;
}

/** First and one-past-last element a layout touches. */
export function extentOf({ shape, strides, offset }: Layout): [number, number] {
  let low = offset;
  let high = offset;
  for (let i = 0; i < shape.length; i++) {
    const reach = (shape[i]! - 1) * strides[i]!;
    if (reach < 0) low += reach;
    else high += reach;
  }
  return [low, high + 1];
}

function byteExtent(view: View): [number, number] {
  const [low, high] = extentOf(view.layout);
  const { blockSize, blockBytes } = dtypeInfo[view.dtype];
  return [Math.floor(low / blockSize) * blockBytes, Math.ceil(high / blockSize) * blockBytes];
}

/** Whether one binding can cover everything the view touches. */
export function fits(traits: DeviceTraits, view: View): boolean {
  const store = storeOf(view.buffer);
  if (store.sizeBytes <= traits.maxBindingBytes) return true;
  const [low, high] = byteExtent(view);
  return high - low + traits.offsetAlignment + 16 <= traits.maxBindingBytes;
}

/** As `fits`, also when the kernel has to keep its f32 results in scratch memory first. */
export const fitsAsFloat = (traits: DeviceTraits, out: View): boolean =>
  fits(traits, out) && sizeOf(out.layout.shape) * 4 + traits.offsetAlignment + 4096 <= Math.max(traits.maxBindingBytes, 8192);

/** A binding that covers the view and the offset of its first element from the binding's start, in elements (bytes if quantized). */
export interface Bound {
  readonly binding: Binding;
  readonly offset: number;
}

/** Binds a view: the whole buffer when possible (bind groups are then reused), else an aligned window; throws UnsupportedError if neither fits. */
export function bindView(ctx: KernelContext, op: string, view: View): Bound {
  const { traits } = ctx;
  const store = storeOf(view.buffer);
  const start = isQuantized(view.dtype) ? bytesOf(view.dtype, view.layout.offset) : view.layout.offset;
  if (store.sizeBytes <= traits.maxBindingBytes) return { binding: { store, byteOffset: 0, byteLength: store.sizeBytes }, offset: start };
  const [low, high] = byteExtent(view);
  const byteOffset = low - (low % traits.offsetAlignment);
  const byteLength = Math.min(store.sizeBytes - byteOffset, Math.ceil((high - byteOffset + 12) / 16) * 16);
  if (byteLength > traits.maxBindingBytes) {
    const what = `an operand touches ${high - low} bytes at once and a binding holds ${traits.maxBindingBytes}`;
    throw new UnsupportedError(op, `${what}: ${view.dtype} [${view.layout.shape.join(", ")}]; make it contiguous or split it`);
  }
  const unit = isQuantized(view.dtype) ? 1 : dtypeInfo[view.dtype].blockBytes;
  return { binding: { store, byteOffset, byteLength }, offset: start - byteOffset / unit };
}

/** Cuts views of one shape (in the same places) until each piece fits a binding, and calls `run` for every piece in order. */
export function forEachPiece(ctx: KernelContext, views: readonly View[], run: (pieces: readonly View[]) => void): void {
  const big = views.find((v) => !fits(ctx.traits, v));
  if (!big) {
    run(views);
    return;
  }
  const { shape, strides } = big.layout;
  let dim = -1;
  for (let i = 0; i < shape.length; i++) {
    if (shape[i]! > 1 && (dim < 0 || Math.abs(strides[i]! * (shape[i]! - 1)) > Math.abs(strides[dim]! * (shape[dim]! - 1)))) dim = i;
  }
  if (dim < 0) {
    run(views);
    return;
  }
  for (const [start, length] of halves(shape[dim]!)) {
    forEachPiece(
      ctx,
      views.map((v) => ({ ...v, layout: narrowLayout(v.layout, dim, start, length) })),
      run,
    );
  }
}

/** Two halves; the first is a multiple of 64 where that is possible, so that pieces keep their alignment. */
function halves(n: number): [number, number][] {
  const half = n > 64 ? Math.ceil(n / 128) * 64 : Math.ceil(n / 2);
  return [
    [0, half],
    [half, n - half],
  ];
}

/** A contiguous view of new scratch memory. */
export function scratchView(ctx: KernelContext, dtype: DType, shape: Shape, label: string): View & { readonly buffer: GpuBuffer } {
  return { buffer: ctx.scratch(Math.max(1, bytesOf(dtype, sizeOf(shape))), label), dtype, layout: contiguousLayout(shape) };
}

/** Runs `use` with a contiguous copy of the view, released afterwards. */
export function withContiguous(ctx: KernelContext, view: View, use: (copy: View) => void): void {
  const copy = scratchView(ctx, view.dtype, view.layout.shape, "contiguous copy");
  ctx.kernels.copy(copy, { x: view }, {});
  use(copy);
  ctx.drop(copy.buffer);
}

/** Bytes of the values that a view shows, without gaps. */
export const bytesOfView = (v: View): number => bytesOf(v.dtype, sizeOf(v.layout.shape));

/** Short text of a boolean list, for program keys. */
export const flags = (...on: boolean[]): string => on.map((f) => (f ? "1" : "0")).join("");

/** Rows of a rank ≥ 1 layout: product of all dimensions but the last. */
export const rowsOf = (shape: Shape): number => sizeOf(shape.slice(0, -1));
