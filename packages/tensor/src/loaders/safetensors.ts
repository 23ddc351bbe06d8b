// safetensors: eight bytes of header length, a JSON header, then the tensors' bytes back to back. Also sharded by an index file.
// Format: huggingface/safetensors, README.md and safetensors/src/tensor.rs (whose limits and checks are kept).
import { FormatError, TensorError } from "../errors.ts";
import type { Shape } from "../shape.ts";
import { type StoredFormat, storedFormats } from "./edge-dtypes.ts";
import { repeatedKey } from "./json-keys.ts";
import type { ByteSource } from "./source.ts";
import { type StoredTensor, storedTensor, storedWeights } from "./stored-weights.ts";
import type { WeightSource } from "./weight-source.ts";

const OP = "openSafetensors";
/** The reference implementation's limit. */
const MAX_HEADER_BYTES = 100_000_000;

const formats: Readonly<Record<string, StoredFormat>> = {
  F64: storedFormats.f64,
  F32: storedFormats.f32,
  F16: storedFormats.f16,
  BF16: storedFormats.bf16,
  F8_E4M3: storedFormats.f8e4m3,
  F8_E5M2: storedFormats.f8e5m2,
  F8_E8M0: storedFormats.f8e8m0,
  I64: storedFormats.i64,
  U64: storedFormats.u64,
  I32: storedFormats.i32,
  U32: storedFormats.u32,
  I16: storedFormats.i16,
  U16: storedFormats.u16,
  I8: storedFormats.i8,
  U8: storedFormats.u8,
  BOOL: storedFormats.bool,
};

interface HeaderEntry {
  readonly dtype: string;
  readonly shape: Shape;
  readonly data_offsets: readonly [number, number];
}

interface Header {
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  readonly metadata: ReadonlyMap<string, string>;
}

/** True if the first bytes of a file can be those of a safetensors file. */
export function looksLikeSafetensors(first: Uint8Array): boolean {
  return first.length >= 9 && first[8] === 0x7b && first[4] === 0 && first[5] === 0 && first[6] === 0 && first[7] === 0;
}

/**
 * Opens one safetensors file, or several that together are one checkpoint (shards): headers only, tensors stream later.
 * Throws FormatError naming the file for anything malformed, for a name that two files hold, and for a list that lacks one of the shards its names
 * count ("…-00001-of-00003.safetensors"). Takes over the sources: `close` closes them.
 */
export async function openSafetensors(
  files: ByteSource | readonly ByteSource[],
  options: { signal?: AbortSignal } = {},
): Promise<WeightSource> {
  const sources = "read" in files ? [files] : files;
  const tensors = new Map<string, StoredTensor>();
  const metadata = new Map<string, string>();
  try {
    if (sources === files) checkShards(sources);
    for (const source of sources) {
      const header = await readHeader(source, options.signal);
      for (const [name, tensor] of header.tensors) addOnce(tensors, name, tensor);
      for (const [key, value] of header.metadata) metadata.set(key, value);
    }
  } catch (error) {
    for (const source of sources) await source.close();
    throw error;
  }
  return storedWeights(tensors, metadata, sources);
}

/** A download that stopped leaves some shards: without this, their weights would be missing one by one. */
function checkShards(sources: readonly ByteSource[]): void {
  const names = new Set(sources.map((source) => source.name));
  for (const { name } of sources) {
    const [, stem, , total] = /^(.*-)(\d{5})-of-(\d{5})\.safetensors$/.exec(name) ?? [];
    if (total === undefined) continue;
    const shard = (i: number): string => `${stem}${String(i + 1).padStart(5, "0")}-of-${total}.safetensors`;
    // A hostile name may count to 99,999; the first that is missing says enough.
    for (let i = 0; i < Number(total); i++)
      if (!names.has(shard(i)))
        throw new FormatError(OP, `a shard is missing: ${shard(i)}, beside ${name}; download the rest of the checkpoint`);
  }
}

