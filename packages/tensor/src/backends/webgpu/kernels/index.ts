// The table of all WebGPU kernels.
import type { KernelTable } from "../../../ops/table.ts";
import { attentionKernel } from "./attention.ts";
import type { KernelContext } from "./context.ts";
import { copyKernel, fillKernel, mapKernel } from "./elementwise.ts";
import { matmulKernel } from "./matmul.ts";
import { normKernel } from "./norm.ts";
import { ropeKernel } from "./rope.ts";
import { softmaxKernel } from "./softmax.ts";

/** One kernel per line of the op table, bound to a device. */
export function makeKernels(ctx: KernelContext): KernelTable {
  return {
    map: mapKernel(ctx),
    copy: copyKernel(ctx),
    fill: fillKernel(ctx),
    matmul: matmulKernel(ctx),
    softmax: softmaxKernel(ctx),
    norm: normKernel(ctx),
    attention: attentionKernel(ctx),
    rope: ropeKernel(ctx),
  } as unknown as KernelTable;
}
