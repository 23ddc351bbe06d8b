// Host values to little-endian bytes of a dtype, and back: the two edges where numbers enter and leave.
import { checkDType, type DType, type PlainDType } from "./dtype.ts";
import { decodeFloats, encodeFloats, type NarrowFloat } from "./dtype-convert.ts";
import { DTypeError, ShapeError } from "./errors.ts";
import { formatShape, type Shape, sameShape, sizeOf } from "./shape.ts";

/** Numbers, or lists of such lists, all of one length at each depth. */
export type NumberList = readonly number[] | readonly NumberList[];

/** What `device.tensor` takes: one number, lists of numbers, or a typed array. */
export type NumberData = number | NumberList | FlatNumbers;

/** Numbers in one row. */
export type FlatNumbers =
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

function naturalDType(data: FlatNumbers): PlainDType {
  if (data instanceof BigInt64Array) return "i64";
  if (data instanceof Uint8Array) return "u8";
  if (data instanceof Uint32Array || data instanceof Uint16Array) return "u32";
  if (data instanceof Int32Array || data instanceof Int16Array || data instanceof Int8Array) return "i32";
  return "f32";
}

/** Encodes `data` as `dtype` (default: its own kind; lists and Float64Array give f32); `shape` is that of the lists, [n] for one row. */
export function encodeValues(data: NumberData, dtype?: PlainDType): { bytes: Uint8Array; dtype: PlainDType; shape: Shape } {
  if (dtype !== undefined) checkDType("tensor", dtype);
  const shape = shapeOfLists(data);
  const flat = (shape.length === 1 ? data : ([data] as unknown[]).flat(Infinity)) as FlatNumbers;
  const to = dtype ?? naturalDType(flat);
  return { bytes: encodeAs(flat, to), dtype: to, shape };
}

/** [] for a number, [n] for one row, [m, n] for m lists of n. Throws ShapeError for lists of different lengths. */
function shapeOfLists(data: NumberData): Shape {
  if (!Array.isArray(data)) return typeof data === "number" ? [] : [(data as FlatNumbers).length];
  const [first] = data as readonly NumberData[];
  if (!Array.isArray(first)) return [data.length];
  const inner = shapeOfLists(first);
  for (const [i, list] of data.entries()) {
    const other = shapeOfLists(list);
    if (!sameShape(inner, other))
      throw new ShapeError("tensor", `lists differ in shape: the first is ${formatShape(inner)}, number ${i} is ${formatShape(other)}`);
  }
  return [data.length, ...inner];
}

function encodeAs(data: FlatNumbers, dtype: PlainDType): Uint8Array {
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

/** Row-major `values` as nested lists. */
export function nestedList(values: HostArray, [count, ...inner]: Shape): number | NumberList {
  if (count === undefined) return Number(values[0]);
  const step = sizeOf(inner);
  return Array.from({ length: count }, (_, i) => nestedList(values.subarray(i * step, (i + 1) * step), inner)) as NumberList;
}

/** Bytes of `dtype` as host numbers; quantized bytes have no host form (dequantize first). Throws DTypeError for quantized formats. */
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
