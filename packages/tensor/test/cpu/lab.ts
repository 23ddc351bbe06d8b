// Views on a CPU backend made from plain numbers, and back: what kernel tests are written with.
import { expect } from "vitest";
import type { CpuOptions, createCpuBackend } from "../../src/backends/cpu/index.ts";
import { bytesOf, type DType, isFloat } from "../../src/dtype.ts";
import { decodeFloats, encodeFloats, type NarrowFloat } from "../../src/dtype-convert.ts";
import { contiguousLayout, expandLayout, type Layout, narrowLayout, permuteLayout, stepLayout } from "../../src/layout.ts";
import { sizeOf } from "../../src/shape.ts";
import type { View } from "../../src/view.ts";

/** Bytes of numbers in a dtype. */
export function encode(dtype: DType, values: readonly number[]): Uint8Array {
  if (dtype === "f32") return new Uint8Array(Float32Array.from(values).buffer);
  if (dtype === "i32") return new Uint8Array(Int32Array.from(values).buffer);
  if (dtype === "u32") return new Uint8Array(Uint32Array.from(values).buffer);
  if (dtype === "i64") return new Uint8Array(BigInt64Array.from(values, BigInt).buffer);
  if (dtype === "u8") return Uint8Array.from(values);
  const bits = dtype === "f16" || dtype === "bf16" ? new Uint16Array(values.length) : new Uint8Array(values.length);
  encodeFloats(dtype as NarrowFloat, Float32Array.from(values), 0, bits, 0, values.length);
  return new Uint8Array(bits.buffer);
}

function decode(dtype: DType, bytes: Uint8Array): number[] {
  const copy = bytes.slice().buffer;
  if (dtype === "f32") return [...new Float32Array(copy)];
  if (dtype === "i32") return [...new Int32Array(copy)];
  if (dtype === "u32") return [...new Uint32Array(copy)];
  if (dtype === "i64") return Array.from(new BigInt64Array(copy), Number);
  if (dtype === "u8") return [...new Uint8Array(copy)];
  const bits = dtype === "f16" || dtype === "bf16" ? new Uint16Array(copy) : new Uint8Array(copy);
  const out = new Float32Array(bits.length);
  decodeFloats(dtype as NarrowFloat, bits, 0, out, 0, bits.length);
  return [...out];
}

/** Deterministic values in [-2, 2) that are exact in every float format used here. */
export function values(count: number, seed = 1): number[] {
  let state = seed * 2654435761;
  return Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return ((state >>> 24) - 128) / 64;
  });
}

/** A workbench around one backend. */
export class Lab {
  readonly backend: ReturnType<typeof createCpuBackend>;
  constructor(backend: ReturnType<typeof createCpuBackend>) {
    this.backend = backend;
  }

  /** A contiguous view of given numbers. */
  view(shape: readonly number[], numbers: readonly number[], dtype: DType = "f32"): View {
    const bytes = encode(dtype, numbers);
    const buffer = this.backend.allocate(bytes.length, "test");
    this.backend.write(buffer, 0, bytes);
    return { buffer, dtype, layout: contiguousLayout(shape) };
  }

  /** A contiguous view with deterministic values. */
  random(shape: readonly number[], dtype: DType = "f32", seed = 1): View {
    return this.view(shape, isFloat(dtype) ? values(sizeOf(shape), seed) : values(sizeOf(shape), seed).map((v) => Math.abs(v * 64)), dtype);
  }

  /** An output full of a bit pattern no kernel writes. */
  out(shape: readonly number[], dtype: DType = "f32"): View {
    const byteLength = bytesOf(dtype, sizeOf(shape));
    const buffer = this.backend.allocate(byteLength, "out");
    this.backend.write(buffer, 0, new Uint8Array(byteLength).fill(0xa5));
    return { buffer, dtype, layout: contiguousLayout(shape) };
  }

  /** The elements of any view, row-major. */
  async numbers(view: View): Promise<number[]> {
    const bytes = await this.backend.read(view.buffer, 0, view.buffer.byteLength);
    const all = decode(view.dtype, bytes);
    return Array.from({ length: sizeOf(view.layout.shape) }, (_, i) => all[elementAt(view.layout, i)]!);
  }
}

/** Element offset of a row-major position. */
export function elementAt({ shape, strides, offset }: Layout, position: number): number {
  for (let d = shape.length - 1; d >= 0; d--) {
    offset += (position % shape[d]!) * strides[d]!;
    position = Math.floor(position / shape[d]!);
  }
  return offset;
}

/** The same data seen in other ways: [name, layout change]; each keeps rank 2. */
export const looks: readonly (readonly [string, (v: View) => View])[] = [
  ["contiguous", (v) => v],
  ["transposed", (v) => ({ ...v, layout: permuteLayout(v.layout, [1, 0]) })],
  [
    "offset slice",
    (v) => ({ ...v, layout: narrowLayout(narrowLayout(v.layout, 0, 1, v.layout.shape[0]! - 1), 1, 1, v.layout.shape[1]! - 2) }),
  ],
  ["flipped", (v) => ({ ...v, layout: stepLayout(stepLayout(v.layout, 1, -1), 0, -2) })],
  ["row broadcast", (v) => ({ ...v, layout: expandLayout("test", narrowLayout(v.layout, 0, 0, 1), [5, v.layout.shape[1]!]) })],
  ["one element", (v) => ({ ...v, layout: expandLayout("test", { shape: [1, 1], strides: [1, 1], offset: 3 }, [4, 3]) })],
  ["size 1", (v) => ({ ...v, layout: narrowLayout(narrowLayout(v.layout, 0, 0, 1), 1, 2, 1) })],
  ["size 0", (v) => ({ ...v, layout: narrowLayout(v.layout, 0, 0, 0) })],
];

/** Relative L2 distance with exact agreement of NaN and infinities. */
export function expectClose(actual: readonly number[], expected: readonly number[], tolerance = 1e-6): void {
  expect(actual.length).toBe(expected.length);
  let [error, norm] = [0, 0];
  expected.forEach((e, i) => {
    if (!Number.isFinite(e)) expect(actual[i]).toBe(e);
    else {
      error += (actual[i]! - e) ** 2;
      norm += e ** 2;
    }
  });
  expect(Math.sqrt(error)).toBeLessThanOrEqual(tolerance * Math.sqrt(norm) + 1e-30);
}

/** The kernels every test runs on: the plain loops, and the generated code even where it would not pay. */
export const variants: readonly (readonly [string, CpuOptions])[] = [
  ["plain", { kernels: "plain" }],
  ["wasm", { kernels: "wasm", plainBelow: 0 }],
];
