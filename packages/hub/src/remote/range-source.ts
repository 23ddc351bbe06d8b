// A file on a server, read by HTTP range and never as a whole; pieces may be kept in a chunk store (the browser's cache).
import { type ByteSource, checkRange } from "../byte-source.ts";
import { NetworkError, RangeIgnoredError, ReadRangeError, RemoteChangedError, TruncatedError, UnexpectedAnswerError } from "../errors.ts";
import type { ByteProgress } from "../model-files.ts";
import { plainEtag } from "../names.ts";
import type { ChunkStore } from "./chunk-store.ts";
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
} from "./http.ts";

/** What a range source reads and how. */
export interface RangeSourceOptions {
  readonly http: HttpSettings;
  readonly url: string;
  readonly sizeBytes: number;
  /** Names the content: the key under which chunks are kept. */
  readonly etag: string;
  readonly context: RequestContext;
  readonly chunks?: ChunkStore | undefined;
  readonly chunkBytes?: number;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: ByteProgress) => void) | undefined;
}

interface Run {
  readonly first: number;
  readonly end: number;
}

/** A `ByteSource` over HTTP ranges. Errors: `RangeIgnoredError`, `RemoteChangedError`, `TruncatedError`, network errors after retries. */
export class RangeSource implements ByteSource {
  readonly name: string;
  readonly sizeBytes: number;
  readonly #options: RangeSourceOptions;
  readonly #chunkBytes: number;
  #serverEtag: string | undefined;
  #loadedBytes = 0;
  #closed = false;

  constructor(options: RangeSourceOptions) {
    this.name = options.url;
    this.sizeBytes = options.sizeBytes;
    this.#options = options;
    this.#chunkBytes = options.chunkBytes ?? 4 * 2 ** 20;
  }

