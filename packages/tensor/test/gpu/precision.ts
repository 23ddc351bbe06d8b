// What float32MatmulPrecision changes: relative L2 errors of products and attention against the CPU backend, on any WebGPU device.
import { relativeL2 } from "@wick/testing";
import type { WebGpuOptions } from "../../src/backends/webgpu/options.ts";
import { bytesOf } from "../../src/dtype.ts";
import { type Layout, permuteLayout } from "../../src/layout.ts";
import { quantizeInto } from "../../src/quant/encode.ts";
import { type Both, noise, Pair } from "./pair.ts";

const swap = (l: Layout): Layout => permuteLayout(l, [1, 0]);
const [m, k, n] = [40, 96, 52];

type Subject = (pair: Pair) => Promise<number>;

const product =
  (a: (pair: Pair) => Both, b: (pair: Pair) => Both): Subject =>
  async (pair) => {
    const { gpu, cpu } = await pair.run("matmul", pair.output([m, n], "f32"), { a: a(pair), b: b(pair) }, {});
    return relativeL2(gpu, cpu);
  };
const scaled = (count: number, factor: number, seed: number): Float32Array => noise(count, seed).map((v) => v * factor);
const activations = (pair: Pair): Both => pair.tensor([m, k]);
const blocks = (pair: Pair): Both => {
  const bytes = new Uint8Array(bytesOf("q8_0", n * k));
  quantizeInto("q8_0", noise(n * k, 5), 0, bytes, 0, n * k);
  return pair.raw([n, k], "q8_0", bytes, swap);
};
const half = (pair: Pair): Both => pair.tensor([n, k], "f16", undefined, swap);

async function attend(pair: Pair): Promise<number> {
  const [q, key, v] = [pair.tensor([1, 2, 40, 64]), pair.tensor([1, 2, 50, 64]), pair.tensor([1, 2, 50, 64])];
  const out = pair.output([1, 2, 40, 64], "f32");
  const { gpu, cpu } = await pair.run("attention", out, { q, k: key, v }, { scale: 0.125, causal: false });
  return relativeL2(gpu, cpu);
}

/** Operands that "high" rounds. */
export const rounded: Readonly<Record<string, Subject>> = {
  "f32 x f32": product(activations, (pair) => pair.tensor([n, k], "f32", undefined, swap)),
  "f32 x bf16": product(activations, (pair) => pair.tensor([n, k], "bf16", undefined, swap)),
  "f16 x q8_0": product((pair) => pair.tensor([m, k], "f16"), blocks),
  "beyond f16's range": product(
    (pair) => pair.tensor([m, k], "f32", scaled(m * k, 3e7, 3)),
    (pair) => pair.tensor([n, k], "f32", scaled(n * k, 2e-9, 4), swap),
  ),
  "f32 attention": attend,
};

/** f16 holds these operands, so that both precisions multiply them as they are. */
export const exact: Readonly<Record<string, Subject>> = {
  "f16 x f16": product((pair) => pair.tensor([m, k], "f16"), half),
};

/** Errors at "highest" and "high" on the device the options open. */
export async function errorsOf(subject: Subject, options: WebGpuOptions): Promise<Record<"highest" | "high", number>> {
  const errors = { highest: Number.NaN, high: Number.NaN };
  for (const float32MatmulPrecision of ["highest", "high"] as const) {
    const pair = await Pair.open({ ...options, float32MatmulPrecision });
    errors[float32MatmulPrecision] = await subject(pair);
    pair.releaseAll();
    pair.close();
  }
  return errors;
}
