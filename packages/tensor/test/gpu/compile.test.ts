// Every kernel variant compiles: Dawn's null backend runs its front end on the WGSL and checks layouts, for all formats and kernel families.
// Snapshots of a few kernels catch accidental changes of their text.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createWebGpuBackend, type WebGpuBackend } from "../../src/backends/webgpu/index.ts";
import { bytesOf, type DType, type PlainDType, type QuantDType } from "../../src/dtype.ts";
import { contiguousLayout, expandLayout, type Layout, permuteLayout } from "../../src/layout.ts";
import { binaryNode, castNode, constNode, inputNode, type UnaryOp, unaryNode } from "../../src/ops/expr.ts";
import { sizeOf } from "../../src/shape.ts";
import type { View } from "../../src/view.ts";

const floats: PlainDType[] = ["f32", "f16", "bf16"];
const quantized: QuantDType[] = ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_K", "q3_K", "q4_K", "q5_K", "q6_K", "iq4_nl", "iq4_xs"];
const x0 = inputNode(0, "f32");
const x1 = inputNode(1, "f32");

describe.each([
  ["software kernels", { software: true }],
  ["hardware kernels", { software: false }],
  ["hardware kernels without immediates", { software: false, immediates: false }],
])("%s", (_name, options) => {
  let backend: WebGpuBackend;
  beforeAll(async () => {
    backend = await createWebGpuBackend({ driver: "null", ...options });
  });
  afterAll(() => backend.destroy());

  const view = (shape: readonly number[], dtype: DType = "f32", change: (l: Layout) => Layout = (l) => l): View => ({
    buffer: backend.allocate(Math.max(1, bytesOf(dtype, sizeOf(shape))), "t"),
    dtype,
    layout: change(contiguousLayout(shape)),
  });
  const swap = (l: Layout): Layout => permuteLayout(l, [1, 0]);

  it("maps", async () => {
    const unary =
      "exp expm1 log log1p log2 sin cos tan asin acos atan sinh cosh tanh sigmoid silu gelu geluErf geluQuick softplus erf sqrt rsqrt round isNan".split(
        " ",
      ) as UnaryOp[];
    for (const op of unary) backend.kernels.map(view([40]), { inputs: [view([40])] }, { expr: castNode(unaryNode(op, x0), "f32") });
    for (const d of [...floats, "i32", "u32", "u8", "i64", "f8e4m3", "f8e5m2"] as PlainDType[]) {
      for (const shape of [
        [8, 8],
        [3, 5],
      ]) {
        backend.kernels.map(
          view(shape, d),
          { inputs: [view(shape, d), view(shape.toReversed(), "f32", swap)] },
          { expr: binaryNode("pow", castNode(x0, "f32"), x1) },
        );
        backend.kernels.copy(view(shape.toReversed(), d, swap), { x: view(shape, d) }, {});
      }
    }
    await backend.idle();
  });

  it("matmul of every pair of formats, size class and epilogue", async () => {
    const epilogue = binaryNode("mul", unaryNode("silu", binaryNode("add", x0, x1)), inputNode(2, "f32"));
    for (const db of [...floats, ...quantized] as DType[]) {
      for (const [m, n] of [
        [1, 16],
        [3, 16],
        [256, 512],
        [65, 30],
      ] as const) {
        for (const da of floats) {
          const b = view([n, 512], db, swap);
          const bias = view([n], "f32", (l) => expandLayout("t", l, [m, n]));
          backend.kernels.matmul(view([m, n], da), { a: view([m, 512], da), b, operands: [bias, view([m, n], da)] }, { epilogue });
        }
      }
    }
    backend.kernels.matmul(view([2, 65, 33]), { a: view([2, 65, 17]), b: view([2, 17, 33]) }, {});
    await backend.idle();
  });

  it("attention of every head width, mask and format", async () => {
    for (const k of [32, 40, 64, 128, 160, 512]) {
      for (const d of floats) {
        const q = view([1, 4, 70, k], d);
        const kv = view([1, 2, 90, k], d);
        const mask = view([70, 90], d === "f32" ? "u8" : d, (l) => expandLayout("t", l, [1, 4, 70, 90]));
        backend.kernels.attention(view([1, 4, 70, k], d), { q, k: kv, v: kv }, { scale: 1, causal: true });
        backend.kernels.attention(
          view([1, 4, 70, k], d),
          { q, k: kv, v: kv, mask, lengths: view([1], "i32") },
          { scale: 1, causal: false },
        );
      }
    }
    await backend.idle();
  });

  it("rows, reductions, images and indices", async () => {
    for (const d of floats) {
      for (const width of [64, 70, 3072]) {
        const x = view([5, width], d);
        backend.kernels.softmax(view([5, width], d), { x }, { log: false });
        backend.kernels.norm(
          view([5, width], d),
          { x, weight: view([width], d), bias: view([width]) },
          { kind: "layer", eps: 1e-6, epilogue: unaryNode("gelu", x0) },
        );
        backend.kernels.rope(view([5, width], d), { x, cos: view([5, width / 2]), sin: view([5, width / 2]) }, { interleaved: width > 64 });
        const heads = {
          x: view([2, 5, 3, width], d),
          weight: view([width], d),
          cos: view([2, 5, 3, width / 2]),
          sin: view([2, 5, 3, width / 2]),
        };
        backend.kernels.qkNormRope(view([2, 5, 3, width], d), heads, { eps: 1e-6, interleaved: width > 64 });
        for (const kind of ["sum", "var", "argmax", "logSumExp", "norm"] as const) {
          backend.kernels.reduce(view([5], kind === "argmax" ? "i32" : d), { x }, { kind, reduceRank: 1, correction: 1, p: 3 });
        }
        backend.kernels.scan(view([5, width], d), { x }, { kind: "sum" });
        backend.kernels.argsort(view([5, width], "i32"), { x }, { descending: true });
      }
      const image = view([1, 8, 9, 9], d);
      const plane = { stride: [1, 1], padding: [1, 1], dilation: [1, 1], groups: 1 } as const;
      backend.kernels.conv(view([1, 8, 9, 9], d), { x: image, weight: view([8, 8, 3, 3], d) }, plane);
      backend.kernels.convTranspose(view([1, 8, 9, 9], d), { x: image, weight: view([8, 8, 3, 3], d) }, plane);
      backend.kernels.groupNorm(view([1, 8, 9, 9], d), { x: image, weight: view([8]) }, { groups: 2, eps: 1e-6 });
      backend.kernels.resample(view([1, 8, 18, 18], d), { x: image }, { mode: "bilinear", alignCorners: false });
      const taps = { index: view([4, 18], "i32"), weight: view([4, 18]) };
      backend.kernels.filter(view([1, 8, 9, 18], d), { x: image, ...taps }, { dim: 3 });
      const places = view([1, 5, 4, 2]);
      for (const mode of ["bilinear", "nearest", "bicubic"] as const)
        backend.kernels.gridSample(
          view([1, 8, 5, 4], d),
          { x: image, grid: places },
          { mode, paddingMode: "reflection", alignCorners: false },
        );
      const index = view([3], "i32");
      backend.kernels.indexSelect(view([3, 16], d), { x: view([9, 16], d), index }, { dim: 0 });
      backend.kernels.indexAdd(view([9, 16], d), { x: view([9, 16], d), index, src: view([3, 16], d) }, { dim: 0 });
    }
    for (const d of quantized) backend.kernels.dequantize(view([2, 512], "bf16"), { x: view([2, 512], d) }, {});
    await backend.idle();
  });

  it("an error in a kernel would be seen", async () => {
    backend.device.createShaderModule({ code: "fn broken(" });
    await expect(backend.idle()).rejects.toThrow(/parsing WGSL/);
  });
});

