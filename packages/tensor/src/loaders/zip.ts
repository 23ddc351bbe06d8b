// The directory of a ZIP archive and its entries as byte sources: stored entries by range, deflated ones as a bounded stream.
// Format: PKWARE APPNOTE 6.3, sections 4.3 and 4.5.3 (Zip64). Encrypted, split and other-method archives are refused.
import { Inflate } from "fflate";
import { FormatError } from "../errors.ts";
import { type ByteSource, checkRange, streamRange } from "./source.ts";

const MAX_ENTRIES = 1_000_000;
/** DEFLATE cannot expand further than this; a directory that claims more is lying. */
const MAX_EXPANSION = 1032;
const END_BYTES = 22;
const LOCATOR_BYTES = 20;

export interface ZipEntry {
  readonly name: string;
  readonly compressed: boolean;
  /** Bytes after decompression. */
  readonly sizeBytes: number;
  readonly compressedBytes: number;
  readonly crc32: number;
  readonly headerOffset: number;
}

export interface ZipArchive {
  readonly source: ByteSource;
  readonly op: string;
  readonly entries: ReadonlyMap<string, ZipEntry>;
}

/** True if the first bytes of a file are those of a ZIP archive. */
export const looksLikeZip = (first: Uint8Array): boolean =>
  first.length >= 4 && first[0] === 0x50 && first[1] === 0x4b && (first[2] === 3 || first[2] === 5);

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);

interface Directory {
  readonly offset: number;
  readonly bytes: number;
  readonly count: number;
}

/** Reads the archive's directory; throws FormatError, headed by `op`, when it is malformed. */
export async function openZip(op: string, source: ByteSource, signal?: AbortSignal): Promise<ZipArchive> {
  const directory = await findDirectory(op, source, signal);
  if (directory.offset + directory.bytes > source.sizeBytes || directory.count > MAX_ENTRIES || directory.count * 46 > directory.bytes) {
    const claim = `${directory.count} entries in ${directory.bytes} bytes at ${directory.offset}`;
    throw new FormatError(op, `the ZIP directory does not fit the file: ${claim}: ${source.name} (${source.sizeBytes} bytes)`);
  }
  const entries = parseDirectory(op, source, await source.read(directory.offset, directory.bytes, signal), directory.count);
  checkOverlap(op, source, [...entries.values()], directory.offset);
  return { source, op, entries };
}

async function findDirectory(op: string, source: ByteSource, signal?: AbortSignal): Promise<Directory> {
  const tailBytes = Math.min(source.sizeBytes, END_BYTES + 65_535 + LOCATOR_BYTES);
  const tailStart = source.sizeBytes - tailBytes;
  const tail = await source.read(tailStart, tailBytes, signal);
  const view = viewOf(tail);
  let end = tailBytes - END_BYTES;
  while (end >= 0 && view.getUint32(end, true) !== 0x06054b50) end--;
  if (end < 0) throw new FormatError(op, `the ZIP directory is missing: ${source.name}; the file is truncated, download it again`);
  if (view.getUint16(end + 4, true) !== 0 && view.getUint16(end + 4, true) !== 0xffff) {
    throw new FormatError(op, `one part of a split ZIP archive: ${source.name}`);
  }
  const found = { offset: view.getUint32(end + 16, true), bytes: view.getUint32(end + 12, true), count: view.getUint16(end + 10, true) };
  const large = found.offset === 0xffffffff || found.bytes === 0xffffffff || found.count === 0xffff;
  if (!large || end < LOCATOR_BYTES || view.getUint32(end - LOCATOR_BYTES, true) !== 0x07064b50) return found;
  return readZip64(op, source, safe(op, source, view.getBigUint64(end - LOCATOR_BYTES + 8, true)), signal);
}

async function readZip64(op: string, source: ByteSource, offset: number, signal?: AbortSignal): Promise<Directory> {
  if (offset + 56 > source.sizeBytes) throw new FormatError(op, `the Zip64 directory lies outside of the file: ${source.name}`);
  const view = viewOf(await source.read(offset, 56, signal));
  if (view.getUint32(0, true) !== 0x06064b50) throw new FormatError(op, `the Zip64 directory is damaged: ${source.name}`);
  const [count, bytes, start] = [32, 40, 48].map((at) => safe(op, source, view.getBigUint64(at, true)));
  return { offset: start!, bytes: bytes!, count: count! };
}