function addOnce(tensors: Map<string, StoredTensor>, name: string, tensor: StoredTensor): void {
  const other = tensors.get(name);
  if (other) throw new FormatError(OP, `two files hold a tensor of the same name: ${name} in ${other.file} and ${tensor.file}`);
  tensors.set(name, tensor);
}

async function readHeader(source: ByteSource, signal?: AbortSignal): Promise<Header> {
  if (source.sizeBytes < 8) throw new FormatError(OP, `too short for a safetensors file: ${source.name} (${source.sizeBytes} bytes)`);
  const prefix = await source.read(0, 8, signal);
  const headerBytes = Number(new DataView(prefix.buffer, prefix.byteOffset, 8).getBigUint64(0, true));
  if (headerBytes > MAX_HEADER_BYTES || headerBytes > source.sizeBytes - 8) {
    const detail = `header length ${headerBytes} does not fit: ${source.name} (${source.sizeBytes} bytes)`;
    throw new FormatError(OP, `${detail}; the file is truncated or is not safetensors`);
  }
  const header = parseHeader(source, await source.read(8, headerBytes, signal));
  return checkHeader(source, header, 8 + headerBytes);
}

function parseHeader(source: ByteSource, bytes: Uint8Array): Record<string, unknown> {
  let header: unknown;
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    header = JSON.parse(text);
  } catch (cause) {
    throw new FormatError(OP, `the header is not JSON: ${source.name}`, { cause });
  }
  if (typeof header !== "object" || header === null || Array.isArray(header)) {
    throw new FormatError(OP, `the header is not a JSON object: ${source.name}`);
  }
  const repeated = repeatedKey(text);
  if (repeated !== undefined) throw new FormatError(OP, `the header names a tensor twice: ${repeated} in ${source.name}`);
  return header as Record<string, unknown>;
}

function checkHeader(source: ByteSource, header: Record<string, unknown>, dataStart: number): Header {
  const tensors: StoredTensor[] = [];
  let metadata: ReadonlyMap<string, string> = new Map();
  for (const [name, value] of Object.entries(header)) {
    if (name === "__metadata__") metadata = checkMetadata(source, value);
    else tensors.push(checkTensor(source, name, value, dataStart));
  }
  checkCoverage(source, tensors, dataStart);
  return { tensors: new Map(tensors.map((t) => [t.name, t])), metadata };
}

function checkMetadata(source: ByteSource, value: unknown): ReadonlyMap<string, string> {
  const entries = typeof value === "object" && value !== null ? Object.entries(value) : [["", undefined] as const];
  for (const [key, text] of entries) {
    if (typeof text !== "string") throw new FormatError(OP, `__metadata__ must map names to strings: "${key}" in ${source.name}`);
  }
  return new Map(entries as [string, string][]);
}

const isRange = (v: unknown): v is readonly [number, number] =>
  Array.isArray(v) && v.length === 2 && v.every((n) => Number.isSafeInteger(n) && n >= 0) && v[0] <= v[1];

function checkTensor(source: ByteSource, name: string, value: unknown, dataStart: number): StoredTensor {
  const { dtype, shape, data_offsets: range } = (value ?? {}) as Partial<HeaderEntry>;
  const where = `${name} in ${source.name}`;
  if (typeof dtype !== "string" || !Array.isArray(shape) || !isRange(range)) {
    throw new FormatError(OP, `a tensor needs dtype, shape and data_offsets [begin, end]: ${where}`);
  }
  const format = Object.hasOwn(formats, dtype) ? formats[dtype] : undefined;
  if (!format) throw new FormatError(OP, `unknown dtype ${dtype}: ${where}; known are ${Object.keys(formats).join(", ")}`);
  const tensor = storedTensor(OP, { name, shape, storedDtype: dtype, format, source, offset: dataStart + range[0] });
  if (tensor.storedBytes !== range[1] - range[0]) {
    throw new FormatError(
      OP,
      `${dtype} [${shape.join(", ")}] takes ${tensor.storedBytes} bytes, data_offsets give ${range[1] - range[0]}: ${where}`,
    );
  }
  return tensor;
}