describe("text", () => {
  const textOf = async (
    label: string,
    run: (b: WebGpuBackend, view: (shape: number[], dtype?: PlainDType) => View) => void,
  ): Promise<string> => {
    const backend = await createWebGpuBackend({ driver: "null", software: false, tier: "plain" });
    run(backend, (shape, dtype = "f32") => ({
      buffer: backend.allocate(bytesOf(dtype, sizeOf(shape)), "t"),
      dtype,
      layout: contiguousLayout(shape),
    }));
    const source = backend.sources().find((s) => s.label === label);
    backend.destroy();
    return source?.code ?? "";
  };
  it("of a fused map", async () => {
    const expr = binaryNode("add", binaryNode("mul", x0, constNode(2, "f32")), x1);
    expect(
      await textOf("map add(mul($0f,2f),$1f)", (b, v) => b.kernels.map(v([64], "bf16"), { inputs: [v([64], "f16"), v([64])] }, { expr })),
    ).toMatchSnapshot();
  });
  it("of softmax", async () => {
    expect(await textOf("softmax", (b, v) => b.kernels.softmax(v([4, 64]), { x: v([4, 64]) }, { log: false }))).toMatchSnapshot();
  });
  it("of a matrix product", async () => {
    expect(
      await textOf("matmul workgroup 64x64", (b, v) => b.kernels.matmul(v([128, 128]), { a: v([128, 64]), b: v([64, 128]) }, {})),
    ).toMatchSnapshot();
  });
});