function safe(op: string, source: ByteSource, value: bigint): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new FormatError(op, `an absurd size in the ZIP directory: ${value} in ${source.name}`);
  return Number(value);
}

function parseDirectory(op: string, source: ByteSource, bytes: Uint8Array, count: number): Map<string, ZipEntry> {
  const entries = new Map<string, ZipEntry>();
  const view = viewOf(bytes);
  for (let i = 0, at = 0; i < count; i++) {
    if (at + 46 > bytes.length || view.getUint32(at, true) !== 0x02014b50) {
      throw new FormatError(op, `the ZIP directory is damaged at entry ${i}: ${source.name}`);
    }
    const [nameBytes, extraBytes, commentBytes] = [28, 30, 32].map((field) => view.getUint16(at + field, true)) as [number, number, number];
    const next = at + 46 + nameBytes + extraBytes + commentBytes;
    if (next > bytes.length) throw new FormatError(op, `the ZIP directory is damaged at entry ${i}: ${source.name}`);
    const name = new TextDecoder().decode(bytes.subarray(at + 46, at + 46 + nameBytes));
    const entry = parseEntry(op, source, name, viewOf(bytes.subarray(at, at + 46 + nameBytes + extraBytes)), 46 + nameBytes);
    if (entries.has(name)) throw new FormatError(op, `the archive holds two entries of one name: ${name} in ${source.name}`);
    entries.set(name, entry);
    at = next;
  }
  return entries;
}

function parseEntry(op: string, source: ByteSource, name: string, view: DataView, extraAt: number): ZipEntry {
  const where = `${name} in ${source.name}`;
  if (view.getUint16(8, true) & 1) throw new FormatError(op, `an encrypted ZIP entry: ${where}`);
  const method = view.getUint16(10, true);
  if (method !== 0 && method !== 8)
    throw new FormatError(op, `ZIP compression method ${method}: ${where}; only stored and deflated can be read`);
  const [sizeBytes, compressedBytes, headerOffset] = widen(op, source, view, extraAt);
  const compressed = method === 8;
  if (!compressed && sizeBytes !== compressedBytes) throw new FormatError(op, `sizes of a stored ZIP entry differ: ${where}`);
  if (headerOffset + 30 + compressedBytes > source.sizeBytes) throw new FormatError(op, `a ZIP entry lies outside of the file: ${where}`);
  if (sizeBytes > compressedBytes * MAX_EXPANSION + 64) {
    throw new FormatError(op, `a ZIP entry claims to expand ${compressedBytes} bytes to ${sizeBytes}: ${where}`);
  }
  return { name, compressed, sizeBytes, compressedBytes, crc32: view.getUint32(16, true), headerOffset };
}

/** Size, compressed size and header offset, from the Zip64 extra field where the 32-bit ones are full. */
function widen(op: string, source: ByteSource, view: DataView, extraAt: number): [number, number, number] {
  const narrow: [number, number, number] = [view.getUint32(24, true), view.getUint32(20, true), view.getUint32(42, true)];
  for (let at = extraAt; at + 4 <= view.byteLength; at += 4 + view.getUint16(at + 2, true)) {
    if (view.getUint16(at, true) !== 1) continue;
    let field = at + 4;
    return narrow.map((value) => {
      if (value !== 0xffffffff) return value;
      if (field + 8 > view.byteLength) throw new FormatError(op, `a damaged Zip64 field: ${source.name}`);
      field += 8;
      return safe(op, source, view.getBigUint64(field - 8, true));
    }) as [number, number, number];
  }
  return narrow;
}

