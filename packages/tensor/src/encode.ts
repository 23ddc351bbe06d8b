// Host values to little-endian bytes of a dtype, and back: the two edges where numbers enter and leave.
import type { DType, PlainDType } from "./dtype.ts";
import { decodeFloats, encodeFloats, type NarrowFloat } from "./dtype-convert.ts";
import { DTypeError, ShapeError } from "./errors.ts";

/** What `device.tensor` takes. Nested arrays are not flattened: pass a shape. */
export type NumberData =
  | readonly number[]
  | Float32Array
  | Float64Array
  | Int8Array
  | Int16Array
  | Int32Array
  | Uint8Array
  | Uint16Array
  | Uint32Array
  | BigInt64Array;

/** What `toArray` gives: floats as f32, integers in their own width. */
export type HostArray = Float32Array | Int32Array | Uint32Array | Uint8Array | BigInt64Array;

const bytesView = (a: ArrayBufferView): Uint8Array => new Uint8Array(a.buffer, a.byteOffset, a.byteLength);

function naturalDType(data: NumberData): PlainDType {
  if (data instanceof BigInt64Array) return "i64";
  if (data instanceof Uint8Array) return "u8";
  if (data instanceof Uint32Array || data instanceof Uint16Array) return "u32";
  if (data instanceof Int32Array || data instanceof Int16Array || data instanceof Int8Array) return "i32";
  return "f32";
}

/** Encodes `data` as `dtype` (default: its own kind; number[] and Float64Array give f32). */
export function encodeValues(data: NumberData, dtype?: PlainDType): { bytes: Uint8Array; dtype: PlainDType; count: number } {
  if (Array.isArray((data as readonly unknown[])[0]))
    throw new ShapeError("tensor", "nested arrays are not flattened: pass the values in one list, and the shape after them");
  const to = dtype ?? naturalDType(data);
  return { bytes: encodeAs(data, to), dtype: to, count: data.length };
}

function encodeAs(data: NumberData, dtype: PlainDType): Uint8Array {
  if (data instanceof BigInt64Array) {
    if (dtype === "i64") return bytesView(data);
    return encodeAs(Float64Array.from(data, Number), dtype);
  }
  switch (dtype) {
    case "f32":
      return bytesView(data instanceof Float32Array ? data : Float32Array.from(data));
    case "i32":
      return bytesView(data instanceof Int32Array ? data : Int32Array.from(data));
    case "u32":
      return bytesView(data instanceof Uint32Array ? data : Uint32Array.from(data));
    case "u8":
      return data instanceof Uint8Array ? data : Uint8Array.from(data);
    case "i64":
      return bytesView(BigInt64Array.from(data as readonly number[], (v) => BigInt(Math.trunc(v))));
    default:
      return encodeNarrow(data instanceof Float32Array ? data : Float32Array.from(data), dtype);
  }
}

/** Bytes of `dtype` as host numbers; quantized bytes have no host form (dequantize first). */
export function decodeBytes(bytes: Uint8Array, dtype: DType): HostArray {
  const { buffer, byteOffset, byteLength } = byteOffsetAligned(bytes);
  switch (dtype) {
    case "f32":
      return new Float32Array(buffer, byteOffset, byteLength / 4);
    case "i32":
      return new Int32Array(buffer, byteOffset, byteLength / 4);
    case "u32":
      return new Uint32Array(buffer, byteOffset, byteLength / 4);
    case "u8":
      return bytes;
    case "i64":
      return new BigInt64Array(buffer, byteOffset, byteLength / 8);
    case "f16":
    case "bf16":
    case "f8e4m3":
    case "f8e5m2":
      return decodeNarrow(bytes, dtype);
    default:
      throw new DTypeError("toArray", `${dtype} is a block format; call dequantize() first`);
  }
}

const byteOffsetAligned = (bytes: Uint8Array): Uint8Array<ArrayBuffer> =>
  bytes.byteOffset % 8 === 0 ? (bytes as Uint8Array<ArrayBuffer>) : new Uint8Array(bytes);

const isByteWide = (dtype: NarrowFloat): boolean => dtype.startsWith("f8");

function encodeNarrow(values: Float32Array, dtype: NarrowFloat): Uint8Array {
  const bits = isByteWide(dtype) ? new Uint8Array(values.length) : new Uint16Array(values.length);
  encodeFloats(dtype, values, 0, bits, 0, values.length);
  return bytesView(bits);
}

function decodeNarrow(bytes: Uint8Array, dtype: NarrowFloat): Float32Array {
  const { buffer, byteOffset, byteLength } = byteOffsetAligned(bytes);
  const bits = isByteWide(dtype) ? new Uint8Array(buffer, byteOffset, byteLength) : new Uint16Array(buffer, byteOffset, byteLength >> 1);
  const out = new Float32Array(bits.length);
  decodeFloats(dtype, bits, 0, out, 0, out.length);
  return out;
}
