// GGUF versions 2 and 3: typed key-values, tensor descriptions, then aligned tensor bytes. Types are decided tensor by tensor.
// Format: ggml docs/gguf.md. Dimensions are stored innermost first and are reversed here to PyTorch's order.
import { FormatError } from "../errors.ts";
import { type GgufTensorDescription, type GgufTypedArray, ggmlTypeById, ggufValueTypes, otherGgmlTypes } from "./gguf-types.ts";
import { HeaderReader } from "./header-reader.ts";
import type { ByteSource } from "./source.ts";
import { type StoredTensor, storedTensor, storedWeights } from "./stored-weights.ts";
import type { WeightSource } from "./weight-source.ts";

const OP = "openGguf";
const MAGIC = 0x46554747;
/** More than any real file by orders of magnitude; a larger count is a broken or hostile header. */
const MAX_TENSORS = 1_000_000;
const MAX_KEY_VALUES = 1_000_000;
const MAX_NAME_BYTES = 65_535;
const MAX_STRING_BYTES = 64 * 1024 * 1024;
const MAX_ARRAY_LENGTH = 50_000_000;
const MAX_HEADER_BYTES = 512 * 1024 * 1024;
const MAX_DIMENSIONS = 8;
const MAX_ARRAY_DEPTH = 4;

/** A value of a key: numbers, text, truth, i64 and u64 as bigint, numeric arrays as typed arrays. */
export type GgufValue = number | bigint | boolean | string | readonly GgufValue[] | GgufTypedArray;
/** True if the first bytes of a file are those of GGUF. */
export const looksLikeGguf = (first: Uint8Array): boolean =>
  first.length >= 4 && first[0] === 0x47 && first[1] === 0x47 && first[2] === 0x55 && first[3] === 0x46;

/**
 * Opens a GGUF file: header only, tensors stream later in their stored type. Throws FormatError for anything malformed,
 * for big-endian files and for element types outside of `DType`. Takes over the source.
 */
export async function openGguf(source: ByteSource, options: { signal?: AbortSignal } = {}): Promise<WeightSource> {
  try {
    const { tensors, metadata } = await readHeader(source, options.signal);
    return storedWeights(tensors, metadata, [source]);
  } catch (error) {
    await source.close();
    throw error;
  }
}

async function readHeader(source: ByteSource, signal?: AbortSignal) {
  const reader = new HeaderReader(OP, source, signal);
  await readVersion(reader, source);
  const tensorCount = await count(reader, source, "tensor count", MAX_TENSORS);
  const keyCount = await count(reader, source, "key-value count", MAX_KEY_VALUES);
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < keyCount; i++) await readKeyValue(reader, source, metadata);
  const descriptions: GgufTensorDescription[] = [];
  for (let i = 0; i < tensorCount; i++) descriptions.push(await readDescription(reader, source));
  const alignment = alignmentOf(metadata, source);
  const dataStart = Math.ceil(reader.offset / alignment) * alignment;
  return { tensors: checkTensors(source, descriptions, dataStart, alignment), metadata };
}

async function readVersion(reader: HeaderReader, source: ByteSource): Promise<void> {
  if ((await reader.u32("the magic number")) !== MAGIC) throw new FormatError(OP, `not a GGUF file: ${source.name}`);
  const version = await reader.u32("the version");
  if (version === 2 || version === 3) return;
  if ((version & 0xffff) === 0) throw new FormatError(OP, `big-endian GGUF: ${source.name}; convert it to little-endian`);
  throw new FormatError(OP, `GGUF version ${version}: ${source.name}; versions 2 and 3 can be read`);
}

async function count(reader: HeaderReader, source: ByteSource, what: string, most: number): Promise<number> {
  const n = await reader.u64(what);
  if (n > most) throw new FormatError(OP, `${what} is absurd: ${n} (at most ${most}) in ${source.name}`);
  return n;
}

async function text(reader: HeaderReader, source: ByteSource, what: string, most: number): Promise<string> {
  const length = await count(reader, source, `length of ${what}`, most);
  await reader.need(length, what);
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(reader.take(length));
  } catch (cause) {
    throw new FormatError(OP, `${what} is not UTF-8: ${source.name}`, { cause });
  }
}

async function readKeyValue(reader: HeaderReader, source: ByteSource, into: Map<string, GgufValue>): Promise<void> {
  const key = await text(reader, source, "a key", MAX_NAME_BYTES);
  if (into.has(key)) throw new FormatError(OP, `a key occurs twice: ${key} in ${source.name}`);
  into.set(key, await readValue(reader, source, key, await reader.u32(`type of ${key}`), 0));
  if (reader.offset > MAX_HEADER_BYTES)
    throw new FormatError(OP, `the header is absurdly long (over ${MAX_HEADER_BYTES} bytes): ${source.name}`);
}

interface ScalarKind {
  readonly bytes: number;
  readonly read: (view: DataView, at: number) => number | bigint | boolean;
  readonly array?: (bytes: ArrayBuffer) => GgufTypedArray;
}

