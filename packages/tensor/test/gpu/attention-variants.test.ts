// Every attention kernel for every vendor's subgroups and subgroup matrices compiles on Dawn's null backend, which checks WGSL and layouts and runs
// nothing; and the choice between them.
import { afterEach, describe, expect, it } from "vitest";
import { createWebGpuBackend, type WebGpuBackend } from "../../src/backends/webgpu/index.ts";
import type { WebGpuOptions } from "../../src/backends/webgpu/options.ts";
import { bytesOf, type DType, type PlainDType } from "../../src/dtype.ts";
import { contiguousLayout, expandLayout, type Layout } from "../../src/layout.ts";
import { sizeOf } from "../../src/shape.ts";
import type { View } from "../../src/view.ts";

let backend: WebGpuBackend;
afterEach(() => backend.destroy());

const view = (shape: readonly number[], dtype: DType, change: (l: Layout) => Layout = (l) => l): View => ({
  buffer: backend.allocate(Math.max(1, bytesOf(dtype, sizeOf(shape))), "t"),
  dtype,
  layout: change(contiguousLayout(shape)),
});

/** Labels of the kernels compiled for heads of a width, plain and with mask, lengths and causal order. */
async function attend(options: WebGpuOptions, width: number, dtype: PlainDType): Promise<Set<string>> {
  backend = await createWebGpuBackend({ driver: "null", software: false, ...options });
  const q = view([1, 4, 70, width], dtype);
  const kv = view([1, 2, 90, width], dtype);
  const mask = view([70, 90], dtype === "f16" ? "u8" : "f32", (l) => expandLayout("t", l, [1, 4, 70, 90]));
  const lengths = view([1], "i32", (l) => l);
  backend.kernels.attention(view([1, 4, 70, width], dtype), { q, k: kv, v: kv }, { scale: 1, causal: true });
  backend.kernels.attention(view([1, 4, 70, width], "f32"), { q, k: kv, v: kv, mask, lengths }, { scale: 1, causal: false });
  await backend.idle();
  return new Set(
    backend
      .sources()
      .map((s) => s.label)
      .filter((l) => l.startsWith("attention")),
  );
}

const vendorShapes = [
  ["NVIDIA, AMD with 32 lanes", { m: 16, n: 16, k: 16, input: "f16", subgroupSize: 32 }],
  ["AMD with 64 lanes", { m: 16, n: 16, k: 16, input: "f16", subgroupSize: 64 }],
  ["Intel", { m: 8, n: 16, k: 16, input: "f16", subgroupSize: 16 }],
  ["Apple", { m: 8, n: 8, k: 8, input: "f32", subgroupSize: 32 }],
  ["lavapipe", { m: 8, n: 8, k: 8, input: "f16", subgroupSize: 8 }],
] as const;

/** The null adapter has 16 KiB of workgroup memory: these are more, and get no matrices. */
const tooLarge = (name: string): readonly string[] => (name === "lavapipe" ? ["f32 512"] : ["f16 512", "bf16 512", "f32 512"]);

describe("subgroup matrices", () => {
  it.each(vendorShapes)("%s", { timeout: 120_000 }, async (name, matrix) => {
    const found: string[] = [];
    for (const dtype of ["f16", "bf16", "f32"] as const) {
      for (const width of [64, 128, 160, 512]) {
        const labels = await attend({ matrix, tier: "matrix" }, width, dtype);
        const matrices = [...labels].filter((l) => /^attention \d+ matrix 1( ahead)? of /.test(l)).length;
        expect(matrices === labels.size || [...labels].every((l) => l === `attention ${width} tiled, subgroups`), `${[...labels]}`).toBe(
          true,
        );
        if (matrices === 0) found.push(`${dtype} ${width}`);
        backend.destroy();
      }
    }
    expect(found).toEqual(tooLarge(name));
  });
});

it("tiles with subgroups, without, and in workgroups of 64 threads", async () => {
  for (const options of [{ tier: "subgroups", matrix: { m: 8, n: 8, k: 8, input: "f16", subgroupSize: 32 } }, { tier: "plain" }] as const) {
    for (const width of [40, 64, 128, 160, 512]) {
      const labels = await attend(options, width, "bf16");
      expect([...labels]).toEqual([`attention ${width} tiled${options.tier === "plain" ? "" : ", subgroups"}`]);
      backend.destroy();
    }
  }
});
