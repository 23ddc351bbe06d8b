// The rows of the comparison: shapes of the real models, what they cost, and which set (quick or full) they belong to.
// FLUX.1: width 3072, 24 heads of 128, MLP 12,288. Z-Image: width 3840, 30 heads of 128, SwiGLU of 10,240.
import type { DType } from "@wick/tensor";

/** One row; the other fields are the operator's dimensions, the same words in every contestant. */
export interface Case {
  readonly id: string;
  readonly op: string;
  readonly set: "quick" | "full";
  readonly unit: "GFLOP/s" | "GB/s" | "ms";
  /** Floating-point operations or bytes moved; 0 where only the time counts. */
  readonly work: number;
  /** Relative L2 distance from Wick's own values at which a contestant has computed something else. */
  readonly tolerance: number;
  readonly spec: Readonly<Record<string, number | string>>;
}

type Set = Case["set"];

const tolerances: Partial<Record<DType, number>> = { f32: 1e-3, bf16: 0.02, f16: 0.01, q8_0: 0.03, q4_0: 0.2, q4_K: 0.2 };

function matmul(set: Set, size: number): Case {
  const spec = { m: size, k: size, n: size };
  return { id: `matmul ${size}`, op: "matmul", set, unit: "GFLOP/s", work: 2 * size ** 3, tolerance: 1e-3, spec };
}

function linear(set: Set, model: string, [m, k, n]: readonly [number, number, number], dtype: DType): Case {
  const id = `${model} linear ${m}x${k}x${n} ${dtype}`;
  return { id, op: "linear", set, unit: "GFLOP/s", work: 2 * m * k * n, tolerance: tolerances[dtype]!, spec: { m, k, n, dtype } };
}

function conv(set: Set, c: number, o: number, side: number): Case {
  const spec = { c, o, h: side, w: side };
  const id = `VAE conv 3x3 ${side}x${side} ${c} to ${o}`;
  return { id, op: "conv", set, unit: "GFLOP/s", work: 2 * side * side * c * o * 9, tolerance: 1e-3, spec };
}

function attention(set: Set, tokens: number, heads: number, width: number): Case {
  const spec = { tokens, heads, width };
  const id = `attention ${tokens}x${heads}x${width}`;
  return { id, op: "attention", set, unit: "GFLOP/s", work: 4 * heads * tokens * tokens * width, tolerance: 1e-3, spec };
}

const rowOps = { softmax: 2, gelu: 2, add: 3, rmsNorm: 2, layerNorm: 2, modulate: 2 } as const;

/** Reads each operand once and writes the result. */
function rowWise(set: Set, op: keyof typeof rowOps, rows: number, columns: number): Case {
  const work = rowOps[op] * rows * columns * 4;
  return { id: `${op} ${rows}x${columns}`, op, set, unit: "GB/s", work, tolerance: 1e-3, spec: { rows, columns } };
}

function groupNorm(set: Set, c: number, side: number): Case {
  const spec = { c, h: side, w: side };
  const work = 2 * c * side * side * 4;
  return { id: `VAE group norm + SiLU ${c}x${side}x${side}`, op: "groupNormSilu", set, unit: "GB/s", work, tolerance: 1e-3, spec };
}

const resamplings = {
  bilinear: "bilinear",
  bicubic: "bicubic",
  bilinearAntialias: "bilinear, antialias",
  bicubicAntialias: "bicubic, antialias",
} as const;

/** A picture at another size; reads it once and writes the result. */
function resample(op: keyof typeof resamplings, c: number, side: number, to: number): Case {
  const id = `${resamplings[op]} ${c}x${side}x${side} to ${to}x${to}`;
  return { id, op, set: "full", unit: "GB/s", work: 4 * c * (side ** 2 + to ** 2), tolerance: 1e-3, spec: { c, side, to } };
}

/** A picture read at places all over it. */
function gridSample(op: "gridSample" | "gridSampleBicubic", c: number, side: number): Case {
  const id = `grid sample${op === "gridSample" ? "" : ", bicubic"} ${c}x${side}x${side}`;
  return { id, op, set: "full", unit: "GB/s", work: 4 * (2 * c + 2) * side ** 2, tolerance: 1e-3, spec: { c, side } };
}

/** Operations of the products and of attention in one block. */
const zImageFlops = (tokens: number) => 2 * tokens * (4 * 3840 ** 2 + 3 * 3840 * 10_240) + 4 * tokens ** 2 * 3840;
const fluxDoubleFlops = (tokens: number) => 2 * tokens * 12 * 3072 ** 2 + 4 * tokens ** 2 * 3072;
const fluxSingleFlops = fluxDoubleFlops;

