// Every variant of the matrix kernels for every vendor's subgroup matrices compiles on Dawn's null backend, which checks WGSL and layouts
// and runs nothing; and the choice between them.
import { afterEach, describe, expect, it } from "vitest";
import { createWebGpuBackend, type WebGpuBackend } from "../../src/backends/webgpu/index.ts";
import { type GemmVariantName, gemmVariantNames } from "../../src/backends/webgpu/kernels/gemm-variants.ts";
import type { WebGpuOptions } from "../../src/backends/webgpu/options.ts";
import { defaultVariants } from "../../src/backends/webgpu/preferences.ts";
import { productClasses, type Tuning } from "../../src/backends/webgpu/tuning.ts";
import { bytesOf, type DType, isQuantized } from "../../src/dtype.ts";
import { contiguousLayout, expandLayout, type Layout, permuteLayout } from "../../src/layout.ts";
import { binaryNode, inputNode, unaryNode } from "../../src/ops/expr.ts";
import { sizeOf } from "../../src/shape.ts";
import type { View } from "../../src/view.ts";

let backend: WebGpuBackend;
afterEach(() => backend.destroy());

const openNull = async (options: WebGpuOptions): Promise<void> => {
  backend = await createWebGpuBackend({ driver: "null", software: false, ...options });
};

/** Opens a device that takes `variant` for every product. */
async function openWith(variant: GemmVariantName, options: WebGpuOptions): Promise<void> {
  await openNull(options);
  const { adapterName } = backend.capabilities;
  backend.destroy();
  const variants = Object.fromEntries(productClasses.map((c) => [c, variant]));
  const tuning: Tuning = { adapter: adapterName, tier: "matrix", variants };
  await openNull({ ...options, tuning: [tuning] });
}

const view = (shape: readonly number[], dtype: DType = "f32", change: (l: Layout) => Layout = (l) => l): View => ({
  buffer: backend.allocate(Math.max(1, bytesOf(dtype, sizeOf(shape))), "t"),
  dtype,
  layout: change(contiguousLayout(shape)),
});
const swap = (l: Layout): Layout => permuteLayout(l, [1, 0]);
const silu = unaryNode("silu", binaryNode("add", inputNode(0, "f32"), inputNode(1, "f32")));
const gated = binaryNode("add", inputNode(3, "f32"), binaryNode("mul", inputNode(2, "f32"), silu));

/** Formats that differ in how they are staged. */
const pairs: readonly (readonly [DType, DType])[] = [
  ["f32", "q8_0"],
  ["f16", "f16"],
  ["bf16", "f32"],
  ["f16", "q4_K"],
  ["f8e4m3", "bf16"],
];

/** Products with an epilogue of an activation, a gate and a residual, and products of transposed operands; aligned and not. */
function multiplyAll(chosen = pairs): void {
  chosen.forEach(([da, db], i) => {
    const [m, n, k] = i % 2 === 0 ? [256, 256, 256] : [65, 30, 256];
    const b = isQuantized(db) ? view([n, k], db, swap) : view([k, n], db);
    const row = (): View => view([n], "f32", (l) => expandLayout("t", l, [m, n]));
    const operands = [row(), row(), view([m, n], "bf16")];
    backend.kernels.matmul(view([m, n], n % 4 ? "f32" : "f16"), { a: view([m, k], da), b, operands }, { epilogue: gated });
    if (!isQuantized(db)) backend.kernels.matmul(view([m, n]), { a: view([k, m], da, swap), b: view([n, k], db, swap) }, {});
  });
}

