// Whether generated code computes what the plain loops do: asked before an experimental compiler mode of the engine is trusted.
import { contiguousLayout, permuteLayout } from "../../../layout.ts";
import { binaryNode, inputNode, unaryNode } from "../../../ops/expr.ts";
import type { KernelTable } from "../../../ops/table.ts";
import { sizeOf } from "../../../shape.ts";
import type { View } from "../../../view.ts";
import { plainKernels } from "../kernels/plain.ts";
import { type CpuBuffer, CpuMemory } from "../memory.ts";
import type { ArenaSource } from "./arena.ts";

/** Greatest relative L2 distance between the two; ordinary rounding gives 1e-7 to 1e-6. */
const tolerance = 1e-5;

/** What is wrong with `kernels` on memory of `source`, or undefined: products, a convolution, attention and a norm at sizes with odd edges. */
export function kernelFault(kernels: KernelTable, source: ArenaSource): string | undefined {
  const memory = new CpuMemory(source, Number.POSITIVE_INFINITY);
  const buffers: CpuBuffer[] = [];
  const view = (shape: readonly number[], seed: number): View => {
    const buffer = memory.allocate(4 * sizeOf(shape), "self-test") as CpuBuffer;
    buffers.push(buffer);
    buffer.array("f32").set(Float32Array.from({ length: sizeOf(shape) }, (_, i) => (((i + seed) * 7919) % 1009) / 504 - 1));
    return { buffer, dtype: "f32", layout: contiguousLayout(shape) };
  };
  const fault = cases(view).find(({ run, out }) => {
    run(plainKernels);
    const expected = valuesOf(out).slice();
    valuesOf(out).fill(Number.NaN);
    run(kernels);
    return !(distance(valuesOf(out), expected) <= tolerance);
  });
  for (const buffer of buffers) memory.release(buffer);
  return fault && `${fault.name} differs from the plain loops`;
}

interface Case {
  readonly name: string;
  readonly out: View;
  readonly run: (kernels: KernelTable) => void;
}

function cases(view: (shape: readonly number[], seed: number) => View): readonly Case[] {
  const [a, b, bias] = [view([61, 530], 1), view([83, 530], 2), view([83], 3)];
  const turned = { ...b, layout: permuteLayout(b.layout, [1, 0]) };
  const wide = { ...bias, layout: { shape: [61, 83], strides: [0, 1], offset: 0 } };
  const epilogue = unaryNode("silu", binaryNode("add", inputNode(0, "f32"), inputNode(1, "f32")));
  const [product, planes, heads, rows] = [view([61, 83], 4), view([1, 21, 13, 19], 5), view([1, 2, 67, 40], 6), view([61, 530], 7)];
  const [image, filter] = [view([1, 10, 13, 19], 8), view([21, 10, 3, 3], 9)];
  const [q, k, v] = [view([1, 2, 67, 36], 10), view([1, 1, 301, 36], 11), view([1, 1, 301, 40], 12)];
  const convolution = { stride: [1, 1], padding: [1, 1], dilation: [1, 1], groups: 1 } as const;
  return [
    { name: "matmul", out: product, run: (x) => x.matmul(product, { a, b: turned, operands: [wide] }, { epilogue }) },
    { name: "conv", out: planes, run: (x) => x.conv(planes, { x: image, weight: filter }, convolution) },
    { name: "attention", out: heads, run: (x) => x.attention(heads, { q, k, v }, { scale: 0.4, causal: false }) },
    { name: "softmax", out: rows, run: (x) => x.softmax(rows, { x: a }, { log: false }) },
    { name: "norm", out: rows, run: (x) => x.norm(rows, { x: a }, { kind: "layer", eps: 1e-6 }) },
  ];
}

const valuesOf = (view: View): Float32Array => (view.buffer as CpuBuffer).array("f32").subarray(0, sizeOf(view.layout.shape));

function distance(actual: Float32Array, expected: Float32Array): number {
  let [error, norm] = [0, 0];
  expected.forEach((e, i) => {
    error += (actual[i]! - e) ** 2;
    norm += e ** 2;
  });
  return Math.sqrt(error / norm);
}
