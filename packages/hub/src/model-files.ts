// A model's files, wherever they lie: the interface, and the part that is the same for a repository and a folder.
import { type ByteSource, readAll } from "./byte-source.ts";
import { AmbiguousPathError, EntryNotFoundError, UnexpectedAnswerError } from "./errors.ts";
import { isGlob, matchGlob } from "./glob.ts";

/** One file of a repository or folder; `path` is relative and uses forward slashes. */
export interface FileEntry {
  /** From the repository's root, with forward slashes. */
  readonly path: string;
  /** Absent where a server's listing does not say. */
  readonly sizeBytes?: number;
  /** sha256 of a large file, git blob sha1 of a small one; absent for local files. */
  readonly etag?: string;
}

/** Bytes of one file so far; during a resume `loadedBytes` starts where the earlier download stopped. */
export interface ByteProgress {
  /** Path in the repository. */
  readonly file: string;
  /** Of this file. */
  readonly loadedBytes: number;
  /** Of this file. */
  readonly totalBytes: number;
}

/** What every call that moves bytes accepts. */
export interface ReadOptions {
  /** Stops the transfer; what has arrived stays for the next one. */
  signal?: AbortSignal;
  /** Called as bytes arrive. */
  onProgress?: (progress: ByteProgress) => void;
}

/** How `open` gets at a file of a repository: `download` it into the cache, or read `ranges` over HTTP as they are asked for. */
export interface OpenOptions extends ReadOptions {
  /** "download" by default where there is a cache. */
  via?: "download" | "ranges";
}

/** A model's files, the same for a Hugging Face repository, a local folder and a single file. */
export interface ModelFiles {
  /** What error messages call it: `org/name@revision` or a path. */
  readonly name: string;
  /** All files, sorted by path; offline, those the cache holds. */
  list(options?: ReadOptions): Promise<FileEntry[]>;
  /** Whether there is a file of exactly this path. */
  has(path: string, options?: ReadOptions): Promise<boolean>;
  /** The paths that match a glob (`*`, `**`, `?`, `{a,b}`), sorted. */
  match(pattern: string, options?: ReadOptions): Promise<string[]>;
  /** Opens the one file that a path or glob names. Throws `EntryNotFoundError` or `AmbiguousPathError`. */
  open(pathOrGlob: string, options?: OpenOptions): Promise<ByteSource>;
  /** Opens every file that a glob names (at least one), sorted by path, downloading in parallel. */
  openAll(pattern: string, options?: OpenOptions): Promise<ByteSource[]>;
  /** Path on the local disk, after downloading if need be. Throws `UnsupportedError` in browsers. */
  localPath(path: string, options?: ReadOptions): Promise<string>;
  /** Downloads every file that a glob names and returns the local paths. Throws `UnsupportedError` in browsers. */
  download(pattern?: string, options?: ReadOptions): Promise<string[]>;
  /** A small text file (at most 64 MiB), decoded as UTF-8. */
  readText(path: string, options?: ReadOptions): Promise<string>;
  /** A small JSON file (at most 64 MiB). Throws `UnexpectedAnswerError` when it does not parse. */
  readJson<T = unknown>(path: string, options?: ReadOptions): Promise<T>;
  /** The commit the files belong to; `undefined` for local files. */
  revision(options?: ReadOptions): Promise<string | undefined>;
}

const textLimitBytes = 64 * 2 ** 20;

/** What a kind of file store provides; `modelFiles` makes the rest of `ModelFiles` from it. */
export interface FileStore {
  readonly name: string;
  readonly parallelFiles: number;
  list(options: ReadOptions): Promise<readonly FileEntry[]>;
  open(path: string, options: OpenOptions): Promise<ByteSource>;
  localPath(path: string, options: ReadOptions): Promise<string>;
  revision(options: ReadOptions): Promise<string | undefined>;
}

/** `ModelFiles` over any store. */
export class StoredFiles implements ModelFiles {
  readonly #store: FileStore;

  constructor(store: FileStore) {
    this.#store = store;
  }

  get name(): string {
    return this.#store.name;
  }

  async list(options: ReadOptions = {}): Promise<FileEntry[]> {
    const entries = await this.#store.list(options);
    return [...entries].sort((a, b) => (a.path < b.path ? -1 : 1));
  }

  async has(path: string, options: ReadOptions = {}): Promise<boolean> {
    return (await this.list(options)).some((entry) => entry.path === path);
  }

