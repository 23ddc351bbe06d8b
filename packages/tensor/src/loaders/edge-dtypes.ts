// Element formats that files know and tensors do not: how each becomes one of ours while it streams.
// f64 rounds to f32, i8 and i16 widen to i32, u16 to u32, bool becomes u8 of 0 and 1, u64 must fit i64, f8e8m0 is a power of two in f32.
import { type DType, dtypeInfo } from "../dtype.ts";
import { FormatError } from "../errors.ts";

/** One element format of a file. */
export interface StoredFormat {
  /** What the stream yields. */
  readonly dtype: DType;
  /** Bytes of one element (or block) in the file. */
  readonly unitBytes: number;
  /** Turns whole units of the file into bytes of `dtype`; absent when they are the same. */
  readonly convert?: (bytes: Uint8Array) => Uint8Array;
}

const same = (dtype: DType): StoredFormat => ({ dtype, unitBytes: dtypeInfo[dtype].blockBytes });

type Widened = Float32Array | Int32Array | Uint32Array | Uint8Array;

/** Converts element by element through `read`, which gets a view, a byte offset and nothing else. */
const each =
  (dtype: DType, unitBytes: number, make: (n: number) => Widened, read: (view: DataView, at: number) => number): StoredFormat["convert"] =>
  (bytes) => {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const out = make(bytes.length / unitBytes);
    for (let i = 0; i < out.length; i++) out[i] = read(view, i * unitBytes);
    return new Uint8Array(out.buffer, 0, out.length * dtypeInfo[dtype].blockBytes);
  };

const converted = (
  dtype: DType,
  unitBytes: number,
  make: (n: number) => Widened,
  read: (view: DataView, at: number) => number,
): StoredFormat => ({
  dtype,
  unitBytes,
  convert: each(dtype, unitBytes, make, read)!,
});

const floats = (n: number): Float32Array => new Float32Array(n);
const ints = (n: number): Int32Array => new Int32Array(n);

function checkedU64(bytes: Uint8Array): Uint8Array {
  for (let i = 7; i < bytes.length; i += 8) {
    if (bytes[i]! & 0x80) throw new FormatError("stream", `a u64 value is too large for i64: element ${(i - 7) / 8} of the piece`);
  }
  return bytes;
}

function checkedBool(bytes: Uint8Array): Uint8Array {
  const bad = bytes.findIndex((b) => b > 1);
  if (bad >= 0) throw new FormatError("stream", `a bool is neither 0 nor 1: byte ${bytes[bad]} at element ${bad} of the piece`);
  return bytes;
}

/** By a neutral name that the formats map their own words to. */
export const storedFormats = {
  f32: same("f32"),
  f16: same("f16"),
  bf16: same("bf16"),
  f8e4m3: same("f8e4m3"),
  f8e5m2: same("f8e5m2"),
  i64: same("i64"),
  i32: same("i32"),
  u32: same("u32"),
  u8: same("u8"),
  f64: converted("f32", 8, floats, (v, at) => v.getFloat64(at, true)),
  f8e8m0: converted("f32", 1, floats, (v, at) => (v.getUint8(at) === 255 ? Number.NaN : 2 ** (v.getUint8(at) - 127))),
  i16: converted("i32", 2, ints, (v, at) => v.getInt16(at, true)),
  i8: converted("i32", 1, ints, (v, at) => v.getInt8(at)),
  u16: converted(
    "u32",
    2,
    (n) => new Uint32Array(n),
    (v, at) => v.getUint16(at, true),
  ),
  u64: { dtype: "i64", unitBytes: 8, convert: checkedU64 },
  bool: { dtype: "u8", unitBytes: 1, convert: checkedBool },
} as const satisfies Record<string, StoredFormat>;
