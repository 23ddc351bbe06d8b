// A file on a web server, read by HTTP range requests. The `hub` package has the one that caches and resumes; this one only reads.
import { type ByteSource, checkRange, SourceError } from "./source.ts";

/** How a file on a web server is read. */
export interface HttpOptions {
  /** Sent with every request, e.g. authorization. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Further tries after a broken connection or a server error; default 3. */
  readonly retries?: number;
  /** Before the first further try, doubled each time; default 200 ms. */
  readonly retryDelayMs?: number;
  /** Ends opening and every later read. */
  readonly signal?: AbortSignal;
}

interface Answer {
  readonly bytes: Uint8Array;
  readonly totalBytes: number;
  /** What identifies this version of the file: ETag, else modification time. */
  readonly version: string;
}

/** A failure that another try may mend. */
class Transient extends Error {}

/**
 * Opens `url` for reading by range. Rejects with SourceError when the server ignores ranges, answers with a web page, fails, closes early
 * for good, or changes the file between requests.
 */
export async function httpSource(url: string | URL, options: HttpOptions = {}): Promise<ByteSource> {
  const name = String(url);
  const first = await withRetries(name, options, () => request(name, 0, 1, options, options.signal));
  const source = { name, sizeBytes: first.totalBytes };
  return {
    ...source,
    async read(offset, length, signal) {
      checkRange(source, offset, length);
      if (length === 0) return new Uint8Array(0);
      const answer = await withRetries(name, options, () => request(name, offset, length, options, signal ?? options.signal));
      if (answer.version !== first.version || answer.totalBytes !== first.totalBytes) {
        throw new SourceError("read", `the file changed on the server while it was read: ${name}; open it again`);
      }
      return answer.bytes;
    },
    async close() {},
  };
}

async function withRetries<T>(name: string, options: HttpOptions, run: () => Promise<T>): Promise<T> {
  const retries = options.retries ?? 3;
  for (let attempt = 0; ; attempt++) {
    try {
      return await run();
    } catch (error) {
      if (!(error instanceof Transient)) throw error;
      if (attempt >= retries) throw new SourceError("read", `${error.message}: ${name} (${retries + 1} tries)`, { cause: error.cause });
      await new Promise((resume) => setTimeout(resume, (options.retryDelayMs ?? 200) * 2 ** attempt));
    }
  }
}

async function request(url: string, offset: number, length: number, options: HttpOptions, signal?: AbortSignal): Promise<Answer> {
  signal?.throwIfAborted();
  const headers = { ...options.headers, range: `bytes=${offset}-${offset + length - 1}`, "accept-encoding": "identity" };
  let response: Response;
  try {
    response = await fetch(url, { headers, ...(signal ? { signal } : {}) });
  } catch (cause) {
    signal?.throwIfAborted();
    throw new Transient("the server cannot be reached", { cause });
  }
  try {
    const totalBytes = checkAnswer(response, url, offset);
    const bytes = await readBody(response, length, signal);
    const version = response.headers.get("etag") ?? response.headers.get("last-modified") ?? "";
    return { bytes, totalBytes, version };
  } finally {
    if (response.body && !response.bodyUsed) await response.body.cancel().catch(() => {});
  }
}

/** The size of the whole file, from a proper partial answer. */
function checkAnswer(response: Response, url: string, offset: number): number {
  const { status } = response;
  if (status >= 500 || status === 429) throw new Transient(`the server answered ${status}`);
  if (status === 416) throw new SourceError("read", `the server has no byte ${offset}: ${url}; the file is empty or has become shorter`);
  if (status >= 400) throw new SourceError("read", `the server answered ${status} ${response.statusText}: ${url}`);
  if ((response.headers.get("content-type") ?? "").startsWith("text/html")) {
    throw new SourceError("read", `the server answered with a web page: ${url}; log in or check the address`);
  }
  if (status !== 206) throw new SourceError("read", `the server ignores byte ranges (answer ${status}): ${url}; download the file first`);
  const range = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(response.headers.get("content-range") ?? "");
  if (!range || Number(range[1]) !== offset) throw new SourceError("read", `the server sent another range than asked for: ${url}`);
  return Number(range[3]);
}

async function readBody(response: Response, length: number, signal?: AbortSignal): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  let at = 0;
  const reader = response.body?.getReader();
  try {
    for (let part = await reader?.read(); part && !part.done; part = await reader?.read()) {
      const fits = part.value.subarray(0, length - at);
      bytes.set(fits, at);
      at += fits.length;
      if (at === length) break;
    }
  } catch (cause) {
    signal?.throwIfAborted();
    throw new Transient(`the connection broke after ${at} of ${length} bytes`, { cause });
  } finally {
    await reader?.cancel().catch(() => {});
  }
  if (at < length) throw new Transient(`the connection closed after ${at} of ${length} bytes`);
  return bytes;
}
