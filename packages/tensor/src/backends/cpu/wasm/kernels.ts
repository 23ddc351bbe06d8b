// The fast kernels: each takes what the generated code covers and leaves the rest to the plain loops.
import type { KernelTable } from "../../../ops/table.ts";
import { sizeOf } from "../../../shape.ts";
import type { View } from "../../../view.ts";
import { plainKernels } from "../kernels/plain.ts";
import { fastAttention } from "./attention.ts";
import { fastConv } from "./conv.ts";
import type { WasmEngine } from "./engine.ts";
import { fastFilter } from "./filter.ts";
import { fastGridSample } from "./grid-sample.ts";
import { fastGather, fastIndexAdd, fastScatter } from "./indexing.ts";
import { fastMap } from "./map.ts";
import { fastMatmul, stagingBytes } from "./matmul.ts";
import { fastCopy, fastSelect } from "./move.ts";
import { fastReduce, fastScan } from "./reduce.ts";
import { fastResample } from "./resample.ts";
import { fastGroupNorm, fastNorm, fastQkNormRope, fastRope, fastSoftmax } from "./rows.ts";
import { type TogetherOptions, together } from "./together.ts";

/** Kernels that run generated code where they can; outputs smaller than `plainBelow` elements always use the plain loops. */
export function wasmKernels(engine: WasmEngine, plainBelow: number): KernelTable {
  const small = (view: View) => sizeOf(view.layout.shape) < Math.max(1, plainBelow);
  /** Generated code where the operands lie, or on copies that lie together. */
  const fast = <I extends object>(out: View, inputs: I, run: (out: View, inputs: I) => boolean, options?: TogetherOptions): boolean =>
    run(out, inputs) || together(out, inputs, engine.source, run, options);
  return {
    ...plainKernels,
    map(out, inputs, attrs) {
      if (small(out) || !fast(out, inputs, (o, i) => fastMap(engine, o, i.inputs, attrs.expr))) plainKernels.map(out, inputs, attrs);
    },
    matmul(out, inputs, attrs) {
      const k = inputs.a.layout.shape.at(-1)!;
      if (small(out) && sizeOf(out.layout.shape) * k < 16 * plainBelow) plainKernels.matmul(out, inputs, attrs);
      else if (!fast(out, inputs, (o, i) => fastMatmul(engine, o, i, attrs), sharesRight(inputs.b) ? stagesRight : {}))
        plainKernels.matmul(out, inputs, attrs);
    },
    copy(out, inputs, attrs) {
      if (small(out) || !fast(out, inputs, (o, i) => fastCopy(engine, o, i.x))) plainKernels.copy(out, inputs, attrs);
    },
    gather(out, inputs, attrs) {
      if (small(out) || !fast(out, inputs, (o, i) => fastGather(engine, o, i, attrs.dim))) plainKernels.gather(out, inputs, attrs);
    },
    scatter(out, inputs, attrs) {
      if (small(out) || !fast(out, inputs, (o, i) => fastScatter(engine, o, i, attrs))) plainKernels.scatter(out, inputs, attrs);
    },
    indexAdd(out, inputs, attrs) {
      if (small(out) || !fast(out, inputs, (o, i) => fastIndexAdd(engine, o, i, attrs.dim))) plainKernels.indexAdd(out, inputs, attrs);
    },
    indexSelect(out, inputs, attrs) {
      if (small(out) || !fast(out, inputs, (o, i) => fastSelect(engine, o, i, attrs.dim))) plainKernels.indexSelect(out, inputs, attrs);
    },
    resample(out, inputs, attrs) {
      if (small(out) || !fast(out, inputs, (o, i) => fastResample(engine, o, i.x, attrs))) plainKernels.resample(out, inputs, attrs);
    },
    filter(out, inputs, attrs) {
      if (small(out) || !fast(out, inputs, (o, i) => fastFilter(engine, o, i, attrs))) plainKernels.filter(out, inputs, attrs);
    },
    gridSample(out, inputs, attrs) {
      if (small(out) || !fast(out, inputs, (o, i) => fastGridSample(engine, o, i, attrs))) plainKernels.gridSample(out, inputs, attrs);
    },
    softmax(out, inputs, attrs) {
      if (small(out) || !fast(out, inputs, (o, i) => fastSoftmax(engine, o, i, attrs))) plainKernels.softmax(out, inputs, attrs);
    },
    norm(out, inputs, attrs) {
      if (small(out) || !fast(out, inputs, (o, i) => fastNorm(engine, o, i, attrs))) plainKernels.norm(out, inputs, attrs);
    },
    groupNorm(out, inputs, attrs) {
      if (small(out) || !fast(out, inputs, (o, i) => fastGroupNorm(engine, o, i, attrs))) plainKernels.groupNorm(out, inputs, attrs);
    },
    reduce(out, inputs, attrs) {
      if (small(inputs.x) || !fast(out, inputs, (o, i) => fastReduce(engine, o, i, attrs))) plainKernels.reduce(out, inputs, attrs);
    },
    scan(out, inputs, attrs) {
      if (small(out) || !fast(out, inputs, (o, i) => fastScan(engine, o, i, attrs))) plainKernels.scan(out, inputs, attrs);
    },
    rope(out, inputs, attrs) {
      if (small(out) || !fast(out, inputs, (o, i) => fastRope(engine, o, i, attrs))) plainKernels.rope(out, inputs, attrs);
    },
    qkNormRope(out, inputs, attrs) {
      if (small(out) || !fast(out, inputs, (o, i) => fastQkNormRope(engine, o, i, attrs))) plainKernels.qkNormRope(out, inputs, attrs);
    },
    attention(out, inputs, attrs) {
      if (small(out) || !fast(out, inputs, (o, i) => fastAttention(engine, o, i, attrs))) plainKernels.attention(out, inputs, attrs);
    },
    conv(out, inputs, attrs) {
      if (small(out) || !fast(out, inputs, (o, i) => fastConv(engine, o, i, attrs))) plainKernels.conv(out, inputs, attrs);
    },
  };
}

const stagesRight: TogetherOptions = { leave: ["b"], spareBytes: stagingBytes };
/** Whether a product stages its right operand itself when that lies in another memory: one matrix for the whole batch. */
const sharesRight = ({ layout: { shape } }: View): boolean => shape.slice(0, -2).every((size) => size === 1);
