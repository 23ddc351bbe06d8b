// Kernels of every vendor that need more workgroup memory than Dawn's null adapter has compile: attention of heads of 512, and the deepest and
// buffered tiles of products and convolutions.
import { expect, it } from "vitest";
import { createWebGpuBackend, type WebGpuBackend } from "../../src/backends/webgpu/index.ts";
import type { WebGpuOptions } from "../../src/backends/webgpu/options.ts";
import { attentionClasses, productClasses } from "../../src/backends/webgpu/tuning.ts";
import { bytesOf, type DType } from "../../src/dtype.ts";
import { contiguousLayout, type Layout, permuteLayout } from "../../src/layout.ts";
import { sizeOf } from "../../src/shape.ts";
import type { View } from "../../src/view.ts";
import { hasAttention, matrixAttentions, matrixVariants, twoPartsFit, vendorNames, vendors } from "../simulator/vendors.ts";
import { compileOnly } from "./compile-only.ts";

const view = (backend: WebGpuBackend, shape: readonly number[], dtype: DType, change: (l: Layout) => Layout = (l) => l): View => ({
  buffer: backend.allocate(Math.max(1, bytesOf(dtype, sizeOf(shape))), "t"),
  dtype,
  layout: change(contiguousLayout(shape)),
});
const swap = (l: Layout): Layout => permuteLayout(l, [1, 0]);
const labelsOf = (backend: WebGpuBackend): string[] => backend.sources().map((s) => s.label);

it.each(vendorNames)("%s", { timeout: 120_000 }, async (name) => {
  const { matrix, workgroupBytes } = vendors[name];
  const { gpu, problems } = await compileOnly(workgroupBytes);
  const options: WebGpuOptions = { gpu, matrix, tier: "matrix", software: name.startsWith("lavapipe") };
  const plain = await createWebGpuBackend(options);
  const { adapterName } = plain.capabilities;
  for (const variant of matrixVariants) {
    const variants = Object.fromEntries(productClasses.map((c) => [c, variant]));
    const backend = await createWebGpuBackend({ ...options, tuning: [{ adapter: adapterName, tier: "matrix", variants }] });
    for (const [da, db] of [
      ["f16", "f16"],
      ["f32", "q8_0"],
    ] as const)
      backend.kernels.matmul(
        view(backend, [256, 256], "f32"),
        { a: view(backend, [256, 256], da), b: view(backend, [256, 256], db, swap) },
        {},
      );
    for (const [dtype, stride] of [
      ["f16", 1],
      ["f32", 2],
    ] as const)
      backend.kernels.conv(
        view(backend, [1, 64, 32 / stride, 32 / stride], dtype),
        { x: view(backend, [1, 32, 32, 32], dtype), weight: view(backend, [64, 32, 3, 3], dtype) },
        { stride: [stride, stride], padding: [1, 1], dilation: [1, 1], groups: 1 },
      );
    expect(labelsOf(backend).filter((l) => l.startsWith(`matmul ${variant}`)).length, variant).toBeGreaterThan(0);
    expect(labelsOf(backend).filter((l) => l.startsWith(`conv ${variant}`)).length, variant).toBeGreaterThan(0);
  }
  expect(await problems()).toEqual([]);
});

/** Widest heads only in what runs unmeasured: their kernels are long. */
const wide: readonly string[] = ["matrix 1 ahead", "matrix 1 turned", "matrix 1 ahead turned in 8"];
const attentionCases = [
  ["f16", 64],
  ["f32", 128],
  ["f32", 512],
] as const;

it.each(vendorNames)("attention in every variant, %s", { timeout: 120_000 }, async (name) => {
  const { matrix, workgroupBytes } = vendors[name];
  const { gpu, problems } = await compileOnly(workgroupBytes);
  const options: WebGpuOptions = { gpu, matrix, tier: "matrix", software: false };
  const { adapterName } = (await createWebGpuBackend(options)).capabilities;
  for (const variant of matrixAttentions) {
    const attention = Object.fromEntries(attentionClasses.map((c) => [c, variant]));
    for (const [dtype, width] of wide.includes(variant) ? attentionCases : attentionCases.slice(0, 2)) {
      const backend = await createWebGpuBackend({
        ...options,
        tuning: [{ adapter: adapterName, tier: "matrix", variants: {}, attention }],
      });
      const q = view(backend, [1, 1, 70, width], dtype);
      backend.kernels.attention(view(backend, [1, 1, 70, width], dtype), { q, k: q, v: q }, { scale: 1, causal: false });
      const [label] = labelsOf(backend).filter((l) => l.startsWith("attention"));
      const shape = `of ${matrix.m}x${matrix.n}x${matrix.k}`;
      const taken = [variant, "matrix 1 ahead" as const, "matrix 1" as const].find((v) => hasAttention(name, v, dtype, width));
      expect(taken !== undefined).toBe(twoPartsFit(name, dtype, width));
      expect(label, variant).toBe(`attention ${width} ${taken ? `${taken} ${shape}` : "tiled, subgroups"}`);
    }
  }
  expect(await problems()).toEqual([]);
});

it("notices what is wrong with a kernel, and leaves out only the size of its memory", async () => {
  const { gpu, problems } = await compileOnly(49152);
  const adapter = await gpu.requestAdapter();
  const device = await adapter!.requestDevice({ requiredLimits: { maxComputeWorkgroupStorageSize: 49152 } });
  const compile = (body: string): void => {
    const code = `var<workgroup> w: array<u32, 10000>;\n@compute @workgroup_size(1) fn main() { ${body} }`;
    device.createComputePipeline({ layout: "auto", compute: { module: device.createShaderModule({ code }) } });
  };
  compile("w[0] = 1u;");
  expect(await problems()).toEqual([]);
  compile("w[0] = 1.5;");
  expect((await problems()).join()).toMatch(/1\.5|abstract-float|cannot/);
});
