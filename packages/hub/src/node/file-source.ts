// A file on the local disk as a ByteSource: positional reads, nothing buffered.
import type { FileHandle } from "node:fs/promises";
import { type ByteSource, checkRange } from "../byte-source.ts";
import { ReadRangeError, TruncatedError } from "../errors.ts";
import { fs } from "./builtins.ts";
import { withDiskErrors } from "./disk-errors.ts";

/** Opens `path`; throws `CacheAccessError` when it cannot be read. */
export async function openFileSource(path: string, name = path): Promise<ByteSource> {
  return withDiskErrors("open", path, async () => {
    const handle = await fs.open(path, "r");
    const { size } = await handle.stat();
    return new FileSource(handle, path, name, size);
  });
}

/** Closes files that the collector found open: a source opened in passing has nobody who closes it. */
const forgotten = new FinalizationRegistry<FileHandle>((handle) => void handle.close().catch(() => {}));

class FileSource implements ByteSource {
  readonly name: string;
  readonly sizeBytes: number;
  readonly localPath: string;
  readonly #handle: FileHandle;
  #closed = false;

  constructor(handle: FileHandle, localPath: string, name: string, sizeBytes: number) {
    this.name = name;
    this.sizeBytes = sizeBytes;
    this.localPath = localPath;
    this.#handle = handle;
    forgotten.register(this, handle, this);
  }

  async read(offsetBytes: number, lengthBytes: number, signal?: AbortSignal): Promise<Uint8Array> {
    if (this.#closed) throw new ReadRangeError("read", `${this.name} is closed`);
    checkRange(this.name, this.sizeBytes, offsetBytes, lengthBytes);
    const result = new Uint8Array(lengthBytes);
    let filled = 0;
    while (filled < lengthBytes) {
      signal?.throwIfAborted();
      const pieceBytes = Math.min(lengthBytes - filled, 64 * 2 ** 20);
      const { bytesRead } = await this.#handle.read(result, filled, pieceBytes, offsetBytes + filled);
      if (bytesRead === 0) throw new TruncatedError("read", `${this.name} ends at byte ${offsetBytes + filled}; it was cut while open`);
      filled += bytesRead;
    }
    return result;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    forgotten.unregister(this);
    await this.#handle.close();
  }
}
