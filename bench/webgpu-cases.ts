// The kernels' work in real models, as rows of benchmarks and of tables of machine code: products, attention, convolutions, what memory limits.

import type { WebGpuBackend } from "../packages/tensor/src/backends/webgpu/index.ts";
import { bytesOf, type DType, isQuantized } from "../packages/tensor/src/dtype.ts";
import { expandLayout, type Layout, permuteLayout } from "../packages/tensor/src/layout.ts";
import { binaryNode, constNode, inputNode, unaryNode } from "../packages/tensor/src/ops/expr.ts";
import type { View } from "../packages/tensor/src/view.ts";

/** Makes operands on one backend; all are released after the row. */
export type Make = (shape: readonly number[], dtype?: DType, change?: (l: Layout) => Layout) => View;
/** Work of one kernel, or of one op. */
export interface Case {
  readonly name: string;
  /** Work of one call: operations, or bytes that must move. */
  readonly amount: number;
  readonly unit: "GFLOP/s" | "GB/s";
  /** f32 or quantized operands of matrix products: precisions differ. */
  readonly isRounded?: boolean;
  prepare(kernels: WebGpuBackend["kernels"], make: Make): () => void;
}

const isLong = (dtype: DType): boolean => dtype === "f32" || isQuantized(dtype);

/** Activations of one dtype by weights of another, [m, k] x [k, n]; results as the activations. */
export function product(m: number, k: number, n: number, dtype: DType, weights: DType): Case {
  return {
    name: `matmul ${m}x${k}x${n} ${dtype} x ${weights}`,
    amount: 2 * m * k * n,
    unit: "GFLOP/s",
    isRounded: isLong(dtype) || isLong(weights),
    prepare: (kernels, make) => {
      const [a, b, out] = [make([m, k], dtype), make([n, k], weights, (l) => permuteLayout(l, [1, 0])), make([m, n], dtype)];
      const one = { ...a, layout: { shape: [1], strides: [1], offset: 0 } };
      return () => {
        // In a model activations are new to every product, so that it must measure them; weights are not.
        kernels.fill(one, {}, { value: 1 });
        kernels.matmul(out, { a, b }, {});
      };
    },
  };
}

/** Attention of heads over themselves. */
export function attention(heads: number, tokens: number, width: number, dtype: DType): Case {
  return {
    name: `attention ${heads}x${tokens}x${width} ${dtype}`,
    amount: 4 * heads * tokens * tokens * width,
    unit: "GFLOP/s",
    isRounded: isLong(dtype),
    prepare: (kernels, make) => {
      const [q, k, v, out] = [0, 1, 2, 3].map(() => make([1, heads, tokens, width], dtype)) as [View, View, View, View];
      return () => kernels.attention?.(out, { q, k, v }, { scale: width ** -0.5, causal: false });
    },
  };
}

/** A convolution with stride 1 that keeps the size, of one image. */
export function convolution(c: number, o: number, size: number, kernel: number, dtype: DType): Case {
  const attrs = { stride: [1, 1], padding: [(kernel - 1) / 2, (kernel - 1) / 2], dilation: [1, 1], groups: 1 } as const;
  return {
    name: `conv ${kernel}x${kernel} ${c}->${o} at ${size}² ${dtype}`,
    amount: 2 * c * o * size * size * kernel * kernel,
    unit: "GFLOP/s",
    isRounded: isLong(dtype),
    prepare: (kernels, make) => {
      const [x, weight, out] = [make([1, c, size, size], dtype), make([o, c, kernel, kernel], dtype), make([1, o, size, size], dtype)];
      return () => kernels.conv?.(out, { x, weight }, attrs);
    },
  };
}

function transposed(c: number, size: number): Case {
  const attrs = { stride: [2, 2], padding: [1, 1], dilation: [1, 1], groups: 1 } as const;
  return {
    name: `convTranspose 4x4 ${c}->${c} from ${size}² f32`,
    amount: 2 * c * c * size * size * 16,
    unit: "GFLOP/s",
    prepare: (kernels, make) => {
      const [x, weight, out] = [make([1, c, size, size]), make([c, c, 4, 4]), make([1, c, size * 2, size * 2])];
      return () => kernels.convTranspose?.(out, { x, weight }, attrs);
    },
  };
}

/** A case limited by memory: the bytes of its operands. */
function moving(name: string, bytes: number, prepare: Case["prepare"]): Case {
  return { name, amount: bytes, unit: "GB/s", prepare };
}

