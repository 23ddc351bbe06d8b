// Runs one kernel on the CPU backend and on a WebGPU backend with the same operands and compares the results.
import { relativeL2 } from "@wick/testing";
import { expect } from "vitest";
import type { Backend } from "../../src/backends/backend.ts";
import { createCpuBackend } from "../../src/backends/cpu/index.ts";
import { createWebGpuBackend, type WebGpuBackend } from "../../src/backends/webgpu/index.ts";
import type { WebGpuOptions } from "../../src/backends/webgpu/options.ts";
import type { Tier } from "../../src/backends/webgpu/tier.ts";
import { bytesOf, type DType, isFloat, type PlainDType } from "../../src/dtype.ts";
import { decodeBytes, encodeValues } from "../../src/encode.ts";
import { contiguousLayout, type Layout } from "../../src/layout.ts";
import type { OpName, OpTable } from "../../src/ops/table.ts";
import { type Shape, sizeOf } from "../../src/shape.ts";
import type { View } from "../../src/view.ts";

/** An operand on both backends. */
export interface Both {
  readonly cpu: View;
  readonly gpu: View;
}

type Operands<T> = {
  [K in keyof T]: T[K] extends View | undefined
    ? Both | Extract<T[K], undefined>
    : T[K] extends readonly View[] | undefined
      ? readonly Both[]
      : T[K];
};

/** WICK_TIER=plain|subgroups|matrix runs the tests on that tier instead of the one the adapter would get. */
export const forcedTier = process.env["WICK_TIER"] ? { tier: process.env["WICK_TIER"] as Tier } : {};

/** Deterministic values, uniform in -1…1. */
export function noise(count: number, seed = 1): Float32Array {
  let state = (seed * 2654435761) >>> 0 || 1;
  return Float32Array.from({ length: count }, () => {
    state ^= state << 13;
    state >>>= 0;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state / 2 ** 31 - 1;
  });
}

export class Pair {
  readonly cpu: Backend = createCpuBackend();
  readonly gpu: WebGpuBackend;
  private seed = 1;
  private readonly made: Both[] = [];

  private constructor(gpu: WebGpuBackend) {
    this.gpu = gpu;
  }

  static async open(options: WebGpuOptions = {}): Promise<Pair> {
    return new Pair(await createWebGpuBackend({ robustness: true, ...forcedTier, ...options }));
  }

  /** A tensor of values (default: noise), as `change` of its contiguous layout sees it. */
  tensor(shape: Shape, dtype: PlainDType = "f32", values?: ArrayLike<number>, change: (l: Layout) => Layout = (l) => l): Both {
    const count = sizeOf(shape);
    const data =
      values ?? (isFloat(dtype) ? noise(count, this.seed++) : noise(count, this.seed++).map((v) => Math.floor(Math.abs(v) * 100)));
    const { bytes } = encodeValues(isFloat(dtype) ? Float32Array.from(data) : Array.from(data), dtype);
    return this.raw(shape, dtype, bytes, change);
  }

  /** A tensor of given bytes, e.g. quantized rows. */
  raw(shape: Shape, dtype: DType, bytes: Uint8Array, change: (l: Layout) => Layout = (l) => l): Both {
    const layout = change(contiguousLayout(shape));
    const [cpu, gpu] = [this.cpu, this.gpu].map((b) => {
      const buffer = b.allocate(bytes.byteLength, "operand");
      b.write(buffer, 0, bytes);
      return { buffer, dtype, layout };
    }) as [View, View];
    const both = { cpu, gpu };
    this.made.push(both);
    return both;
  }

  output(shape: Shape, dtype: DType, change: (l: Layout) => Layout = (l) => l): Both {
    return this.raw(shape, dtype, new Uint8Array(bytesOf(dtype, sizeOf(shape))), change);
  }

  /** Runs the kernel on both and gives the values of the whole output buffers. */
  async run<K extends OpName>(
    op: K,
    out: Both,
    inputs: Operands<OpTable[K]["in"]>,
    attrs: OpTable[K]["attrs"],
  ): Promise<{ cpu: Float64Array; gpu: Float64Array }> {
    const values = await Promise.all(
      (["cpu", "gpu"] as const).map(async (side) => {
        const picked = Object.fromEntries(
          Object.entries(inputs).map(([k, v]) => [k, Array.isArray(v) ? v.map((x: Both) => x[side]) : (v as Both | undefined)?.[side]]),
        );
        const kernel = this[side].kernels[op] as (o: View, i: unknown, a: unknown) => void;
        kernel(out[side], picked, attrs);
        const bytes = await this[side].read(out[side].buffer, 0, out[side].buffer.byteLength);
        return Float64Array.from(decodeBytes(bytes, out[side].dtype) as ArrayLike<number>, Number);
      }),
    );
    return { cpu: values[0]!, gpu: values[1]! };
  }

  /** Runs the kernel on both and expects their relative L2 distance within `tolerance`; releases all operands made so far. */
  async expectSame<K extends OpName>(
    op: K,
    out: Both,
    inputs: Operands<OpTable[K]["in"]>,
    attrs: OpTable[K]["attrs"],
    tolerance = 1e-6,
  ): Promise<void> {
    const { cpu, gpu } = await this.run(op, out, inputs, attrs);
    expect(relativeL2(gpu, cpu), `${op} ${out.gpu.dtype} [${out.gpu.layout.shape}]`).toBeLessThanOrEqual(tolerance);
    this.releaseAll();
  }

  releaseAll(): void {
    for (const { cpu, gpu } of this.made.splice(0)) {
      this.cpu.release(cpu.buffer);
      this.gpu.release(gpu.buffer);
    }
  }

  close(): void {
    expect(this.gpu.memory().liveBytes).toBe(0);
    this.cpu.destroy();
    this.gpu.destroy();
  }
}

/** Relative L2 allowed when values are rounded to a dtype at the end: one rounding may fall the other way. */
export const roundingTolerance: Readonly<Record<string, number>> = {
  f32: 2e-6,
  f16: 2e-4,
  bf16: 2e-3,
  i32: 0,
  u32: 0,
  u8: 0,
  i64: 0,
  f8e4m3: 1e-2,
  f8e5m2: 2e-2,
};

/** The configurations every kernel must pass on. */
export const variants: readonly (readonly [string, WebGpuOptions])[] = [
  ["as chosen", {}],
  ["small bindings", { tier: "plain", maxBindingBytes: 16384 }],
];

/** The same, with parameters in a uniform ring as where there are no immediates. */
export const parameterVariants: typeof variants = [...variants, ["uniform ring", { tier: "plain", immediates: false }]];
