// The generated kernels by name, and the emitter of each one's module: a module is made when its kernel is first used.

import { Module } from "../../../wasm/encoder.ts";
import type { FloatKind } from "../../../wasm/simd-formats.ts";
import { emitAttention } from "./attention-kernel.ts";
import { type ColumnKind, columnKinds, emitReduceColumns } from "./column-kernel.ts";
import { emitWeighRows, emitWindows } from "./filter-kernel.ts";
import type { Flavour } from "./flavour.ts";
import { emitGemm } from "./gemm.ts";
import { emitGemv } from "./gemv-kernel.ts";
import { emitGridSample } from "./grid-sample-kernel.ts";
import { emitGroupNorm } from "./group-norm-kernel.ts";
import { emitGather, emitIndexAdd, emitScatter } from "./index-kernel.ts";
import { emitMove, emitSelect } from "./move-kernel.ts";
import { emitReduceRows, type RowKind, rowKinds } from "./reduce-kernel.ts";
import { emitBilinear, emitNearest } from "./resample-kernel.ts";
import { emitMap, emitNorm, emitQkNormRope, emitRope, emitSoftmax } from "./row-kernels.ts";
import { emitScan } from "./scan-kernel.ts";

type Emit = (module: Module, flavour: Flavour) => void;

const formats = ["f32", "f16", "bf16"] as const;
const rowReductions = Object.fromEntries(rowKinds.map((kind) => [`rows.${kind}`, emitReduceRows(kind)])) as Record<`rows.${RowKind}`, Emit>;
const columnReductions = Object.fromEntries(
  columnKinds.flatMap((kind) => formats.map((format) => [`columns.${kind}.${format}`, emitReduceColumns(kind, format)])),
) as Record<`columns.${ColumnKind}.${FloatKind}`, Emit>;

/** Each emits the export of its name, (task, args, scratch). */
const emitters = {
  gemm: emitGemm,
  attention: emitAttention,
  gemv: emitGemv,
  map: emitMap,
  softmax: emitSoftmax,
  norm: emitNorm,
  rope: emitRope,
  qkNormRope: emitQkNormRope,
  groupNorm: emitGroupNorm,
  ...rowReductions,
  ...columnReductions,
  scan: emitScan,
  "gather.2": emitGather(2),
  "gather.4": emitGather(4),
  "scatter.put.2": emitScatter("put.2"),
  "scatter.put.4": emitScatter("put.4"),
  "scatter.add.f32": emitScatter("add.f32"),
  "scatter.add.i32": emitScatter("add.i32"),
  indexAdd: emitIndexAdd,
  "nearest.2": emitNearest(2),
  "nearest.4": emitNearest(4),
  bilinear: emitBilinear,
  "windows.0": emitWindows(0),
  "windows.1": emitWindows(1),
  "windows.2": emitWindows(2),
  weighRows: emitWeighRows,
  "gridSample.2": emitGridSample(2),
  "gridSample.4": emitGridSample(4),
  move: emitMove,
  select: emitSelect,
} satisfies Record<string, Emit>;

export type KernelName = keyof typeof emitters;
/** All kernels; workers know them by their place here. */
export const kernelNames = Object.keys(emitters) as readonly KernelName[];

/** The kernel whose exports another one's module imports. */
export const builtOn: Readonly<Partial<Record<KernelName, KernelName>>> = { attention: "gemm" };

/** Binary of a kernel's module. */
export function kernelModule(name: KernelName, flavour: Flavour): Uint8Array<ArrayBuffer> {
  const module = new Module(flavour.shared);
  emitters[name](module, flavour);
  return module.build();
}
