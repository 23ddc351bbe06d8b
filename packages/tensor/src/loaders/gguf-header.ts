// The bytes of a GGUF version 3 header: typed key-values and tensor descriptions (ggml docs/gguf.md).
import { FormatError } from "../errors.ts";
import { type GgufTensorDescription, type GgufTypedArray, ggufValueTypes } from "./gguf-types.ts";

type ScalarType = Exclude<keyof typeof ggufValueTypes, "array">;
type GgufScalar = string | number | bigint | boolean;

/** A value with its type spelled out. */
export interface TypedGgufValue {
  /** Of the value, or of each element of a list. */
  readonly type: ScalarType;
  /** One value or a list. */
  readonly value: GgufScalar | readonly GgufScalar[];
}

/**
 * Key-values to write. Plain values get a type by their kind: text, truth, whole numbers u32 (i64 when negative or larger), other numbers f32,
 * bigints i64; typed arrays keep theirs; lists take the type of their first element.
 */
export type GgufMetadata = Readonly<Record<string, GgufScalar | readonly GgufScalar[] | GgufTypedArray | TypedGgufValue>>;
const arrayTypes: readonly (readonly [new (n: number) => GgufTypedArray, ScalarType])[] = [
  [Uint8Array, "u8"],
  [Int8Array, "i8"],
  [Uint16Array, "u16"],
  [Int16Array, "i16"],
  [Uint32Array, "u32"],
  [Int32Array, "i32"],
  [Float32Array, "f32"],
  [Float64Array, "f64"],
  [BigInt64Array, "i64"],
  [BigUint64Array, "u64"],
];

/** Magic, counts, key-values and tensor descriptions; the caller pads to the alignment. Throws FormatError for values without a GGUF type. */
export function encodeGgufHeader(op: string, tensors: readonly GgufTensorDescription[], metadata: GgufMetadata): Uint8Array {
  const out = new ByteWriter();
  const keys = Object.entries(metadata);
  out.u32(0x46554747).u32(3).u64(tensors.length).u64(keys.length);
  for (const [key, value] of keys) {
    out.text(key);
    writeValue(op, out, key, value);
  }
  for (const t of tensors) {
    out.text(t.name).u32(t.shape.length);
    for (const d of [...t.shape].reverse()) out.u64(d);
    out.u32(t.type).u64(t.offset);
  }
  return out.bytes();
}

function writeValue(op: string, out: ByteWriter, key: string, value: GgufMetadata[string]): void {
  const { type, items, list } = typed(op, key, value);
  if (list) out.u32(ggufValueTypes.array).u32(ggufValueTypes[type]).u64(items.length);
  else out.u32(ggufValueTypes[type]);
  for (const item of items) writeScalar(op, out, key, type, item);
}

function typed(op: string, key: string, value: GgufMetadata[string]): { type: ScalarType; items: readonly GgufScalar[]; list: boolean } {
  if (ArrayBuffer.isView(value)) {
    const [, type] = arrayTypes.find(([kind]) => value instanceof kind)!;
    return { type, items: Array.from(value as Iterable<GgufScalar>), list: true };
  }
  if (Array.isArray(value))
    return { type: inferred(op, key, value[0] as GgufScalar | undefined), items: value as GgufScalar[], list: true };
  if (typeof value !== "object") return { type: inferred(op, key, value as GgufScalar), items: [value as GgufScalar], list: false };
  const given = value as TypedGgufValue;
  const list = Array.isArray(given.value);
  return { type: given.type, items: list ? (given.value as GgufScalar[]) : [given.value as GgufScalar], list };
}

function inferred(op: string, key: string, value: GgufScalar | undefined): ScalarType {
  if (typeof value === "string") return "string";
  if (typeof value === "boolean") return "bool";
  if (typeof value === "bigint") return "i64";
  if (value === undefined) throw new FormatError(op, `an empty list has no type: ${key}; give { type, value }`);
  if (!Number.isInteger(value)) return "f32";
  return value >= 0 && value < 2 ** 32 ? "u32" : "i64";
}

function writeScalar(op: string, out: ByteWriter, key: string, type: ScalarType, value: GgufScalar): void {
  if (type === "string") {
    if (typeof value !== "string") throw new FormatError(op, `not text: ${key}`);
    out.text(value);
    return;
  }
  if (type === "bool") {
    out.number(1, (v) => v.setUint8(0, value ? 1 : 0));
    return;
  }
  if (typeof value !== "number" && typeof value !== "bigint") throw new FormatError(op, `not a number for ${type}: ${key}`);
  writeNumber(out, type, value);
}

function writeNumber(out: ByteWriter, type: ScalarType, value: number | bigint): void {
  const n = Number(value);
  if (type === "f32") out.number(4, (v) => v.setFloat32(0, n, true));
  else if (type === "f64") out.number(8, (v) => v.setFloat64(0, n, true));
  else if (type === "u64" || type === "i64") out.number(8, (v) => v.setBigInt64(0, BigInt.asIntN(64, BigInt(value)), true));
  else if (type === "u32" || type === "i32") out.number(4, (v) => v.setInt32(0, n | 0, true));
  else if (type === "u16" || type === "i16") out.number(2, (v) => v.setInt16(0, n, true));
  else out.number(1, (v) => v.setInt8(0, n));
}

class ByteWriter {
  private readonly parts: Uint8Array[] = [];

  number(bytes: number, set: (view: DataView) => void): this {
    const part = new Uint8Array(bytes);
    set(new DataView(part.buffer));
    this.parts.push(part);
    return this;
  }

  u32(value: number): this {
    return this.number(4, (v) => v.setUint32(0, value, true));
  }

  u64(value: number): this {
    return this.number(8, (v) => v.setBigUint64(0, BigInt(value), true));
  }

  text(value: string): this {
    const bytes = new TextEncoder().encode(value);
    this.u64(bytes.length);
    this.parts.push(bytes);
    return this;
  }

  bytes(): Uint8Array {
    const out = new Uint8Array(this.parts.reduce((n, p) => n + p.length, 0));
    let at = 0;
    for (const part of this.parts) {
      out.set(part, at);
      at += part.length;
    }
    return out;
  }
}