function block(set: Set, op: "zImageBlock" | "fluxDouble" | "fluxSingle", tokens: number, dtype: DType): Case {
  const names = { zImageBlock: "Z-Image block", fluxDouble: "FLUX double block", fluxSingle: "FLUX single block" };
  const flops = { zImageBlock: zImageFlops, fluxDouble: fluxDoubleFlops, fluxSingle: fluxSingleFlops };
  const tolerance = dtype === "f32" ? 2e-3 : 0.05;
  return {
    id: `${names[op]}, ${tokens} tokens, ${dtype}`,
    op,
    set,
    unit: "GFLOP/s",
    work: flops[op](tokens),
    tolerance,
    spec: { tokens, dtype },
  };
}

const whole = (op: string, id: string, tolerance: number): Case => ({ id, op, set: "quick", unit: "ms", work: 0, tolerance, spec: {} });

const zImageLinear = [3840, 10_240] as const;
const fluxLinear = [3072, 12_288] as const;
const formats = ["f32", "bf16", "q8_0", "q4_K"] as const;

/** Rows for a processor. */
export const cpuCases: readonly Case[] = [
  matmul("quick", 512),
  matmul("quick", 1024),
  ...formats.map((dtype) => linear("quick", "Z-Image", [256, ...zImageLinear], dtype)),
  ...(["f16", "q4_0"] as const).map((dtype) => linear("full", "Z-Image", [256, ...zImageLinear], dtype)),
  ...([1024, 4096] as const).flatMap((m) => [
    ...formats.map((dtype) => linear("full", "Z-Image", [m, ...zImageLinear], dtype)),
    ...formats.map((dtype) => linear("full", "FLUX", [m, ...fluxLinear], dtype)),
  ]),
  conv("quick", 128, 128, 64),
  conv("full", 512, 512, 64),
  conv("full", 256, 256, 256),
  attention("quick", 1024, 8, 64),
  attention("full", 1280, 24, 128),
  attention("full", 4608, 24, 128),
  ...(["softmax", "rmsNorm", "modulate", "gelu", "add"] as const).map((op) => rowWise("quick", op, 1024, 3840)),
  rowWise("full", "layerNorm", 1024, 3840),
  ...(["softmax", "rmsNorm", "modulate", "gelu", "add"] as const).map((op) => rowWise("full", op, 4096, 3072)),
  groupNorm("quick", 128, 128),
  resample("bilinear", 3, 512, 1024),
  resample("bicubic", 3, 512, 1024),
  resample("bicubic", 64, 128, 256),
  resample("bilinearAntialias", 3, 1024, 384),
  resample("bicubicAntialias", 3, 1024, 384),
  gridSample("gridSample", 3, 512),
  gridSample("gridSample", 64, 128),
  gridSample("gridSampleBicubic", 3, 512),
  block("quick", "zImageBlock", 256, "bf16"),
  block("full", "zImageBlock", 256, "f32"),
  block("full", "zImageBlock", 256, "q8_0"),
  block("full", "zImageBlock", 1024, "bf16"),
  block("full", "fluxDouble", 512, "bf16"),
  block("full", "fluxSingle", 512, "bf16"),
  whole("tinyStep", "included model, one step of two", 2e-3),
  whole("tinyPicture", "included model, picture (warm)", 0.01),
];

/** Rows for WebGPU: the same operators; small where only a software driver can be expected. */
export const webgpuCases: readonly Case[] = [
  matmul("quick", 512),
  ...formats.map((dtype) => linear("quick", "narrow", [128, 512, 1024], dtype)),
  attention("quick", 256, 8, 64),
  conv("quick", 64, 64, 32),
  ...(["softmax", "rmsNorm", "modulate", "gelu", "add"] as const).map((op) => rowWise("quick", op, 1024, 1024)),
  groupNorm("quick", 64, 64),
  whole("tinyStep", "included model, one step of two", 5e-3),
  whole("tinyPicture", "included model, picture (warm)", 0.02),
  matmul("full", 4096),
  ...([1024, 4096, 4608] as const).flatMap((m) => [
    ...formats.map((dtype) => linear("full", "Z-Image", [m, ...zImageLinear], dtype)),
    ...formats.map((dtype) => linear("full", "FLUX", [m, ...fluxLinear], dtype)),
  ]),
  attention("full", 1536, 24, 128),
  attention("full", 4608, 24, 128),
  conv("full", 512, 512, 128),
  conv("full", 128, 128, 1024),
  ...(["softmax", "rmsNorm", "modulate", "gelu", "add"] as const).map((op) => rowWise("full", op, 4096, 3072)),
  groupNorm("full", 128, 1024),
  ...(["bf16", "q8_0"] as const).flatMap((dtype) => [
    block("full", "zImageBlock", 4096, dtype),
    block("full", "fluxDouble", 4608, dtype),
    block("full", "fluxSingle", 4608, dtype),
  ]),
];
