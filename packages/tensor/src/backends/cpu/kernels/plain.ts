// The plain kernels: loops anyone can check, the oracle and the fallback of every faster path.
import type { KernelTable } from "../../../ops/table.ts";
import { attention } from "./attention.ts";
import { conv, convTranspose } from "./conv.ts";
import { dequantize } from "./dequantize.ts";
import { map } from "./elementwise.ts";
import { gather, indexAdd, indexSelect, scatter } from "./gather.ts";
import { gridSample } from "./grid-sample.ts";
import { matmul } from "./matmul.ts";
import { copy, fill } from "./movement.ts";
import { groupNorm, norm } from "./norm.ts";
import { qkNormRope } from "./qk-norm-rope.ts";
import { reduce, scan } from "./reduce.ts";
import { filter, pool, resample } from "./resample.ts";
import { rope } from "./rope.ts";
import { softmax } from "./softmax.ts";
import { argsort } from "./sort.ts";

/** One plain kernel per line of the op table. */
export const plainKernels = {
  map,
  copy,
  fill,
  matmul,
  reduce,
  scan,
  softmax,
  norm,
  groupNorm,
  attention,
  rope,
  qkNormRope,
  conv,
  convTranspose,
  pool,
  resample,
  filter,
  gridSample,
  gather,
  scatter,
  indexSelect,
  indexAdd,
  argsort,
  dequantize,
} satisfies KernelTable;
