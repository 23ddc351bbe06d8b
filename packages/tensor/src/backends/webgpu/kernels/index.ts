// The table of all WebGPU kernels.
import type { KernelTable } from "../../../ops/table.ts";
import { attentionKernel } from "./attention.ts";
import type { KernelContext } from "./context.ts";
import { convKernel } from "./conv.ts";
import { convTransposeKernel } from "./conv-transpose.ts";
import { copyKernel, fillKernel, mapKernel } from "./elementwise.ts";
import { dequantizeKernel, gatherKernel, indexSelectKernel } from "./gather.ts";
import { gridSampleKernel } from "./grid-sample.ts";
import { groupNormKernel } from "./group-norm.ts";
import { matmulKernel } from "./matmul.ts";
import { normKernel } from "./norm.ts";
import { qkNormRopeKernel } from "./qk-norm-rope.ts";
import { reduceKernel } from "./reduce.ts";
import { filterKernel, poolKernel, resampleKernel } from "./resample.ts";
import { ropeKernel } from "./rope.ts";
import { scanKernel } from "./scan.ts";
import { indexAddKernel, scatterKernel } from "./scatter.ts";
import { softmaxKernel } from "./softmax.ts";
import { argsortKernel } from "./sort.ts";

/** One kernel per line of the op table, bound to a device. */
export function makeKernels(ctx: KernelContext): KernelTable {
  return {
    map: mapKernel(ctx),
    copy: copyKernel(ctx),
    fill: fillKernel(ctx),
    matmul: matmulKernel(ctx),
    reduce: reduceKernel(ctx),
    scan: scanKernel(ctx),
    softmax: softmaxKernel(ctx),
    norm: normKernel(ctx),
    groupNorm: groupNormKernel(ctx),
    attention: attentionKernel(ctx),
    rope: ropeKernel(ctx),
    qkNormRope: qkNormRopeKernel(ctx),
    conv: convKernel(ctx),
    convTranspose: convTransposeKernel(ctx),
    pool: poolKernel(ctx),
    resample: resampleKernel(ctx),
    filter: filterKernel(ctx),
    gridSample: gridSampleKernel(ctx),
    gather: gatherKernel(ctx),
    scatter: scatterKernel(ctx),
    indexSelect: indexSelectKernel(ctx),
    indexAdd: indexAddKernel(ctx),
    argsort: argsortKernel(ctx),
    dequantize: dequantizeKernel(ctx),
  };
}