function rowCases(rows: number, width: number): Case[] {
  const bytes = rows * width * 4;
  const modulate = binaryNode(
    "add",
    binaryNode("mul", inputNode(0, "f32"), binaryNode("add", inputNode(1, "f32"), constNode(1, "f32"))),
    inputNode(2, "f32"),
  );
  const size = `${rows}x${width}`;
  return [
    moving(`copy ${size} f32`, 2 * bytes, (kernels, make) => {
      const [x, out] = [make([rows, width]), make([rows, width])];
      return () => kernels.copy(out, { x }, {});
    }),
    moving(`gelu ${size} f32`, 2 * bytes, (kernels, make) => {
      const [x, out] = [make([rows, width]), make([rows, width])];
      return () => kernels.map(out, { inputs: [x] }, { expr: unaryNode("gelu", inputNode(0, "f32")) });
    }),
    moving(`sin ${size} f32`, 2 * bytes, (kernels, make) => {
      const [x, out] = [make([rows, width]), make([rows, width])];
      return () => kernels.map(out, { inputs: [x] }, { expr: unaryNode("sin", inputNode(0, "f32")) });
    }),
    moving(`layerNorm, modulate ${size} f32`, 2 * bytes, (kernels, make) => {
      const [x, out] = [make([rows, width]), make([rows, width])];
      const operands = [0, 1].map(() => make([1, width], "f32", (l) => expandLayout("bench", l, [rows, width])));
      return () => kernels.norm?.(out, { x, operands }, { kind: "layer", eps: 1e-6, epilogue: modulate });
    }),
    moving(`rmsNorm of heads ${size}/128 f32`, 2 * bytes, (kernels, make) => {
      const shape = [(rows * width) / 128, 128];
      const [x, weight, out] = [make(shape), make([128]), make(shape)];
      return () => kernels.norm?.(out, { x, weight }, { kind: "rms", eps: 1e-6 });
    }),
    moving(`rope ${size}/128 f32`, 2 * bytes, (kernels, make) => {
      const shape = [(rows * width) / 128, 128];
      const [x, out] = [make(shape), make(shape)];
      const [cos, sin] = [0, 1].map(() => make([1, 64], "f32", (l) => expandLayout("bench", l, [shape[0]!, 64]))) as [View, View];
      return () => kernels.rope?.(out, { x, cos, sin }, { interleaved: true });
    }),
    moving(`softmax ${size} f32`, 2 * bytes, (kernels, make) => {
      const [x, out] = [make([rows, width]), make([rows, width])];
      return () => kernels.softmax?.(out, { x }, { log: false });
    }),
    moving(`sum of rows ${size} f32`, bytes, (kernels, make) => {
      const [x, out] = [make([rows, width]), make([rows])];
      return () => kernels.reduce(out, { x }, { kind: "sum", reduceRank: 1, correction: 0, p: 2 });
    }),
    moving(`indexAdd ${size} f32`, 3 * bytes, (kernels, make) => {
      const [x, src, out, index] = [make([rows, width]), make([rows, width]), make([rows, width]), make([rows], "i32")];
      return () => kernels.indexAdd(out, { x, index, src }, { dim: 0 });
    }),
  ];
}

/** Queries of heads as a projection gives them, normed, rotated and laid out for attention. */
export function qkNormRope(heads: number, tokens: number, width: number, dtype: DType): Case {
  const shape = [1, tokens, heads, width];
  const half = [1, tokens, heads, width / 2];
  return moving(`qkNormRope ${heads}x${tokens}x${width} ${dtype}`, 2 * tokens * heads * width * bytesOf(dtype, 1), (kernels, make) => {
    const [x, weight] = [make(shape, dtype), make([width], dtype)];
    const out = make([1, heads, tokens, width], dtype, (l) => permuteLayout(l, [0, 2, 1, 3]));
    const [cos, sin] = [0, 1].map(() => make([1, tokens, 1, width / 2], "f32", (l) => expandLayout("bench", l, half))) as [View, View];
    return () => kernels.qkNormRope?.(out, { x, weight, cos, sin }, { eps: 1e-6, interleaved: true });
  });
}

function groupNorm(channels: number, size: number): Case {
  return moving(`groupNorm, silu ${channels}x${size}² f32`, 2 * channels * size * size * 4, (kernels, make) => {
    const shape = [1, channels, size, size];
    const [x, out, weight, bias] = [make(shape), make(shape), make([channels]), make([channels])];
    const attrs = { groups: 32, eps: 1e-6, epilogue: unaryNode("silu", inputNode(0, "f32")) };
    return () => kernels.groupNorm?.(out, { x, weight, bias }, attrs);
  });
}

/** The shapes of FLUX.1, Z-Image and their autoencoder at 1024 x 1024. */
export const large = (): Case[] => [
  product(4608, 3072, 12288, "f16", "f16"),
  product(4608, 3072, 12288, "bf16", "bf16"),
  // The models' products: activations are f32.
  ...(["bf16", "q8_0", "f32"] as const).map((weights) => product(4608, 3072, 12288, "f32", weights)),
  product(1024, 3072, 3072, "f16", "f16"),
  product(1024, 3072, 3072, "f32", "bf16"),
  ...(["f16", "bf16", "f32"] as const).map((d) => attention(24, 4608, 128, d)),
  attention(30, 4096, 128, "bf16"),
  attention(8, 1024, 64, "f16"),
  attention(1, 4096, 512, "f16"),
  attention(1, 4096, 512, "f32"),
  ...(["f16", "f32"] as const).map((d) => convolution(128, 128, 512, 3, d)),
  convolution(512, 512, 128, 3, "f32"),
  convolution(256, 128, 512, 1, "f32"),
  transposed(64, 256),
  ...rowCases(4608, 3072),
  groupNorm(128, 512),
];
/** The same kinds of work for software drivers. */
export const small = (): Case[] => [
  product(128, 256, 256, "f32", "f32"),
  product(128, 256, 256, "f32", "q8_0"),
  attention(4, 256, 64, "f32"),
  attention(2, 128, 128, "f16"),
  attention(1, 128, 512, "f32"),
  convolution(64, 64, 32, 3, "f32"),
  convolution(64, 64, 32, 1, "f32"),
  transposed(16, 32),
  ...rowCases(256, 1024),
  groupNorm(64, 64),
];
