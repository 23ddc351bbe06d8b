// What the elements of a tensor are: plain number formats and block-quantized formats (GGUF layouts), as one closed union.
import { DTypeError } from "./errors.ts";

/** Formats with one value per element. */
export type PlainDType = "f32" | "f16" | "bf16" | "f8e4m3" | "f8e5m2" | "i64" | "i32" | "u32" | "u8";
/** GGUF block formats: a row is a sequence of blocks, rows are the last dimension. */
export type QuantDType = "q4_0" | "q4_1" | "q5_0" | "q5_1" | "q8_0" | "q2_K" | "q3_K" | "q4_K" | "q5_K" | "q6_K" | "iq4_nl" | "iq4_xs";
/** All formats a tensor may be stored in. */
export type DType = PlainDType | QuantDType;

interface DTypeInfo {
  /** Values per block (1 for plain formats). */
  readonly blockSize: number;
  /** Bytes per block. */
  readonly blockBytes: number;
  readonly kind: "float" | "int" | "quant";
}

const plain = (bytes: number, kind: "float" | "int"): DTypeInfo => ({ blockSize: 1, blockBytes: bytes, kind });
const quant = (blockSize: number, blockBytes: number): DTypeInfo => ({ blockSize, blockBytes, kind: "quant" });

/** Block sizes and bytes are ggml's (ggml-common.h); see `loaders/gguf.ts` for the type numbers. */
export const dtypeInfo: Readonly<Record<DType, DTypeInfo>> = {
  f32: plain(4, "float"),
  f16: plain(2, "float"),
  bf16: plain(2, "float"),
  f8e4m3: plain(1, "float"),
  f8e5m2: plain(1, "float"),
  i64: plain(8, "int"),
  i32: plain(4, "int"),
  u32: plain(4, "int"),
  u8: plain(1, "int"),
  q4_0: quant(32, 18),
  q4_1: quant(32, 20),
  q5_0: quant(32, 22),
  q5_1: quant(32, 24),
  q8_0: quant(32, 34),
  q2_K: quant(256, 84),
  q3_K: quant(256, 110),
  q4_K: quant(256, 144),
  q5_K: quant(256, 176),
  q6_K: quant(256, 210),
  iq4_nl: quant(32, 18),
  iq4_xs: quant(256, 136),
};

/** What PyTorch calls formats that have a shorter name here. */
const torchNames: Readonly<Record<string, DType>> = {
  float32: "f32",
  float: "f32",
  float16: "f16",
  half: "f16",
  bfloat16: "bf16",
  float8_e4m3fn: "f8e4m3",
  float8_e5m2: "f8e5m2",
  int64: "i64",
  long: "i64",
  int32: "i32",
  int: "i32",
  uint8: "u8",
  bool: "u8",
};

/** Throws DTypeError for a name that is no dtype: programs without types pass what PyTorch calls them. */
export function checkDType(op: string, dtype: string): void {
  if (Object.hasOwn(dtypeInfo, dtype)) return;
  const meant = Object.hasOwn(torchNames, dtype) ? `write ${torchNames[dtype]}` : `known are ${Object.keys(dtypeInfo).join(", ")}`;
  throw new DTypeError(op, `unknown dtype ${dtype}; ${meant}`);
}

/** True for plain floating-point formats, f8 included. */
export const isFloat = (d: DType): d is "f32" | "f16" | "bf16" | "f8e4m3" | "f8e5m2" => dtypeInfo[d].kind === "float";
/** True for whole numbers. */
export const isInt = (d: DType): d is "i64" | "i32" | "u32" | "u8" => dtypeInfo[d].kind === "int";
/** True for block formats. */
export const isQuantized = (d: DType): d is QuantDType => dtypeInfo[d].kind === "quant";

/** Block formats whose encoders search the scales of sub-blocks: ten times as slow to make as the others, which keep up with a fast disk. */
export const isSearched = (d: DType): boolean => isQuantized(d) && (d.endsWith("_K") || d.startsWith("iq4"));

/** Bytes that `count` values of `dtype` take; `count` must be whole blocks. */
export function bytesOf(dtype: DType, count: number): number {
  const { blockSize, blockBytes } = dtypeInfo[dtype];
  return (count / blockSize) * blockBytes;
}

/**
 * The dtype of an elementwise result, by PyTorch's promotion rules restricted to our dtypes
 * (torch.promote_types): float beats int, f16 with bf16 gives f32, u8 with i32 gives i32, u32 with i32 gives i32.
 */
export function promote(a: DType, b: DType): DType {
  if (a === b) return a;
  if (isFloat(a) && isFloat(b)) return "f32";
  if (isFloat(a)) return a;
  if (isFloat(b)) return b;
  const order: DType[] = ["u8", "u32", "i32", "i64"];
  return order.indexOf(a) > order.indexOf(b) ? a : b;
}
