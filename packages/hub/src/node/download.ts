// One file's bytes from a server into `<blob>.incomplete`, resumed by range, hashed on the way, renamed to `<blob>` when they are right.
// The caller holds the file's lock. Writes go to fixed offsets, so even a broken lock makes two writers write the same bytes twice.
import type { Hash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import { HashMismatchError, NetworkError, RemoteChangedError, TruncatedError } from "../errors.ts";
import type { FileEntry } from "../model-files.ts";
import {
  chunksOf,
  type HttpSettings,
  type RequestContext,
  refuseHtml,
  StallGuard,
  send,
  subject,
  TransientFailure,
  withRetries,
} from "../remote/http.ts";
import { contentChanged, rangeStart, rangeTotal } from "../remote/range-source.ts";
import { fs, path } from "./builtins.ts";
import { checkFreeSpace, withDiskErrors } from "./disk-errors.ts";
import { etagHash, hashFile } from "./hash.ts";

/** What to download and where to. */
export interface BlobDownload {
  readonly http: HttpSettings;
  readonly url: string;
  readonly entry: Required<FileEntry>;
  readonly context: RequestContext;
  readonly blob: string;
  readonly signal: AbortSignal | undefined;
  readonly onBytes: (loadedBytes: number) => void;
}

const progressStepBytes = 2 ** 20;

/** Downloads a blob; on return `blob` exists and has the stated size and hash. Errors leave the `.incomplete` file for a later resume. */
export async function downloadBlob(download: BlobDownload): Promise<void> {
  const { blob, context, entry } = download;
  await withDiskErrors(context.op, blob, async () => {
    await fs.mkdir(path.dirname(blob), { recursive: true });
    // A kept part may itself be damaged, so a wrong hash is worth one fresh start, and only one.
    if (!(await fillAndCheck(download)) && !(await fillAndCheck(download))) {
      const detail = `${subject(context)}: downloaded twice and the bytes do not have the hash ${entry.etag}`;
      throw new HashMismatchError(context.op, `${detail}; the server or a proxy changes the file: check HF_ENDPOINT`);
    }
    await fs.rename(incompleteFile(blob), blob);
  });
}

/** Where the part of a blob that has arrived so far is kept. */
export function incompleteFile(blob: string): string {
  return `${blob}.incomplete`;
}

// False (and the part removed) when all bytes are there and their hash is wrong.
async function fillAndCheck(download: BlobDownload): Promise<boolean> {
  const part = incompleteFile(download.blob);
  const handle = await fs.open(part, "a+").then(async (opened) => {
    await opened.close();
    return fs.open(part, "r+");
  });
  let hash: Hash | undefined;
  try {
    hash = await new Transfer(download, handle).run();
    await handle.sync();
  } finally {
    await handle.close();
  }
  if (hash === undefined || hash.digest("hex") === download.entry.etag) return true;
  await fs.rm(part, { force: true });
  return false;
}

class Transfer {
  readonly #download: BlobDownload;
  readonly #handle: FileHandle;
  #hash: Hash | undefined;
  #loadedBytes = 0;
  #serverEtag: string | undefined;

  constructor(download: BlobDownload, handle: FileHandle) {
    this.#download = download;
    this.#handle = handle;
  }

  /** Fills the file to its full size and returns the running hash over it. */
  async run(): Promise<Hash | undefined> {
    const { http, entry, signal, blob, context } = this.#download;
    await this.#adoptPart();
    const free = await fs.statfs(path.dirname(blob)).catch(() => undefined);
    await checkFreeSpace(context.op, free && free.bavail * free.bsize, entry.sizeBytes - this.#loadedBytes, blob);
    await withRetries(http, signal, async (progressed) => {
      const before = this.#loadedBytes;
      try {
        if (this.#loadedBytes < entry.sizeBytes) await this.#attempt();
      } finally {
        if (this.#loadedBytes - before >= progressStepBytes) progressed();
      }
    });
    return this.#hash;
  }

  // What an earlier run left counts as loaded once it has gone through the hash.
  async #adoptPart(): Promise<void> {
    const { entry, blob, signal, onBytes } = this.#download;
    const { size } = await this.#handle.stat();
    if (size > entry.sizeBytes) return this.#restart();
    this.#hash = etagHash(entry.etag, entry.sizeBytes);
    this.#loadedBytes = size;
    if (this.#hash) await hashFile(incompleteFile(blob), size, this.#hash, () => undefined, signal);
    onBytes(size);
  }

  async #restart(): Promise<void> {
    const { entry, onBytes } = this.#download;
    await this.#handle.truncate(0);
    this.#hash = etagHash(entry.etag, entry.sizeBytes);
    this.#loadedBytes = 0;
    onBytes(0);
  }

  async #attempt(): Promise<void> {
    const { http, url, context, signal, entry } = this.#download;
    const guard = new StallGuard(http.stallTimeoutMs, signal);
    try {
      const range = this.#loadedBytes > 0 ? { range: `bytes=${this.#loadedBytes}-` } : undefined;
      const response = await send(http, url, { signal: guard.signal, headers: { "accept-encoding": "identity", ...range } }, context);
      refuseHtml(response, url, context);
      await this.#checkAnswer(response);
      await this.#receive(response, guard);
    } finally {
      guard.stop();
    }
    if (this.#loadedBytes === entry.sizeBytes) return;
    const detail = `${subject(context)}: the connection closed after ${this.#loadedBytes} of ${entry.sizeBytes} bytes`;
    throw new TransientFailure(new TruncatedError(context.op, `${detail}; run again to resume`));
  }

  async #checkAnswer(response: Response): Promise<void> {
    const { context, entry } = this.#download;
    const length = response.status === 200 && !response.headers.has("content-encoding") ? response.headers.get("content-length") : null;
    const total = rangeTotal(response) ?? Number(length ?? entry.sizeBytes);
    if (response.status === 416 || total !== entry.sizeBytes || contentChanged(response, entry.etag, this.#serverEtag)) {
      void response.body?.cancel().catch(() => undefined);
      const detail = `${subject(context)}: the file changed on the server: expected ${entry.sizeBytes} bytes of ${entry.etag}, it has ${total}`;
      throw new RemoteChangedError(context.op, `${detail}; try again`);
    }
    this.#serverEtag = response.headers.get("etag") ?? this.#serverEtag;
    // A server without range support (200), or one that sends another range, is read from the start again.
    if (this.#loadedBytes > 0 && (response.status !== 206 || (rangeStart(response) ?? this.#loadedBytes) !== this.#loadedBytes)) {
      await this.#restart();
      if (response.status !== 206) return;
      void response.body?.cancel().catch(() => undefined);
      throw new TransientFailure(
        new RemoteChangedError(context.op, `${subject(context)}: the server sent another range than asked for; try again`),
      );
    }
  }

  async #receive(response: Response, guard: StallGuard): Promise<void> {
    const { entry, onBytes } = this.#download;
    for await (const chunk of this.#pieces(response)) {
      guard.touch();
      const piece = chunk.subarray(0, entry.sizeBytes - this.#loadedBytes);
      await this.#write(piece);
      this.#hash?.update(piece);
      this.#loadedBytes += piece.byteLength;
      onBytes(this.#loadedBytes);
      if (chunk.byteLength > piece.byteLength) this.#refuseExcess();
    }
  }

  async *#pieces(response: Response): AsyncGenerator<Uint8Array> {
    const { context, entry } = this.#download;
    try {
      yield* chunksOf(response);
    } catch (cause) {
      const detail = `${subject(context)}: the connection broke after ${this.#loadedBytes} of ${entry.sizeBytes} bytes`;
      throw new TransientFailure(new NetworkError(context.op, `${detail}; run again to resume`, { cause }));
    }
  }

  async #write(piece: Uint8Array): Promise<void> {
    for (let written = 0; written < piece.byteLength; ) {
      const result = await this.#handle.write(piece, written, piece.byteLength - written, this.#loadedBytes + written);
      written += result.bytesWritten;
    }
  }

  #refuseExcess(): never {
    const { context, entry } = this.#download;
    throw new RemoteChangedError(
      context.op,
      `${subject(context)}: the server sends more than the stated ${entry.sizeBytes} bytes; try again`,
    );
  }
}
