// NumPy's .npy (one array) and .npz (a ZIP of them). Fortran order and big-endian numbers are turned around while streaming.
// Format: NEP 1, numpy/lib/format.py. Pickled objects, structures, complex numbers and text are refused.
import { dtypeInfo } from "../dtype.ts";
import { FormatError } from "../errors.ts";
import { rowMajor, type Shape } from "../shape.ts";
import { type StoredFormat, storedFormats } from "./edge-dtypes.ts";
import { type ByteSource, CHUNK_BYTES, memorySource } from "./source.ts";
import { type StoredTensor, storedTensor, streamStored } from "./stored-weights.ts";
import { gatherStrided } from "./strided.ts";
import { entryOf, type StreamOptions, type WeightSource } from "./weight-source.ts";
import { inflatedEntry, openZip, readEntry, storedEntry, type ZipArchive, type ZipEntry } from "./zip.ts";

const MAGIC = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59];
const MAX_HEADER_BYTES = 1 << 20;
/** A compressed array in Fortran order has to be in memory as a whole. */
const MAX_WHOLE_BYTES = 1 << 30;

const formats: Readonly<Record<string, StoredFormat>> = {
  f2: storedFormats.f16,
  f4: storedFormats.f32,
  f8: storedFormats.f64,
  i1: storedFormats.i8,
  i2: storedFormats.i16,
  i4: storedFormats.i32,
  i8: storedFormats.i64,
  u1: storedFormats.u8,
  u2: storedFormats.u16,
  u4: storedFormats.u32,
  u8: storedFormats.u64,
  b1: storedFormats.bool,
};

/** True if the first bytes of a file are those of .npy. */
export const looksLikeNpy = (first: Uint8Array): boolean => MAGIC.every((byte, i) => first[i] === byte);

interface NpyHeader {
  readonly shape: Shape;
  readonly format: StoredFormat;
  readonly descr: string;
  readonly fortran: boolean;
  /** Where the elements begin. */
  readonly dataOffset: number;
}

interface NpyTensor extends StoredTensor {
  readonly fortran: boolean;
  /** Set when the elements come out of a compressed ZIP entry. */
  readonly packed: { readonly zip: ZipArchive; readonly entry: ZipEntry } | undefined;
}

/** Opens a .npy file as a checkpoint of one tensor, called "arr_0" as NumPy would. Throws FormatError when malformed. Takes over the source. */
export async function openNpy(source: ByteSource, options: { signal?: AbortSignal } = {}): Promise<WeightSource> {
  try {
    const first = await source.read(0, Math.min(source.sizeBytes, MAX_HEADER_BYTES), options.signal);
    const header = parseHeader("openNpy", source.name, first);
    const tensor = describe("openNpy", "arr_0", header, source, source.sizeBytes, undefined);
    return npyWeights(new Map([["arr_0", tensor]]), source);
  } catch (error) {
    await source.close();
    throw error;
  }
}

/**
 * Opens a .npz file: headers only, arrays stream later (compressed ones are inflated on the way). Takes over the source.
 * Rejects with FormatError for a malformed archive.
 */
export async function openNpz(source: ByteSource, options: { signal?: AbortSignal } = {}): Promise<WeightSource> {
  try {
    const zip = await openZip("openNpz", source, options.signal);
    const tensors = new Map<string, NpyTensor>();
    for (const entry of zip.entries.values()) {
      if (!entry.name.endsWith(".npy")) throw new FormatError("openNpz", `not an array: ${entry.name} in ${source.name}`);
      const name = entry.name.slice(0, -4);
      tensors.set(name, await describeEntry(zip, entry, name, options.signal));
    }
    return npyWeights(tensors, source);
  } catch (error) {
    await source.close();
    throw error;
  }
}

async function describeEntry(zip: ZipArchive, entry: ZipEntry, name: string, signal?: AbortSignal): Promise<NpyTensor> {
  const where = `${entry.name} in ${zip.source.name}`;
  if (!entry.compressed) {
    const source = storedEntry(zip, entry);
    const header = parseHeader(zip.op, where, await source.read(0, Math.min(entry.sizeBytes, 4096), signal));
    return describe(zip.op, name, header, source, entry.sizeBytes, undefined);
  }
  const header = parseHeader(zip.op, where, await firstBytes(zip, entry, signal));
  return describe(zip.op, name, header, { ...memorySource(new Uint8Array(0), where) }, entry.sizeBytes, { zip, entry });
}

async function firstBytes(zip: ZipArchive, entry: ZipEntry, signal?: AbortSignal): Promise<Uint8Array> {
  for await (const piece of inflatedEntry(zip, entry, signal)) return piece;
  return new Uint8Array(0);
}

