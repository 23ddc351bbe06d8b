// Files that lie at known addresses: what a bundler leaves of a model that came with the page. Each is fetched whole, once per open.
import { type ByteSource, checkRange } from "./byte-source.ts";
import {
  EntryNotFoundError,
  HttpStatusError,
  InvalidNameError,
  NetworkError,
  TruncatedError,
  UnexpectedAnswerError,
  UnsupportedError,
} from "./errors.ts";
import { type FileEntry, type FileStore, type ModelFiles, noSuchFile, type OpenOptions, StoredFiles } from "./model-files.ts";
import { checkFilePath } from "./names.ts";

/** How `urlFiles` gets at the addresses. */
export interface UrlFilesOptions {
  /** What error messages call the files together; default "these URLs". */
  readonly name?: string;
  /** Instead of the global fetch. */
  readonly fetch?: typeof fetch;
}

/**
 * The files of a map from path to address (http, https, data or blob), in browsers and in Node. Each file is held in memory while it is
 * open, so this is for models of up to some hundred MB. Throws `InvalidNameError` for an address that is not one.
 */
export function urlFiles(map: Readonly<Record<string, string | URL>>, options: UrlFilesOptions = {}): ModelFiles {
  return new StoredFiles(new UrlStore(map, options));
}

class UrlStore implements FileStore {
  readonly name: string;
  readonly parallelFiles = 4;
  readonly #urls: ReadonlyMap<string, string>;
  readonly #fetch: typeof fetch;

  constructor(map: Readonly<Record<string, string | URL>>, options: UrlFilesOptions) {
    this.name = options.name ?? "these URLs";
    this.#fetch = options.fetch ?? ((...call) => fetch(...call));
    this.#urls = new Map(Object.entries(map).map(([path, url]) => [path, checkUrl(path, String(url))]));
  }

  async list(): Promise<readonly FileEntry[]> {
    return [...this.#urls.keys()].map((path) => ({ path }));
  }

  async open(path: string, { signal, onProgress }: OpenOptions): Promise<ByteSource> {
    const url = this.#urls.get(path);
    if (url === undefined) throw noSuchFile("open", path, this.name, await this.list());
    const response = await this.#request(path, url, signal);
    const report = (loadedBytes: number, totalBytes: number) => onProgress?.({ file: path, loadedBytes, totalBytes });
    const bytes = await readBody(path, response, report).catch((cause: unknown) => {
      signal?.throwIfAborted();
      throw cause instanceof TruncatedError
        ? cause
        : new NetworkError("open", `${path} broke off on its way: ${(cause as Error).message}; try again`, { cause });
    });
    return heldBytes(path, bytes);
  }

  async localPath(path: string): Promise<string> {
    throw new UnsupportedError("localPath", `${path} of ${this.name} lies at an address, not on the local disk; use open()`);
  }

  async revision(): Promise<undefined> {
    return undefined;
  }

  async #request(path: string, url: string, signal?: AbortSignal): Promise<Response> {
    const response = await this.#fetch(url, signal ? { signal } : {}).catch((cause: unknown) => {
      signal?.throwIfAborted();
      throw new NetworkError("open", `${path} could not be fetched from ${shown(url)}: ${(cause as Error).message}`, { cause });
    });
    if (response.status === 404) throw new EntryNotFoundError("open", `no file ${path} at ${shown(url)} (404)`);
    if (!response.ok) throw new HttpStatusError("open", `${path} at ${shown(url)}: HTTP ${response.status}`, response.status);
    // Development servers and single-page hosts answer unknown paths with their start page.
    if (/^text\/html/.test(response.headers.get("content-type") ?? "") && !/\.html?$/.test(path))
      throw new UnexpectedAnswerError("open", `${shown(url)} answers with a web page instead of ${path}; check that the file is deployed`);
    return response;
  }
}

function checkUrl(path: string, url: string): string {
  checkFilePath("urlFiles", path);
  if (/^(https?|data|blob):/.test(url) || !/^[a-z][a-z0-9+.-]*:/i.test(url)) return url;
  throw new InvalidNameError("urlFiles", `${path} lies at ${shown(url)}, which fetch cannot read; use localFolder for files on disk`);
}

const shown = (url: string): string => (url.length > 200 ? `${url.slice(0, 200)}…` : url);

async function readBody(path: string, response: Response, onBytes: (loaded: number, total: number) => void): Promise<Uint8Array> {
  // The header counts compressed bytes when the body is compressed.
  const isPlain = !response.headers.get("content-encoding");
  const stated = isPlain ? Number(response.headers.get("content-length") ?? 0) : 0;
  const chunks: Uint8Array[] = [];
  let loaded = 0;
  const reader = response.body?.getReader();
  for (let part = await reader?.read(); reader && part && !part.done; part = await reader.read()) {
    chunks.push(part.value);
    loaded += part.value.byteLength;
    onBytes(loaded, Math.max(stated, loaded));
  }
  if (stated > 0 && loaded !== stated) throw new TruncatedError("open", `${path} has ${stated} bytes, ${loaded} arrived; try again`);
  const whole = new Uint8Array(loaded);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.byteLength;
  }
  return whole;
}

function heldBytes(name: string, bytes: Uint8Array): ByteSource {
  return {
    name,
    sizeBytes: bytes.byteLength,
    async read(offsetBytes, lengthBytes, signal) {
      signal?.throwIfAborted();
      checkRange(name, bytes.byteLength, offsetBytes, lengthBytes);
      return bytes.slice(offsetBytes, offsetBytes + lengthBytes);
    },
    async close() {},
  };
}