  async match(pattern: string, options: ReadOptions = {}): Promise<string[]> {
    const paths = (await this.list(options)).map((entry) => entry.path);
    return matchGlob(pattern, paths);
  }

  async open(pathOrGlob: string, options: OpenOptions = {}): Promise<ByteSource> {
    if (!isGlob(pathOrGlob)) return this.#store.open(pathOrGlob, options);
    const found = await this.#some("open", pathOrGlob, options);
    if (found.length === 1) return this.#store.open(found[0]!, options);
    const listed = found.slice(0, 8).join(", ") + (found.length > 8 ? ", …" : "");
    const detail = `${pathOrGlob} names ${found.length} files of ${this.name}: ${listed}`;
    throw new AmbiguousPathError("open", `${detail}; narrow the pattern, or use openAll`);
  }

  async openAll(pattern: string, options: OpenOptions = {}): Promise<ByteSource[]> {
    const paths = await this.#some("openAll", pattern, options);
    return eachInParallel(
      paths,
      this.#store.parallelFiles,
      (path, signal) => this.#store.open(path, { ...options, signal }),
      options.signal,
      (source) => source.close(),
    );
  }

  async localPath(path: string, options: ReadOptions = {}): Promise<string> {
    return this.#store.localPath(path, options);
  }

  async download(pattern = "**", options: ReadOptions = {}): Promise<string[]> {
    const paths = await this.#some("download", pattern, options);
    const fetchOne = (path: string, signal: AbortSignal) => this.#store.localPath(path, { ...options, signal });
    return eachInParallel(paths, this.#store.parallelFiles, fetchOne, options.signal);
  }

  async readText(path: string, options: ReadOptions = {}): Promise<string> {
    const source = await this.#store.open(path, options);
    try {
      return new TextDecoder().decode(await readAll(source, textLimitBytes, options.signal));
    } finally {
      await source.close();
    }
  }

  async readJson<T = unknown>(path: string, options: ReadOptions = {}): Promise<T> {
    const text = await this.readText(path, options);
    try {
      return JSON.parse(text) as T;
    } catch (cause) {
      throw new UnexpectedAnswerError("readJson", `${path} of ${this.name} is not JSON: ${(cause as Error).message}`, { cause });
    }
  }

  async revision(options: ReadOptions = {}): Promise<string | undefined> {
    return this.#store.revision(options);
  }

  async #some(op: string, pattern: string, options: ReadOptions): Promise<string[]> {
    const found = await this.match(pattern, options);
    if (found.length > 0) return found;
    throw new EntryNotFoundError(op, `nothing matches ${pattern} in ${this.name}; list() shows its files`);
  }
}

/** Error text for a file that is not there, naming the closest paths that are. */
export function noSuchFile(op: string, path: string, where: string, entries: readonly FileEntry[]): EntryNotFoundError {
  const base = path.slice(path.lastIndexOf("/") + 1);
  const stem = base.replace(/\.[^.]*$/, "");
  const near = entries.filter((entry) => entry.path.endsWith(base) || (stem.length > 2 && entry.path.includes(stem)));
  const shown = (near.length > 0 ? near : entries).slice(0, 5).map((entry) => entry.path);
  const hint = shown.length > 0 ? `; it has ${shown.join(", ")}${entries.length > shown.length ? ", …" : ""}` : "";
  return new EntryNotFoundError(op, `no file ${path} in ${where}${hint}`);
}

/**
 * Runs `work` on every item, at most `limit` at once, results in order. The first failure aborts the rest, and `undo` is
 * called on what had succeeded.
 */
export async function eachInParallel<A, B>(
  items: readonly A[],
  limit: number,
  work: (item: A, signal: AbortSignal) => Promise<B>,
  outer?: AbortSignal,
  undo?: (result: B) => Promise<void>,
): Promise<B[]> {
  const failure = new AbortController();
  const signal = outer ? AbortSignal.any([outer, failure.signal]) : failure.signal;
  const results = new Map<number, B>();
  let next = 0;
  const lane = async () => {
    for (let i = next++; i < items.length && !signal.aborted; i = next++) {
      results.set(i, await work(items[i]!, signal));
    }
  };
  const lanes = Array.from({ length: Math.min(limit, items.length) }, () =>
    lane().catch((error: unknown) => {
      failure.abort(error);
      throw error;
    }),
  );
  const settled = await Promise.allSettled(lanes);
  if (settled.every((one) => one.status === "fulfilled") && !signal.aborted) return items.map((_, i) => results.get(i)!);
  if (undo) await Promise.allSettled([...results.values()].map(undo));
  throw signal.reason;
}