  async read(offsetBytes: number, lengthBytes: number, signal?: AbortSignal): Promise<Uint8Array> {
    if (this.#closed) throw new ReadRangeError("read", `${this.name} is closed`);
    checkRange(this.name, this.sizeBytes, offsetBytes, lengthBytes);
    const both = this.#options.signal && signal ? AbortSignal.any([this.#options.signal, signal]) : (this.#options.signal ?? signal);
    both?.throwIfAborted();
    if (lengthBytes === 0) return new Uint8Array(0);
    if (this.#options.chunks === undefined) return this.#fetchRange(offsetBytes, lengthBytes, both);
    return this.#readThroughChunks(this.#options.chunks, offsetBytes, lengthBytes, both);
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  async #readThroughChunks(store: ChunkStore, offsetBytes: number, lengthBytes: number, signal?: AbortSignal): Promise<Uint8Array> {
    const result = new Uint8Array(lengthBytes);
    const first = Math.floor(offsetBytes / this.#chunkBytes);
    const last = Math.floor((offsetBytes + lengthBytes - 1) / this.#chunkBytes);
    const missing: number[] = [];
    for (let i = first; i <= last; i++) {
      const chunk = await store.get(this.#chunkKey(i));
      if (chunk?.byteLength === this.#chunkSize(i)) copyOverlap(chunk, i * this.#chunkBytes, result, offsetBytes);
      else missing.push(i);
    }
    for (const run of runsOf(missing)) {
      const start = run.first * this.#chunkBytes;
      const bytes = await this.#fetchRange(start, Math.min(run.end * this.#chunkBytes, this.sizeBytes) - start, signal);
      copyOverlap(bytes, start, result, offsetBytes);
      for (let i = run.first; i < run.end; i++) {
        const at = i * this.#chunkBytes - start;
        await store.put(this.#chunkKey(i), bytes.subarray(at, at + this.#chunkSize(i)));
      }
    }
    return result;
  }

  // A key is an address so that it can be a Request of the browser's cache.
  #chunkKey(index: number): string {
    return `${this.#options.url}?etag=${this.#options.etag}&chunk=${index}&size=${this.#chunkBytes}`;
  }

  #chunkSize(index: number): number {
    return Math.min(this.#chunkBytes, this.sizeBytes - index * this.#chunkBytes);
  }

  async #fetchRange(offsetBytes: number, lengthBytes: number, signal?: AbortSignal): Promise<Uint8Array> {
    const { http } = this.#options;
    return withRetries(http, signal, async () => {
      const guard = new StallGuard(http.stallTimeoutMs, signal);
      try {
        return await this.#attempt(offsetBytes, lengthBytes, guard);
      } finally {
        guard.stop();
      }
    });
  }

  async #attempt(offsetBytes: number, lengthBytes: number, guard: StallGuard): Promise<Uint8Array> {
    const { http, url, context } = this.#options;
    const headers = { range: `bytes=${offsetBytes}-${offsetBytes + lengthBytes - 1}`, "accept-encoding": "identity" };
    const response = await send(http, url, { headers, signal: guard.signal }, context);
    refuseHtml(response, url, context);
    this.#checkAnswer(response, offsetBytes, lengthBytes);
    const result = new Uint8Array(lengthBytes);
    const filled = await this.#fill(result, response, guard);
    if (filled === lengthBytes) return result;
    const detail = `${subject(context)}: the connection closed after ${filled} of ${lengthBytes} bytes at offset ${offsetBytes}`;
    throw new TransientFailure(new TruncatedError(context.op, `${detail}; try again`));
  }

  #checkAnswer(response: Response, offsetBytes: number, lengthBytes: number): void {
    const { context } = this.#options;
    const whole = offsetBytes === 0 && lengthBytes === this.sizeBytes;
    if (response.status === 200 && !whole) {
      void response.body?.cancel().catch(() => undefined);
      const remedy = 'download the file instead (via: "download"), or use a server that supports ranges';
      throw new RangeIgnoredError(context.op, `${subject(context)}: the server ignores byte ranges: ${this.name}; ${remedy}`);
    }
    const totalBytes = rangeTotal(response) ?? this.sizeBytes;
    if (response.status === 416 || totalBytes !== this.sizeBytes || contentChanged(response, this.#options.etag, this.#serverEtag)) {
      void response.body?.cancel().catch(() => undefined);
      const detail = `${subject(context)}: the file changed on the server while it was read: ${this.name}`;
      throw new RemoteChangedError(context.op, `${detail}; open it again`);
    }
    if ((rangeStart(response) ?? offsetBytes) !== offsetBytes) {
      throw new UnexpectedAnswerError(
        context.op,
        `${subject(context)}: the server sent another range than bytes ${offsetBytes} on: ${this.name}`,
      );
    }
    this.#serverEtag = response.headers.get("etag") ?? this.#serverEtag;
  }

  async #fill(result: Uint8Array, response: Response, guard: StallGuard): Promise<number> {
    const { context, onProgress } = this.#options;
    let filled = 0;
    try {
      for await (const chunk of chunksOf(response)) {
        guard.touch();
        const piece = chunk.subarray(0, result.byteLength - filled);
        result.set(piece, filled);
        filled += piece.byteLength;
        this.#loadedBytes = Math.min(this.sizeBytes, this.#loadedBytes + piece.byteLength);
        onProgress?.({ file: context.path ?? this.name, loadedBytes: this.#loadedBytes, totalBytes: this.sizeBytes });
        if (filled === result.byteLength) break;
      }
    } catch (cause) {
      const detail = `${subject(context)}: the connection broke after ${filled} of ${result.byteLength} bytes`;
      throw new TransientFailure(new NetworkError(context.op, `${detail}; try again`, { cause }));
    }
    return filled;
  }
}

/**
 * Whether an answer belongs to other content than expected: the hub itself states another etag than the listing, or the etag
 * differs from the one of the answer before. The etag of a host redirected to means something else than the hub's.
 */
export function contentChanged(response: Response, expectedEtag: string, earlierEtag: string | undefined): boolean {
  const header = response.headers.get("etag");
  if (header === null) return false;
  if (earlierEtag !== undefined && header !== earlierEtag) return true;
  const stated = plainEtag(header);
  return !response.redirected && stated.length === expectedEtag.length && stated !== expectedEtag;
}

/** Start of a `Content-Range: bytes a-b/total`; NaN when malformed, `undefined` when absent (or hidden from a browser). */
export function rangeStart(response: Response): number | undefined {
  return contentRange(response, /^bytes (\d+)-\d+\/\d+$/);
}

/** Total of a `Content-Range: bytes a-b/total`; NaN when malformed, `undefined` when absent (or hidden from a browser). */
export function rangeTotal(response: Response): number | undefined {
  return contentRange(response, /^bytes (?:\d+-\d+|\*)\/(\d+)$/);
}

function contentRange(response: Response, form: RegExp): number | undefined {
  const header = response.headers.get("content-range");
  return header === null ? undefined : Number(form.exec(header)?.[1] ?? Number.NaN);
}

function copyOverlap(from: Uint8Array, fromOffset: number, to: Uint8Array, toOffset: number): void {
  const start = Math.max(fromOffset, toOffset);
  const end = Math.min(fromOffset + from.byteLength, toOffset + to.byteLength);
  if (end > start) to.set(from.subarray(start - fromOffset, end - fromOffset), start - toOffset);
}

function runsOf(indices: readonly number[]): Run[] {
  const runs: { first: number; end: number }[] = [];
  for (const index of indices) {
    const last = runs.at(-1);
    if (last?.end === index) last.end++;
    else runs.push({ first: index, end: index + 1 });
  }
  return runs;
}