function parseHeader(op: string, where: string, bytes: Uint8Array): NpyHeader {
  if (!looksLikeNpy(bytes) || bytes.length < 12) throw new FormatError(op, `not an .npy array: ${where}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const long = bytes[6]! >= 2;
  const start = long ? 12 : 10;
  const length = long ? view.getUint32(8, true) : view.getUint16(8, true);
  if (bytes[6]! < 1 || bytes[6]! > 3 || start + length > bytes.length) {
    throw new FormatError(op, `an .npy header of version ${bytes[6]} with ${length} bytes does not fit: ${where}`);
  }
  return parseDictionary(op, where, new TextDecoder().decode(bytes.subarray(start, start + length)), start + length);
}

function parseDictionary(op: string, where: string, text: string, dataOffset: number): NpyHeader {
  const descr = /'descr'\s*:\s*'([^']{1,32})'/.exec(text)?.[1];
  const fortran = /'fortran_order'\s*:\s*(True|False)/.exec(text)?.[1];
  const shapeText = /'shape'\s*:\s*\(([\d\s,L]*)\)/.exec(text)?.[1];
  if (!/^\s*\{.*\}\s*$/s.test(text) || fortran === undefined || shapeText === undefined) {
    throw new FormatError(op, `a malformed .npy header: ${where}`);
  }
  if (descr === undefined) throw new FormatError(op, `an array of structures: ${where}; save plain arrays`);
  const format = Object.hasOwn(formats, descr.slice(1)) ? formats[descr.slice(1)] : undefined;
  if (!format || !/^[<>|=]/.test(descr)) {
    const objects = descr.endsWith("O") ? "; pickled objects are never loaded" : "";
    throw new FormatError(op, `element type ${descr}: ${where}; known are ${Object.keys(formats).join(", ")}${objects}`);
  }
  const shape = shapeText
    .split(",")
    .map((d) => d.trim().replace("L", ""))
    .filter((d) => d !== "")
    .map(Number);
  return { shape, descr, fortran: fortran === "True", dataOffset, format: descr.startsWith(">") ? swapped(format) : format };
}

/** The same format with its bytes the other way round. */
function swapped(format: StoredFormat): StoredFormat {
  const { unitBytes, convert } = format;
  if (unitBytes === 1) return format;
  const turn = (bytes: Uint8Array): Uint8Array => {
    const out = new Uint8Array(bytes.length);
    for (let i = 0; i < bytes.length; i++) out[i] = bytes[i - (i % unitBytes) + unitBytes - 1 - (i % unitBytes)]!;
    return out;
  };
  return { ...format, convert: convert ? (bytes) => convert(turn(bytes)) : turn };
}

function describe(
  op: string,
  name: string,
  header: NpyHeader,
  source: ByteSource,
  sizeBytes: number,
  packed: NpyTensor["packed"],
): NpyTensor {
  const { shape, format, descr, dataOffset, fortran } = header;
  const tensor = storedTensor(op, { name, shape, storedDtype: descr, format, source, offset: dataOffset });
  const have = sizeBytes - dataOffset;
  if (tensor.storedBytes !== have) {
    throw new FormatError(
      op,
      `${descr} [${shape.join(", ")}] takes ${tensor.storedBytes} bytes, the file has ${have}: ${name} in ${source.name}`,
    );
  }
  return { ...tensor, fortran: fortran && shape.length > 1, packed };
}

function npyWeights(tensors: ReadonlyMap<string, NpyTensor>, source: ByteSource): WeightSource {
  return {
    entries: tensors,
    metadata: new Map(),
    stream: (name, options) => streamNpy(entryOf(tensors, name, source.name), options),
    close: () => source.close(),
  };
}

async function* streamNpy(tensor: NpyTensor, options: StreamOptions = {}): AsyncGenerator<Uint8Array, void, undefined> {
  if (tensor.fortran) return yield* streamFortran(tensor, options);
  if (!tensor.packed) return yield* streamStored(tensor, options);
  const { convert, unitBytes } = tensor.format;
  for await (const piece of wholeUnits(inflatedEntry(tensor.packed.zip, tensor.packed.entry, options.signal), tensor.offset, unitBytes)) {
    yield convert ? convert(piece) : piece;
  }
}

/** Drops the first `skip` bytes and cuts the rest at element boundaries. */
async function* wholeUnits(
  pieces: AsyncIterable<Uint8Array>,
  skip: number,
  unitBytes: number,
): AsyncGenerator<Uint8Array, void, undefined> {
  let rest: Uint8Array = new Uint8Array(0);
  for await (const piece of pieces) {
    const drop = Math.min(skip, piece.length);
    skip -= drop;
    const joined = new Uint8Array(rest.length + piece.length - drop);
    joined.set(rest);
    joined.set(piece.subarray(drop), rest.length);
    const whole = joined.length - (joined.length % unitBytes);
    rest = joined.subarray(whole);
    if (whole > 0) yield joined.subarray(0, whole);
  }
}

async function* streamFortran(tensor: NpyTensor, options: StreamOptions): AsyncGenerator<Uint8Array, void, undefined> {
  const { convert, unitBytes } = tensor.format;
  const span = await readWhole(tensor, options.signal);
  const strides = rowMajor([...tensor.shape].reverse()).reverse();
  const chunkBytes = Math.floor((options.chunkBytes ?? CHUNK_BYTES) / Math.max(1, dtypeInfo[tensor.dtype].blockBytes / unitBytes));
  for (const piece of gatherStrided(span, unitBytes, tensor.shape, strides, chunkBytes)) yield convert ? convert(piece) : piece;
}

async function readWhole(tensor: NpyTensor, signal?: AbortSignal): Promise<Uint8Array> {
  if (!tensor.packed) return tensor.source.read(tensor.offset, tensor.storedBytes, signal);
  const bytes = await readEntry(tensor.packed.zip, tensor.packed.entry, MAX_WHOLE_BYTES, signal);
  return bytes.subarray(tensor.offset);
}
