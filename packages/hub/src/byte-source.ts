// The one way bytes are read: by range, from a file, an HTTP server or memory.
// Structurally the same interface as the tensor package's ByteSource, so that neither package imports the other.
import { ReadRangeError } from "./errors.ts";

/** A random-access run of bytes. */
export interface ByteSource {
  /** What error messages call it: a path or a URL. */
  readonly name: string;
  /** Of the whole source. */
  readonly sizeBytes: number;
  /** Path on the local disk when the bytes lie there. */
  readonly localPath?: string;
  /** Resolves to exactly `lengthBytes` bytes from `offsetBytes` on. */
  read(offsetBytes: number, lengthBytes: number, signal?: AbortSignal): Promise<Uint8Array>;
  /** Gives up the file or connection; pending reads may fail. */
  close(): Promise<void>;
}

/** Throws `ReadRangeError` unless [offsetBytes, offsetBytes + lengthBytes) lies inside the source; call before allocating. */
export function checkRange(name: string, sizeBytes: number, offsetBytes: number, lengthBytes: number): void {
  const whole = Number.isSafeInteger(offsetBytes) && Number.isSafeInteger(lengthBytes);
  if (whole && offsetBytes >= 0 && lengthBytes >= 0 && offsetBytes + lengthBytes <= sizeBytes) return;
  throw new ReadRangeError(
    "read",
    `bytes ${offsetBytes} to ${offsetBytes + lengthBytes} are outside ${name}, which has ${sizeBytes} bytes`,
  );
}

/** Reads a whole source; throws `ReadRangeError` when it has more than `limitBytes` bytes. */
export async function readAll(source: ByteSource, limitBytes: number, signal?: AbortSignal): Promise<Uint8Array> {
  if (source.sizeBytes > limitBytes) {
    const detail = `${source.name} has ${source.sizeBytes} bytes, more than the limit of ${limitBytes}`;
    throw new ReadRangeError("read", `${detail}; read it in pieces with open()`);
  }
  return source.read(0, source.sizeBytes, signal);
}
