// The matrix kernels of products and convolutions for every vendor's shapes, computed by the simulator and compared with PyTorch's values and the CPU:
// no machine here has such hardware. The simulator also refuses races, reads of undefined memory and barriers that not everybody reaches.
import { webgpu } from "@wick/tensor";
import { describe, expect, it } from "vitest";
import { createWebGpuBackend } from "../../src/backends/webgpu/index.ts";
import type { GemmVariantName } from "../../src/backends/webgpu/kernels/gemm-variants.ts";
import { bytesOf, type DType, isQuantized } from "../../src/dtype.ts";
import { expandLayout, type Layout, permuteLayout } from "../../src/layout.ts";
import { binaryNode, inputNode, unaryNode } from "../../src/ops/expr.ts";
import { quantizeInto } from "../../src/quant/encode.ts";
import { readFamily } from "../conformance/goldens.ts";
import { runRow } from "../conformance/run.ts";
import { sampleRows } from "../conformance/sample.ts";
import { type Both, noise, Pair, roundingTolerance } from "../gpu/pair.ts";
import { all, matrixVariants, simulated, simulatedVariant, type VendorName, vendorNames } from "./vendors.ts";

const timeout = 600_000;
const swap = (l: Layout): Layout => permuteLayout(l, [1, 0]);

describe.each(all ? vendorNames : (["NVIDIA", "Intel, 16 lanes", "Apple"] as const))("golden rows on %s", (vendor) => {
  it.each(["matmul", "conv"] as const)("%s", { timeout }, async (family) => {
    const { options, ran } = simulated(vendor);
    const device = await webgpu(options);
    const { rows, stored } = await readFamily(family);
    // Convolutions to few channels are no products.
    const wide = rows.filter((r) => r.op === "conv2d" && r.inputs[1]!.shape[0]! >= 16);
    const mine = family === "conv" ? wide : rows;
    expect(mine.length).toBeGreaterThan(1);
    const problems: string[] = [];
    for (const row of all ? mine : sampleRows(mine, 4, 1)) {
      const problem = await runRow(device, row, stored, 4);
      if (problem) problems.push(problem);
    }
    device.destroy();
    expect(problems).toEqual([]);
    expect([...ran].join()).toContain("matmul matrix");
  });
});

/** Sizes leave tiles of 128 half empty, and rows and columns that are no multiple of 4. */
const products: readonly (readonly [DType, DType, boolean, readonly [number, number, number]])[] = [
  ["f16", "f16", true, [130, 72, 140]],
  ["f32", "q8_0", true, [129, 96, 141]],
  ["bf16", "bf16", true, [70, 40, 132]],
  ["f16", "q4_0", true, [33, 64, 136]],
  ["bf16", "q4_K", true, [20, 256, 68]],
  ["f32", "f32", false, [67, 50, 35]],
];

function weights(pair: Pair, dtype: DType, n: number, k: number, transposed: boolean): Both {
  if (!isQuantized(dtype)) return transposed ? pair.tensor([n, k], dtype, undefined, swap) : pair.tensor([k, n], dtype);
  const bytes = new Uint8Array(bytesOf(dtype, n * k));
  quantizeInto(dtype, noise(n * k, 5), 0, bytes, 0, n * k);
  return pair.raw([n, k], dtype, bytes, swap);
}

/** bias, activation, gate and residual. */
async function multiply(pair: Pair, [da, db, transposed, [m, k, n]]: (typeof products)[number]): Promise<void> {
  const row = (): Both => pair.tensor([n], "f32", undefined, (l) => expandLayout("t", l, [m, n]));
  const operands = [row(), row(), pair.tensor([m, n], "f32")];
  const silu = unaryNode("silu", binaryNode("add", inputNode(0, "f32"), inputNode(1, "f32")));
  const epilogue = binaryNode("add", inputNode(3, "f32"), binaryNode("mul", inputNode(2, "f32"), silu));
  const out = n % 2 ? "f32" : "f16";
  // As PyTorch's bf16 would, large values leave f16's range.
  const large = da === "bf16" ? 1e6 : 1;
  const a = Float32Array.from(noise(m * k, 3), (v) => v * large);
  const inputs = { a: pair.tensor([m, k], da as "f32", a), b: weights(pair, db, n, k, transposed), operands };
  if (large > 1) await pair.expectSame("matmul", pair.output([m, n], "f32"), { a: inputs.a, b: inputs.b }, {}, 2e-6);
  else await pair.expectSame("matmul", pair.output([m, n], out), inputs, { epilogue }, roundingTolerance[out]);
}

