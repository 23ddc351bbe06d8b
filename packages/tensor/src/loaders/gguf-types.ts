// GGUF's numbers for element types and key-value types (ggml: include/ggml.h, include/gguf.h; gguf-py: gguf/constants.py).

import type { DType } from "../dtype.ts";
import { dtypeInfo } from "../dtype.ts";
import type { Shape } from "../shape.ts";
import { type StoredFormat, storedFormats } from "./edge-dtypes.ts";

interface GgmlType {
  readonly id: number;
  readonly name: string;
  readonly format: StoredFormat;
}

const block = (id: number, dtype: DType): GgmlType => ({
  id,
  name: dtype.toUpperCase(),
  format: { dtype, unitBytes: dtypeInfo[dtype].blockBytes },
});

/** Element types that tensors can have. */
const ggmlTypes: readonly GgmlType[] = [
  { id: 0, name: "F32", format: storedFormats.f32 },
  { id: 1, name: "F16", format: storedFormats.f16 },
  block(2, "q4_0"),
  block(3, "q4_1"),
  block(6, "q5_0"),
  block(7, "q5_1"),
  block(8, "q8_0"),
  block(10, "q2_K"),
  block(11, "q3_K"),
  block(12, "q4_K"),
  block(13, "q5_K"),
  block(14, "q6_K"),
  block(20, "iq4_nl"),
  block(23, "iq4_xs"),
  { id: 24, name: "I8", format: storedFormats.i8 },
  { id: 25, name: "I16", format: storedFormats.i16 },
  { id: 26, name: "I32", format: storedFormats.i32 },
  { id: 27, name: "I64", format: storedFormats.i64 },
  { id: 28, name: "F64", format: storedFormats.f64 },
  { id: 30, name: "BF16", format: storedFormats.bf16 },
];

/** Types that exist and are not supported, for the error. */
export const otherGgmlTypes: ReadonlyMap<number, string> = new Map([
  [9, "Q8_1"],
  [15, "Q8_K"],
  [16, "IQ2_XXS"],
  [17, "IQ2_XS"],
  [18, "IQ3_XXS"],
  [19, "IQ1_S"],
  [21, "IQ3_S"],
  [22, "IQ2_S"],
  [29, "IQ1_M"],
  [34, "TQ1_0"],
  [35, "TQ2_0"],
  [39, "MXFP4"],
  [40, "NVFP4"],
]);

/** Formats by their number in GGUF files. */
export const ggmlTypeById: ReadonlyMap<number, GgmlType> = new Map(ggmlTypes.map((t) => [t.id, t]));

/** The type that stores a dtype unchanged; none for formats GGUF lacks (f8, u8, u32). */
export const ggmlTypeOf = (dtype: DType): GgmlType | undefined =>
  ggmlTypes.find((t) => t.format.dtype === dtype && t.format.convert === undefined);

/** Types of key-value entries. */
export const ggufValueTypes = {
  u8: 0,
  i8: 1,
  u16: 2,
  i16: 3,
  u32: 4,
  i32: 5,
  f32: 6,
  bool: 7,
  string: 8,
  array: 9,
  u64: 10,
  i64: 11,
  f64: 12,
} as const;

/** Arrays of numbers in key-values. */
export type GgufTypedArray =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | Float64Array
  | BigInt64Array
  | BigUint64Array;

/** How the header describes a tensor: PyTorch's order of dimensions, ggml's number of the type, offset in bytes after the header. */
export interface GgufTensorDescription {
  readonly name: string;
  readonly shape: Shape;
  readonly type: number;
  readonly offset: number;
}