/** Overlapping entries are how small archives claim to hold much. */
function checkOverlap(op: string, source: ByteSource, entries: readonly ZipEntry[], directoryOffset: number): void {
  const sorted = [...entries].sort((a, b) => a.headerOffset - b.headerOffset);
  for (const [i, entry] of sorted.entries()) {
    const end = entry.headerOffset + 30 + entry.compressedBytes;
    if (end > (sorted[i + 1]?.headerOffset ?? directoryOffset)) {
      throw new FormatError(op, `ZIP entries overlap: ${entry.name} and ${sorted[i + 1]?.name ?? "the directory"} in ${source.name}`);
    }
  }
}

/** Offset of an entry's bytes: its local header may be longer than the directory says. */
async function dataOffset(zip: ZipArchive, entry: ZipEntry, signal?: AbortSignal): Promise<number> {
  const header = viewOf(await zip.source.read(entry.headerOffset, 30, signal));
  const offset = entry.headerOffset + 30 + header.getUint16(26, true) + header.getUint16(28, true);
  if (header.getUint32(0, true) !== 0x04034b50 || offset + entry.compressedBytes > zip.source.sizeBytes) {
    throw new FormatError(zip.op, `a damaged ZIP entry: ${entry.name} in ${zip.source.name}`);
  }
  return offset;
}

/** A stored entry as a source of its own; FormatError when it is compressed. `close` does nothing: the archive stays open. */
export function storedEntry(zip: ZipArchive, entry: ZipEntry): ByteSource {
  const name = `${entry.name} in ${zip.source.name}`;
  if (entry.compressed) throw new FormatError(zip.op, `a compressed ZIP entry cannot be read by range: ${name}`);
  const view = { name, sizeBytes: entry.sizeBytes };
  let start: Promise<number> | undefined;
  return {
    ...view,
    async read(offset, length, signal) {
      checkRange(view, offset, length);
      start ??= dataOffset(zip, entry);
      return zip.source.read((await start) + offset, length, signal);
    },
    async close() {},
  };
}

/** The decompressed bytes of a deflated entry in pieces; FormatError when they are not as many as the directory says. */
export async function* inflatedEntry(zip: ZipArchive, entry: ZipEntry, signal?: AbortSignal): AsyncGenerator<Uint8Array, void, undefined> {
  const start = await dataOffset(zip, entry, signal);
  const where = `${entry.name} in ${zip.source.name}`;
  const out: Uint8Array[] = [];
  const inflate = new Inflate((piece) => out.push(piece));
  let total = 0;
  for await (const piece of smallPieces(streamRange(zip.source, start, entry.compressedBytes, 1 << 20, signal))) {
    try {
      inflate.push(piece, false);
    } catch (cause) {
      throw new FormatError(zip.op, `damaged deflate data: ${where}`, { cause });
    }
    for (const bytes of out.splice(0)) {
      total += bytes.length;
      if (total > entry.sizeBytes) throw new FormatError(zip.op, `a ZIP entry is longer than its ${entry.sizeBytes} bytes: ${where}`);
      if (bytes.length > 0) yield bytes;
    }
  }
  if (total !== entry.sizeBytes) throw new FormatError(zip.op, `a ZIP entry ends after ${total} of ${entry.sizeBytes} bytes: ${where}`);
}

/** Inflating gives all that its input holds at once, up to a thousand times as much: small inputs keep that small. */
async function* smallPieces(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const piece of pieces) for (let at = 0; at < piece.length; at += 16_384) yield piece.subarray(at, at + 16_384);
}

/** A whole entry of at most `most` bytes in memory. Rejects with FormatError when it is larger. */
export async function readEntry(zip: ZipArchive, entry: ZipEntry, most: number, signal?: AbortSignal): Promise<Uint8Array> {
  if (entry.sizeBytes > most) {
    throw new FormatError(
      zip.op,
      `a ZIP entry of ${entry.sizeBytes} bytes where at most ${most} are sensible: ${entry.name} in ${zip.source.name}`,
    );
  }
  if (!entry.compressed) return storedEntry(zip, entry).read(0, entry.sizeBytes, signal);
  const bytes = new Uint8Array(entry.sizeBytes);
  let at = 0;
  for await (const piece of inflatedEntry(zip, entry, signal)) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}
