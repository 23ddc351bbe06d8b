// Where bytes come from: a file, memory, a Blob (also OPFS) or a web server, all read by range. Nothing here knows tensors.

import { TensorError } from "../errors.ts";
import { nodeModule } from "./node-module.ts";

/** Bytes that could not be read: a file cut short, a server that fails, ignores ranges or changes the file. */
export class SourceError extends TensorError {}

/** A file one can read pieces of. */
export interface ByteSource {
  /** For error messages: a path, a URL or a given name. */
  readonly name: string;
  /** Of the whole source. */
  readonly sizeBytes: number;
  /** Exactly `length` bytes from `offset`; rejects with SourceError when they cannot be had, with the signal's reason when aborted. */
  read(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array>;
  /** Fills `into` from `offset`; sources that would otherwise allocate for every read have it. */
  readInto?(offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void>;
  /** Gives up the file or connection; pending reads may fail. */
  close(): Promise<void>;
}

/** Throws SourceError unless the range lies within the source. */
export function checkRange(source: Pick<ByteSource, "name" | "sizeBytes">, offset: number, length: number): void {
  const whole = Number.isSafeInteger(offset) && Number.isSafeInteger(length);
  if (!whole || offset < 0 || length < 0 || offset + length > source.sizeBytes) {
    throw new SourceError("read", `${length} bytes at ${offset} are outside of ${source.name} (${source.sizeBytes} bytes)`);
  }
}

/** A source over bytes in memory; reads are views, not copies. */
export function memorySource(bytes: Uint8Array, name = "memory"): ByteSource {
  const source = { name, sizeBytes: bytes.length };
  return {
    ...source,
    async read(offset, length, signal) {
      signal?.throwIfAborted();
      checkRange(source, offset, length);
      return bytes.subarray(offset, offset + length);
    },
    async close() {},
  };
}

/**
 * A source over a Blob or File, for instance one picked by the user or read from the origin private file system.
 * Reads reject with SourceError outside of it.
 */
export function blobSource(blob: Blob, name = (blob as { name?: string }).name ?? "blob"): ByteSource {
  const source = { name, sizeBytes: blob.size };
  return {
    ...source,
    async read(offset, length, signal) {
      signal?.throwIfAborted();
      checkRange(source, offset, length);
      const bytes = new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer());
      signal?.throwIfAborted();
      if (bytes.length !== length) throw new SourceError("read", `${name} ended early: ${bytes.length} of ${length} bytes at ${offset}`);
      return bytes;
    },
    async close() {},
  };
}

/** Closes files that the collector found open: a checkpoint opened in passing has nobody who closes it. */
const forgotten = new FinalizationRegistry<{ close(): Promise<void> }>((handle) => void handle.close().catch(() => {}));

/** A source over a local file (Node only); rejects with SourceError when it cannot be opened. */
export async function fileSource(path: string): Promise<ByteSource> {
  const { open } = nodeModule("openFile", "node:fs/promises");
  const handle = await open(path, "r").catch((cause: unknown) => {
    throw new SourceError("openFile", `cannot open ${path}`, { cause });
  });
  const { size, isFile } = await handle.stat().then((s) => ({ size: s.size, isFile: s.isFile() }));
  if (!isFile) {
    await handle.close();
    throw new SourceError("openFile", `not a file: ${path}; give the file inside of it`);
  }
  const readInto = async (offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> => {
    signal?.throwIfAborted();
    // By this name a read holds the source, and so the file open.
    checkRange(opened, offset, into.length);
    for (let done = 0; done < into.length; ) {
      const { bytesRead } = await handle.read(into, done, into.length - done, offset + done);
      if (bytesRead === 0) throw new SourceError("read", `${path} was cut short: ${done} of ${into.length} bytes at ${offset}`);
      done += bytesRead;
      signal?.throwIfAborted();
    }
  };
  const opened: ByteSource = {
    name: path,
    sizeBytes: size,
    readInto,
    async read(offset, length, signal) {
      checkRange(opened, offset, length);
      const bytes = new Uint8Array(length);
      await readInto(offset, bytes, signal);
      return bytes;
    },
    close: () => {
      forgotten.unregister(opened);
      return handle.close();
    },
  };
  forgotten.register(opened, handle, opened);
  return opened;
}

/** Bytes of one piece when a tensor is streamed from far away. */
export const CHUNK_BYTES: number = 16 * 1024 * 1024;
/** From a local file: what was read is still in the processor's cache when it is copied on. */
const LOCAL_CHUNK_BYTES = 2 * 1024 * 1024;
/** Pieces of a local file that are read while the caller works on one: several threads read, and a wait for one of them is hidden. */
const LOCAL_READ_AHEAD = 3;

/** Bytes of one piece of a tensor streamed from `source`. */
export const chunkBytesFor = (source: ByteSource): number => (source.readInto ? LOCAL_CHUNK_BYTES : CHUNK_BYTES);

/** Buffers for pieces, used again and again: fresh ones would cost more time than reading into them. Kept by an opened checkpoint. */
export class PiecePool {
  private readonly free: Uint8Array[] = [];

  /** A buffer of at least `length` bytes. */
  take(length: number): Uint8Array {
    const at = this.free.findIndex((buffer) => buffer.length >= length);
    return at < 0 ? new Uint8Array(length) : this.free.splice(at, 1)[0]!;
  }

  /** Returns a buffer whose bytes nobody looks at any more. */
  give(buffer: Uint8Array): void {
    this.free.push(buffer);
    if (this.free.length > LOCAL_READ_AHEAD + 1) this.free.shift();
  }
}

/**
 * Reads a range in pieces of at most `chunkBytes`, asking for the next ones while the caller works on the current one.
 * Holds two pieces at most, four of a local file; stops reading when the caller stops iterating. With a pool, a piece is overwritten after the
 * next one is asked for.
 */
export async function* streamRange(
  source: ByteSource,
  offset: number,
  length: number,
  chunkBytes: number = chunkBytesFor(source),
  signal?: AbortSignal,
  pool?: PiecePool,
): AsyncGenerator<Uint8Array, void, undefined> {
  const end = offset + length;
  const pooled = pool && source.readInto ? pool : undefined;
  const asked: Promise<Uint8Array>[] = [];
  let at = offset;
  const askAhead = (pieces: number): void => {
    for (; at < end && asked.length < pieces; at += chunkBytes) {
      const piece = readPiece(source, at, Math.min(chunkBytes, end - at), signal, pooled);
      piece.catch(() => {});
      asked.push(piece);
    }
  };
  const ahead = pooled ? LOCAL_READ_AHEAD : 1;
  for (askAhead(ahead); asked.length > 0; ) {
    const piece = await asked.shift()!;
    askAhead(ahead);
    yield piece;
    pooled?.give(new Uint8Array(piece.buffer));
  }
}

async function readPiece(source: ByteSource, at: number, length: number, signal?: AbortSignal, pool?: PiecePool): Promise<Uint8Array> {
  if (!pool || !source.readInto) return source.read(at, length, signal);
  const piece = pool.take(length).subarray(0, length);
  await source.readInto(at, piece, signal);
  return piece;
}