/** Tensors must cover the data exactly: no overlap, no gap, no bytes left over or missing. */
function checkCoverage(source: ByteSource, tensors: readonly StoredTensor[], dataStart: number): void {
  let at = dataStart;
  let before = "the header";
  for (const t of [...tensors].sort((a, b) => a.offset - b.offset || a.storedBytes - b.storedBytes)) {
    if (t.offset < at) throw new FormatError(OP, `tensors overlap: ${before} and ${t.name} in ${source.name}`);
    if (t.offset > at)
      throw new FormatError(OP, `${t.offset - at} bytes between ${before} and ${t.name} belong to no tensor: ${source.name}`);
    at += t.storedBytes;
    before = t.name;
  }
  if (at > source.sizeBytes) {
    throw new FormatError(OP, `truncated: ${source.name} has ${source.sizeBytes} bytes, its tensors end at ${at}; download it again`);
  }
  if (at < source.sizeBytes)
    throw new FormatError(OP, `${source.sizeBytes - at} bytes after the last tensor belong to none: ${source.name}`);
}

/** Reads `*.safetensors.index.json`: which file holds which tensor. Throws FormatError on anything but plain file names. */
export async function readShardIndex(index: ByteSource, signal?: AbortSignal): Promise<ReadonlyMap<string, string>> {
  if (index.sizeBytes > MAX_HEADER_BYTES)
    throw new FormatError("readShardIndex", `too large for an index: ${index.name} (${index.sizeBytes} bytes)`);
  const map = parseIndex(index, await index.read(0, index.sizeBytes, signal));
  for (const [name, file] of Object.entries(map)) {
    if (typeof file !== "string" || !/^[^/\\:\0]+\.safetensors$/.test(file) || file.startsWith("..")) {
      throw new FormatError("readShardIndex", `not a plain file name: ${JSON.stringify(file)} for ${name} in ${index.name}`);
    }
  }
  return new Map(Object.entries(map as Record<string, string>));
}

function parseIndex(index: ByteSource, bytes: Uint8Array): object {
  try {
    const parsed = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)) as { weight_map?: unknown } | null;
    const map = parsed?.weight_map;
    if (typeof map === "object" && map !== null && !Array.isArray(map)) return map;
  } catch (cause) {
    throw new FormatError("readShardIndex", `not JSON: ${index.name}`, { cause });
  }
  throw new FormatError("readShardIndex", `has no weight_map: ${index.name}`);
}

/**
 * Opens a sharded checkpoint by its index; `openFile` gets each shard's plain file name. Throws FormatError, naming up to five tensors,
 * when a shard lacks a tensor that the index promises.
 */
export async function openSafetensorsIndex(
  index: ByteSource,
  openFile: (file: string) => Promise<ByteSource>,
  options: { signal?: AbortSignal } = {},
): Promise<WeightSource> {
  const map = await readShardIndex(index, options.signal);
  const shards = new Map<string, ByteSource>();
  try {
    for (const file of new Set(map.values())) shards.set(file, await openFile(file));
  } catch (cause) {
    for (const source of shards.values()) await source.close();
    if (cause instanceof TensorError) throw cause;
    throw new FormatError("openSafetensorsIndex", `cannot open a shard of ${index.name}`, { cause });
  }
  const weights = await openSafetensors([...shards.values()], options);
  const missing = [...map].filter(([name, file]) => weights.entries.get(name)?.file !== shards.get(file)?.name);
  if (missing.length === 0) return weights;
  await weights.close();
  const list = missing.slice(0, 5).map(([name, file]) => `${name} (${file})`);
  throw new FormatError("openSafetensorsIndex", `${missing.length} tensors of ${index.name} are not in their shard: ${list.join(", ")}`);
}