/** Vendor, variant, and which of the products. */
const spread: readonly (readonly [VendorName, GemmVariantName, readonly number[]])[] = [
  ["NVIDIA", "matrix 4x4", [1]],
  ["NVIDIA", "matrix 4x4 ahead", [0, 5]],
  ["NVIDIA", "matrix 4x4 ahead in 8", [3]],
  ["AMD, 64 lanes", "matrix 4x2 ahead in 8", [2]],
  ["Intel, 16 lanes", "matrix 2x2 ahead", [4]],
  ["Apple", "matrix 4x2 ahead", [1]],
  ["AMD, 64 lanes", "matrix 4x2", [2]],
  ["Intel, 32 lanes", "matrix 4x4", [4]],
  ["Apple", "matrix 2x2", [2, 3]],
  ["lavapipe of Mesa 26", "matrix 1x1", [5]],
];
const everything = vendorNames.flatMap((v) => matrixVariants.map((g) => [v, g, products.map((_, i) => i)] as const));

describe.each(all ? everything : spread)("%s, %s", (vendor, variant, list) => {
  it("products with epilogues", { timeout }, async () => {
    const { options, ran } = await simulatedVariant(vendor, variant);
    const pair = await Pair.open(options);
    for (const i of list) await multiply(pair, products[i]!);
    pair.close();
    expect([...ran].some((label) => label.startsWith(`matmul ${variant}`))).toBe(true);
  });

  it("batches and a convolution", { timeout }, async () => {
    const { options } = await simulatedVariant(vendor, variant);
    const pair = await Pair.open(options);
    const b = pair.tensor([3, 22, 24], "f16", undefined, (l) => expandLayout("t", permuteLayout(l, [0, 2, 1]), [2, 3, 24, 22]));
    await pair.expectSame("matmul", pair.output([2, 3, 20, 22], "f32"), { a: pair.tensor([2, 3, 20, 24], "f16"), b }, {});
    const attrs = { stride: [1, 1], padding: [1, 1], dilation: [1, 1], groups: 1 } as const;
    const image = { x: pair.tensor([1, 6, 9, 12], "f16"), weight: pair.tensor([18, 6, 3, 3], "bf16") };
    await pair.expectSame("conv", pair.output([1, 18, 9, 12], "f32"), image, attrs, 2e-6);
    pair.close();
  });
});

it("on Turing with Mesa's driver: tiles of which two fit a multiprocessor, sums that begin as products of zeros", { timeout }, async () => {
  const { options, ran } = simulated("NVIDIA", { architecture: "turing", description: "NVK: Mesa 26.2.6" });
  const backend = await createWebGpuBackend(options);
  expect(backend.capabilities).toMatchObject({ workgroupBytes: 49152, mostTileBytes: 32768 });
  backend.destroy();
  const pair = await Pair.open(options);
  for (const i of [0, 2, 3]) await multiply(pair, products[i]!);
  const heads = pair.tensor([1, 2, 40, 64], "f16");
  await pair.expectSame(
    "attention",
    pair.output([1, 2, 40, 64], "f32"),
    { q: heads, k: heads, v: heads },
    { scale: 0.125, causal: true },
    4e-4,
  );
  pair.close();
  expect([...ran].filter((label) => label.startsWith("attention"))).toEqual(["attention 64 matrix 1 ahead turned of 16x16x16"]);
});

it("a convolution of patches with more places than a word has bits", { timeout }, async () => {
  const { options } = await simulatedVariant("NVIDIA", "matrix 2x2 ahead");
  const pair = await Pair.open(options);
  const attrs = { stride: [3, 2], padding: [2, 3], dilation: [1, 1], groups: 1 } as const;
  const image = { x: pair.tensor([1, 3, 14, 13], "f32"), weight: pair.tensor([16, 3, 7, 7], "f32") };
  await pair.expectSame("conv", pair.output([1, 16, 4, 7], "f32"), image, attrs, 2e-6);
  pair.close();
});

it.each(["matrix 2x2", "matrix 2x2 ahead"] as const)(
  "%s: infinities and NaN reach what they touch, and the rest keeps f32's accuracy",
  async (variant) => {
    const { options } = await simulatedVariant("NVIDIA", variant);
    const pair = await Pair.open(options);
    const values = noise(70 * 40);
    values[9] = Number.NaN;
    values[20 * 40 + 3] = Number.POSITIVE_INFINITY;
    const inputs = { a: pair.tensor([70, 40], "f32", values), b: pair.tensor([35, 40], "f32", undefined, swap) };
    await pair.expectSame("matmul", pair.output([70, 35], "f32"), inputs, {}, 2e-6);
    pair.close();
  },
);
