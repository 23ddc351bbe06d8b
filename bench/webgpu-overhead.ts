// What recording an op costs on the host: Dawn's null backend executes nothing, so all that is left is our code, N-API and validation.
// Kernels alone; bench/webgpu-step.ts has tensors, modules and scopes on top.
// Run: npx tsx --conditions=@wick/source bench/webgpu-overhead.ts

import { createWebGpuBackend } from "../packages/tensor/src/backends/webgpu/index.ts";
import { contiguousLayout, permuteLayout } from "../packages/tensor/src/layout.ts";
import { binaryNode, constNode, type ExprNode, inputNode, unaryNode } from "../packages/tensor/src/ops/expr.ts";
import type { View } from "../packages/tensor/src/view.ts";
import { mainThreadMs } from "./thread-time.ts";

const backend = await createWebGpuBackend({ driver: "null" });
const { kernels } = backend;
const tensor = (...shape: number[]): View => ({
  buffer: backend.allocate(
    shape.reduce((a, b) => a * b, 4),
    "bench",
  ),
  dtype: "f32",
  layout: contiguousLayout(shape),
});
const x = tensor(256, 512);
const w = tensor(512, 512);
const weight = { ...w, layout: permuteLayout(w.layout, [1, 0]) };
const row = tensor(512);
const bias = { ...row, layout: { shape: [256, 512], strides: [0, 1], offset: 0 } };
const heads = tensor(1, 8, 256, 64);
const gelu = (): ExprNode => unaryNode("gelu", binaryNode("add", inputNode(0, "f32"), inputNode(1, "f32")));

/** Each op allocates its output and releases it, as a scope does. */
const ops: Record<string, () => void> = {
  "map, one input": () =>
    output([256, 512], (o) => kernels.map(o, { inputs: [x] }, { expr: binaryNode("mul", inputNode(0, "f32"), constNode(2, "f32")) })),
  "map, broadcast": () =>
    output([256, 512], (o) => kernels.map(o, { inputs: [x, bias] }, { expr: binaryNode("add", inputNode(0, "f32"), inputNode(1, "f32")) })),
  matmul: () => output([256, 512], (o) => kernels.matmul(o, { a: x, b: weight }, {})),
  "matmul, bias and gelu": () => output([256, 512], (o) => kernels.matmul(o, { a: x, b: weight, operands: [bias] }, { epilogue: gelu() })),
  "rms norm": () => output([256, 512], (o) => kernels.norm(o, { x, weight: row }, { kind: "rms", eps: 1e-6 })),
  softmax: () => output([256, 512], (o) => kernels.softmax(o, { x }, { log: false })),
  attention: () => output([1, 8, 256, 64], (o) => kernels.attention(o, { q: heads, k: heads, v: heads }, { scale: 0.125, causal: false })),
};

function output(shape: number[], run: (out: View) => void): void {
  const out = tensor(...shape);
  run(out);
  backend.release(out.buffer);
}

/** Microseconds of the main thread's time per call: the median of 9 rounds of 5,000, after one of warm-up. */
async function measure(op: () => void): Promise<number> {
  const rounds: number[] = [];
  for (let r = 0; r < 10; r++) {
    const start = mainThreadMs();
    for (let i = 0; i < 5000; i++) op();
    rounds.push((mainThreadMs() - start) / 5);
    await backend.idle();
  }
  return rounds.slice(1).sort((a, b) => a - b)[4]!;
}

for (const [name, op] of Object.entries(ops)) console.log(`${name.padEnd(24)} ${(await measure(op)).toFixed(2)} us`);
backend.destroy();