describe("every variant compiles", () => {
  it.each([
    ["NVIDIA, AMD with 32 lanes", { m: 16, n: 16, k: 16, input: "f16", subgroupSize: 32 }],
    ["AMD with 64 lanes", { m: 16, n: 16, k: 16, input: "f16", subgroupSize: 64 }],
    ["Intel", { m: 8, n: 16, k: 16, input: "f16", subgroupSize: 32 }],
    ["Apple", { m: 8, n: 8, k: 8, input: "f32", subgroupSize: 32 }],
    ["lavapipe", { m: 8, n: 8, k: 8, input: "f16", subgroupSize: 8 }],
  ] as const)("%s", { timeout: 120_000 }, async (_name, matrix) => {
    // Eight subgroups need more memory than the null adapter has: large-memory.test.ts.
    const mine = gemmVariantNames.filter((v) => (/^(matrix|broadcast)/.test(v) || matrix.subgroupSize === 64) && !v.endsWith("in 8"));
    for (const variant of mine) {
      await openWith(variant, { matrix });
      multiplyAll(variant === "matrix 4x4" ? pairs : pairs.slice(0, 2));
      await backend.idle();
      const labels = backend.sources().map((s) => s.label);
      const [kind, rows] = [variant.split(" ")[0]!, Number(variant.split(" ")[1])];
      const fits = kind !== "broadcast" || rows % matrix.subgroupSize === 0 || matrix.subgroupSize % rows === 0;
      if (fits)
        expect(
          labels.some((l) => l.startsWith(`matmul ${variant}`)),
          `${variant}: ${labels.join(", ")}`,
        ).toBe(true);
      backend.destroy();
    }
    await openNull({ matrix });
  });

  it("with rounded products and without immediates", async () => {
    await openNull({
      matrix: { m: 16, n: 16, k: 16, input: "f16", subgroupSize: 32 },
      float32MatmulPrecision: "high",
      immediates: false,
      tier: "matrix",
    });
    multiplyAll();
    await backend.idle();
  });
});

describe("the choice", () => {
  const nvidia = { m: 16, n: 16, k: 16, input: "f16", subgroupSize: 32 } as const;

  it("prefers larger tiles for larger products, and falls back", async () => {
    await openNull({ matrix: nvidia, tier: "matrix" });
    const traits = backend.capabilities;
    expect(defaultVariants(traits, { m: 4096, n: 3072, k: 3072, batch: 1 })[0]).toBe("matrix 4x4 ahead");
    expect(defaultVariants(traits, { m: 64, n: 3072, k: 3072, batch: 1 })[0]).toBe("matrix 2x2");
    expect(defaultVariants({ ...traits, tier: "plain" }, { m: 4096, n: 3072, k: 3072, batch: 1 })).toEqual(["workgroup 64x64"]);
    expect(defaultVariants({ ...traits, tier: "matrix", software: true }, { m: 64, n: 64, k: 64, batch: 1 })[0]).toBe("matrix 1x1");
  });

  it("takes an adapter's matrices unmeasured only where they are known to be fast", async () => {
    await openNull({ matrix: nvidia });
    expect(backend.capabilities).toMatchObject({ tier: "subgroups", offeredTier: "matrix" });
    expect(backend.capabilities.tierReason).toMatchInlineSnapshot(
      `"this adapter's subgroup matrices are not known to be fast; wick doctor --tune measures them"`,
    );
    const { adapterName } = backend.capabilities;
    backend.destroy();
    await openNull({ matrix: nvidia, tuning: [{ adapter: adapterName, tier: "matrix", variants: { "large half": "matrix 4x2" } }] });
    expect(backend.capabilities).toMatchObject({ tier: "matrix", tierReason: "measured to be the fastest on this adapter" });
    backend.destroy();
    await openNull({ matrix: nvidia, tuning: [{ adapter: "another", tier: "plain", variants: {} }] });
    expect(backend.capabilities.tier).toBe("subgroups");
  });

  it("rounds only where f16 fragments multiply, and refuses precisions it does not know", async () => {
    const precisionOn = async (options: WebGpuOptions): Promise<string> => {
      await openNull({ float32MatmulPrecision: "high", ...options });
      const { float32MatmulPrecision } = backend.capabilities;
      backend.destroy();
      return float32MatmulPrecision;
    };
    expect(await precisionOn({ matrix: nvidia, tier: "matrix" })).toBe("high");
    expect(await precisionOn({ matrix: nvidia, tier: "matrix", float32MatmulPrecision: "highest" })).toBe("highest");
    expect(await precisionOn({ matrix: nvidia, tier: "subgroups" })).toBe("highest");
    expect(await precisionOn({ matrix: { ...nvidia, input: "f32" }, tier: "matrix" })).toBe("highest");
    await expect(openNull({ float32MatmulPrecision: "medium" as "high" })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[DeviceError: webgpu: float32MatmulPrecision is "medium"; it takes "highest" or "high"]`,
    );
    await openNull({});
  });

  it("refuses a tuning it does not understand", async () => {
    await openNull({});
    const { adapterName: adapter } = backend.capabilities;
    const variants = { "large half": "matrix 9x9" as GemmVariantName };
    await expect(openNull({ tuning: [{ adapter, tier: "plain", variants }] })).rejects.toThrow(
      /has the unknown kernel matrix 9x9; make it again/,
    );
    await expect(openNull({ tuning: [{ adapter, tier: "fast" as "plain", variants: {} }] })).rejects.toThrow(/has the unknown tier fast/);
  });
});