const T = ggufValueTypes;
const scalars: ReadonlyMap<number, ScalarKind> = new Map<number, ScalarKind>([
  [T.u8, { bytes: 1, read: (v, at) => v.getUint8(at), array: (b) => new Uint8Array(b) }],
  [T.i8, { bytes: 1, read: (v, at) => v.getInt8(at), array: (b) => new Int8Array(b) }],
  [T.u16, { bytes: 2, read: (v, at) => v.getUint16(at, true), array: (b) => new Uint16Array(b) }],
  [T.i16, { bytes: 2, read: (v, at) => v.getInt16(at, true), array: (b) => new Int16Array(b) }],
  [T.u32, { bytes: 4, read: (v, at) => v.getUint32(at, true), array: (b) => new Uint32Array(b) }],
  [T.i32, { bytes: 4, read: (v, at) => v.getInt32(at, true), array: (b) => new Int32Array(b) }],
  [T.f32, { bytes: 4, read: (v, at) => v.getFloat32(at, true), array: (b) => new Float32Array(b) }],
  [T.f64, { bytes: 8, read: (v, at) => v.getFloat64(at, true), array: (b) => new Float64Array(b) }],
  [T.u64, { bytes: 8, read: (v, at) => v.getBigUint64(at, true), array: (b) => new BigUint64Array(b) }],
  [T.i64, { bytes: 8, read: (v, at) => v.getBigInt64(at, true), array: (b) => new BigInt64Array(b) }],
  [T.bool, { bytes: 1, read: (v, at) => v.getUint8(at) !== 0 }],
]);

async function readValue(reader: HeaderReader, source: ByteSource, key: string, type: number, depth: number): Promise<GgufValue> {
  const scalar = scalars.get(type);
  if (scalar) {
    await reader.need(scalar.bytes, `value of ${key}`);
    return reader.number(scalar.bytes, scalar.read);
  }
  if (type === T.string) return text(reader, source, `value of ${key}`, MAX_STRING_BYTES);
  if (type === T.array && depth < MAX_ARRAY_DEPTH) return readArray(reader, source, key, depth);
  throw new FormatError(OP, `unknown value type ${type}: key ${key} in ${source.name}`);
}

async function readArray(reader: HeaderReader, source: ByteSource, key: string, depth: number): Promise<GgufValue> {
  const type = await reader.u32(`element type of ${key}`);
  const length = await count(reader, source, `length of ${key}`, MAX_ARRAY_LENGTH);
  const scalar = scalars.get(type);
  if (scalar) await reader.need(length * scalar.bytes, `value of ${key}`);
  if (scalar?.array) return scalar.array(Uint8Array.from(reader.take(length * scalar.bytes)).buffer);
  // A string takes at least the 8 bytes of its length, a nested array 12: so a count the file cannot hold fails before it costs memory.
  if (!scalar && length * 8 > source.sizeBytes - reader.offset)
    throw new FormatError(OP, `length of ${key} is absurd: ${length} in ${source.name}`);
  const out: GgufValue[] = [];
  for (let i = 0; i < length; i++) out.push(await readValue(reader, source, key, type, depth + 1));
  return out;
}

async function readDescription(reader: HeaderReader, source: ByteSource): Promise<GgufTensorDescription> {
  const name = await text(reader, source, "a tensor name", MAX_NAME_BYTES);
  const rank = await reader.u32(`rank of ${name}`);
  if (rank > MAX_DIMENSIONS) throw new FormatError(OP, `${rank} dimensions: ${name} in ${source.name}`);
  const shape: number[] = [];
  for (let i = 0; i < rank; i++) shape.unshift(await reader.u64(`a dimension of ${name}`));
  return { name, shape, type: await reader.u32(`type of ${name}`), offset: await reader.u64(`offset of ${name}`) };
}

function alignmentOf(metadata: ReadonlyMap<string, GgufValue>, source: ByteSource): number {
  const alignment = metadata.get("general.alignment") ?? 32;
  if (typeof alignment === "number" && alignment >= 1 && alignment <= 2 ** 20 && Number.isInteger(Math.log2(alignment))) return alignment;
  throw new FormatError(OP, `general.alignment must be a power of two: ${String(alignment)} in ${source.name}`);
}

function checkTensors(
  source: ByteSource,
  found: readonly GgufTensorDescription[],
  dataStart: number,
  alignment: number,
): Map<string, StoredTensor> {
  const tensors = new Map<string, StoredTensor>();
  for (const d of found) {
    const where = `${d.name} in ${source.name}`;
    if (tensors.has(d.name)) throw new FormatError(OP, `a tensor name occurs twice: ${where}`);
    if (d.offset % alignment !== 0) throw new FormatError(OP, `offset ${d.offset} is not aligned to ${alignment}: ${where}`);
    const type = ggmlTypeById.get(d.type);
    if (!type) {
      const name = otherGgmlTypes.get(d.type);
      throw new FormatError(
        OP,
        `${name ? `element type ${name} is not supported` : `unknown element type ${d.type}`}: ${where}; use another quantization`,
      );
    }
    const entry = { name: d.name, shape: d.shape, storedDtype: type.name, format: type.format, source, offset: dataStart + d.offset };
    tensors.set(d.name, storedTensor(OP, entry));
  }
  checkRanges(source, [...tensors.values()]);
  return tensors;
}

function checkRanges(source: ByteSource, tensors: readonly StoredTensor[]): void {
  let end = 0;
  let before = "";
  for (const t of [...tensors].sort((a, b) => a.offset - b.offset)) {
    if (t.offset < end) throw new FormatError(OP, `tensors overlap: ${before} and ${t.name} in ${source.name}`);
    end = t.offset + t.storedBytes;
    before = t.name;
    if (end > source.sizeBytes) {
      throw new FormatError(OP, `truncated: ${source.name} has ${source.sizeBytes} bytes, ${t.name} ends at ${end}; download it again`);
    }
  }
}
