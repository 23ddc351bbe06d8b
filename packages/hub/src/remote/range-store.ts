// A repository without a disk: listing over HTTP, files read by range through the browser's cache. What browsers use.
import type { ByteSource } from "../byte-source.ts";
import { UnsupportedError } from "../errors.ts";
import { type FileEntry, type FileStore, noSuchFile, type OpenOptions, type ReadOptions } from "../model-files.ts";
import type { HubSettings } from "../settings.ts";
import { type RunningJobs, shared } from "../shared.ts";
import type { ChunkStore } from "./chunk-store.ts";
import { fetchListing, fileUrl, type Listing, withMetadata } from "./listing.ts";
import { RangeSource } from "./range-source.ts";

/** `FileStore` over HTTP ranges. */
export class RangeStore implements FileStore {
  readonly name: string;
  readonly parallelFiles: number;
  readonly #settings: HubSettings;
  readonly #chunks: ChunkStore | undefined;
  readonly #running: RunningJobs = new Map();
  #listing: Listing | undefined;

  constructor(settings: HubSettings, chunks: ChunkStore | undefined) {
    this.name = `${settings.repo}@${settings.revision}`;
    this.parallelFiles = settings.parallelFiles;
    this.#settings = settings;
    this.#chunks = chunks;
    if (settings.offline) {
      throw new UnsupportedError(
        "huggingFace",
        `${this.name}: offline needs a cache on disk, which browsers do not have; leave offline out`,
      );
    }
  }

  async list(options: ReadOptions): Promise<readonly FileEntry[]> {
    return [...(await this.#files(options.signal)).entries.values()];
  }

  async revision(options: ReadOptions): Promise<string> {
    return (await this.#files(options.signal)).commit;
  }

  async open(path: string, options: OpenOptions): Promise<ByteSource> {
    const { http, repo, revision, signal, onProgress } = this.#settings;
    const { commit, entries } = await this.#files(options.signal);
    const entry = entries.get(path);
    if (entry === undefined) throw noSuchFile("open", path, this.name, [...entries.values()]);
    const context = { op: "open", repo, revision, path };
    const { sizeBytes, etag } = await withMetadata(http, entry, context, commit, options.signal);
    const report = options.onProgress ?? onProgress;
    const url = fileUrl(http, repo, commit, path);
    return new RangeSource({ http, url, sizeBytes, etag, context, signal, chunks: this.#chunks, onProgress: report });
  }

  async localPath(path: string): Promise<string> {
    throw new UnsupportedError("localPath", `${this.name} ${path}: there is no local disk here; use open() and read the bytes`);
  }

  async #files(signal: AbortSignal | undefined): Promise<Listing> {
    const { http, repo, revision } = this.#settings;
    this.#listing ??= await shared(this.#running, "", signal, (stop) => fetchListing(http, repo, revision, stop));
    return this.#listing;
  }
}
