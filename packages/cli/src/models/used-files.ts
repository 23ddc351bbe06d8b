// A model's files with a memory of which were read, so that a picture can name them with their hashes.
import { createHash } from "node:crypto";
import { open } from "node:fs/promises";
import type { FileEntry, ModelFiles, ReadOptions } from "@wick/hub";

/** What identifies a file: a hash of all of it, or, for local files too large to hash each time, of its first and last MiB. */
export interface FileStamp {
  readonly bytes: number;
  readonly sha256?: string;
  /** Of small files in a repository, as git names them. */
  readonly gitSha1?: string;
  readonly endsSha256?: string;
}

const hashLimitBytes = 2 ** 30;
const endBytes = 2 ** 20;

export class UsedFiles implements ModelFiles {
  readonly #files: ModelFiles;
  readonly #used = new Set<string>();

  constructor(files: ModelFiles) {
    this.#files = files;
  }
  get name(): string {
    return this.#files.name;
  }
  list: ModelFiles["list"] = (options) => this.#files.list(options);
  has: ModelFiles["has"] = (path, options) => this.#files.has(path, options);
  match: ModelFiles["match"] = (pattern, options) => this.#files.match(pattern, options);
  revision: ModelFiles["revision"] = (options) => this.#files.revision(options);

  open: ModelFiles["open"] = async (path, options) => {
    await this.#mark(path, options);
    return this.#files.open(path, options);
  };
  openAll: ModelFiles["openAll"] = async (pattern, options) => {
    await this.#mark(pattern, options);
    return this.#files.openAll(pattern, options);
  };
  localPath: ModelFiles["localPath"] = async (path, options) => {
    await this.#mark(path, options);
    return this.#files.localPath(path, options);
  };
  download: ModelFiles["download"] = async (pattern = "**", options) => {
    await this.#mark(pattern, options);
    return this.#files.download(pattern, options);
  };
  readText: ModelFiles["readText"] = async (path, options) => {
    await this.#mark(path, options);
    return this.#files.readText(path, options);
  };
  readJson: ModelFiles["readJson"] = async (path, options) => {
    await this.#mark(path, options);
    return this.#files.readJson(path, options);
  };

  async #mark(pattern: string, options: ReadOptions | undefined): Promise<void> {
    for (const path of await this.#files.match(pattern, options)) this.#used.add(path);
  }

  /** Size and hash of every file that was read, by path. */
  async stamps(signal?: AbortSignal): Promise<Record<string, FileStamp>> {
    const entries = await this.#files.list(signal ? { signal } : {});
    const used = entries.filter((entry) => this.#used.has(entry.path));
    const stamps: Record<string, FileStamp> = {};
    for (const entry of used) stamps[entry.path] = await this.#stamp(entry, signal);
    return stamps;
  }

  async #stamp({ path, sizeBytes = 0, etag = "" }: FileEntry, signal?: AbortSignal): Promise<FileStamp> {
    if (/^[0-9a-f]{64}$/.test(etag)) return { bytes: sizeBytes, sha256: etag };
    if (/^[0-9a-f]{40}$/.test(etag)) return { bytes: sizeBytes, gitSha1: etag };
    return stampFile(await this.#files.localPath(path), signal);
  }
}

/** Size and hash of a local file. */
export async function stampFile(path: string, signal?: AbortSignal): Promise<FileStamp> {
  const file = await open(path, "r");
  try {
    const { size } = await file.stat();
    const whole = size <= hashLimitBytes;
    const ranges = whole
      ? [[0, size]]
      : [
          [0, endBytes],
          [size - endBytes, size],
        ];
    const hash = createHash("sha256");
    const buffer = new Uint8Array(endBytes);
    for (const [from, to] of ranges as [number, number][]) {
      for (let at = from; at < to; ) {
        signal?.throwIfAborted();
        const { bytesRead } = await file.read(buffer, 0, Math.min(endBytes, to - at), at);
        if (bytesRead === 0) break;
        hash.update(buffer.subarray(0, bytesRead));
        at += bytesRead;
      }
    }
    return { bytes: size, [whole ? "sha256" : "endsSha256"]: hash.digest("hex") };
  } finally {
    await file.close();
  }
}
