// A repository's files through the cache on disk: listing (online or cached), download under a lock, verified reuse.
import type { ByteSource } from "../byte-source.ts";
import { HashMismatchError, NetworkError, OfflineError, RemoteChangedError } from "../errors.ts";
import { type ByteProgress, type FileEntry, type FileStore, noSuchFile, type OpenOptions, type ReadOptions } from "../model-files.ts";
import { isCommit } from "../names.ts";
import { fetchListing, fileUrl, type Listing, withMetadata } from "../remote/listing.ts";
import { RangeSource } from "../remote/range-source.ts";
import type { HubSettings } from "../settings.ts";
import { type RunningJobs, shared } from "../shared.ts";
import { fs } from "./builtins.ts";
import { CacheLayout } from "./cache-layout.ts";
import { errorCode, withDiskErrors } from "./disk-errors.ts";
import { downloadBlob, incompleteFile } from "./download.ts";
import { withFileLock } from "./file-lock.ts";
import { openFileSource } from "./file-source.ts";
import { blobIsIntact, markIntact } from "./hash.ts";

const progressEveryMs = 50;
const changeLimit = 3;

/** `FileStore` over the Python cache layout. */
export class CacheStore implements FileStore {
  readonly name: string;
  readonly parallelFiles: number;
  readonly #settings: HubSettings;
  readonly #layout: CacheLayout;
  readonly #running: RunningJobs = new Map();
  #listing: Listing | undefined;
  #offline: boolean;

  constructor(settings: HubSettings) {
    this.name = `${settings.repo}@${settings.revision}`;
    this.parallelFiles = settings.parallelFiles;
    this.#settings = settings;
    this.#layout = new CacheLayout(settings.cacheDir, settings.repo);
    this.#offline = settings.offline;
  }

  async list(options: ReadOptions): Promise<readonly FileEntry[]> {
    return [...(await this.#files(options.signal)).entries.values()];
  }

  async revision(options: ReadOptions): Promise<string> {
    return (await this.#files(options.signal)).commit;
  }

  async open(path: string, options: OpenOptions): Promise<ByteSource> {
    if (options.via === "ranges" && !(await this.#isCached(path))) return this.#openRanges(path, options);
    return openFileSource(await this.localPath(path, options), `${this.name} ${path}`);
  }

  async localPath(path: string, options: ReadOptions): Promise<string> {
    const signal = this.#both(options.signal);
    return shared(this.#running, path, signal, (stop) => this.#obtain(path, this.#reporter(path, options), stop));
  }

  async #obtain(path: string, report: (loadedBytes: number, totalBytes: number) => void, signal: AbortSignal): Promise<string> {
    const pinned = await this.#pinnedFile(path, signal);
    if (pinned !== undefined) return pinned;
    for (let changes = 0; ; changes++) {
      const listing = await this.#files(signal);
      const entry = this.#entry(listing, path);
      try {
        if (this.#offline) return await this.#fromCache(listing.commit, entry, signal);
        return await this.#fetch(listing.commit, entry, report, signal);
      } catch (error) {
        if (!(error instanceof RemoteChangedError) || changes >= changeLimit) throw error;
        this.#listing = undefined; // Ask again what the file is now, and start over with that.
      }
    }
  }

  // A full commit hash never moves, so a file of it that is in the cache needs no question to the server.
  async #pinnedFile(path: string, signal: AbortSignal): Promise<string | undefined> {
    const { revision } = this.#settings;
    if (!isCommit(revision)) return undefined;
    const etag = await this.#layout.linkedEtag(revision, path);
    if (etag === undefined || !(await this.#intact(etag, undefined, signal))) return undefined;
    return this.#layout.pointer(revision, path);
  }

  async #fetch(commit: string, entry: FileEntry, report: (loaded: number, total: number) => void, signal: AbortSignal): Promise<string> {
    const { http, repo } = this.#settings;
    const context = this.#context(entry.path);
    const full = await withMetadata(http, entry, context, commit, signal);
    const reportLoaded = (loadedBytes: number) => report(loadedBytes, full.sizeBytes);
    return withDiskErrors(context.op, this.#layout.repoDir, async () => {
      const { etag, sizeBytes } = full;
      if (!(await this.#layout.isLinked(commit, entry.path, etag)) || !(await this.#intact(etag, sizeBytes, signal))) {
        const blob = this.#layout.blob(etag);
        const onWait = () =>
          void fs.stat(incompleteFile(blob)).then(
            (stats) => reportLoaded(stats.size),
            () => undefined,
          );
        await withFileLock(this.#layout.lock(etag), signal, onWait, async () => {
          if (!(await this.#intact(etag, sizeBytes, signal))) {
            await fs.rm(blob, { force: true });
            const url = fileUrl(http, repo, commit, entry.path);
            await downloadBlob({ http, url, entry: full, context, blob, signal, onBytes: reportLoaded });
            await markIntact(blob, this.#layout.marksDir, etag);
          }
          await this.#layout.link(commit, entry.path, etag);
        });
      }
      reportLoaded(sizeBytes);
      return this.#layout.pointer(commit, entry.path);
    });
  }

  async #fromCache(commit: string, entry: FileEntry, signal: AbortSignal): Promise<string> {
    const pointer = this.#layout.pointer(commit, entry.path);
    if (entry.etag === undefined || (await this.#intact(entry.etag, entry.sizeBytes, signal))) return pointer;
    const detail = `${this.name} ${entry.path}: the cached file is damaged: ${pointer}`;
    throw new HashMismatchError("open", `${detail}; go online to fetch it again`);
  }

  // Whether the blob is there, complete and unchanged.
  async #intact(etag: string, sizeBytes: number | undefined, signal: AbortSignal): Promise<boolean> {
    try {
      return await blobIsIntact(this.#layout.blob(etag), this.#layout.marksDir, etag, sizeBytes, signal);
    } catch (error) {
      if (errorCode(error) === "ENOENT") return false;
      throw error;
    }
  }

  async #files(signal: AbortSignal | undefined): Promise<Listing> {
    if (this.#listing !== undefined) return this.#listing;
    this.#listing = await shared(this.#running, "", this.#both(signal), (stop) => this.#findListing(stop));
    return this.#listing;
  }

  async #findListing(signal: AbortSignal): Promise<Listing> {
    const { http, repo, revision, offline } = this.#settings;
    if (offline) return this.#layout.cachedListing(revision);
    try {
      const listing = await fetchListing(http, repo, revision, signal);
      this.#offline = false;
      await this.#rememberRef(revision, listing.commit);
      return listing;
    } catch (error) {
      if (!(error instanceof NetworkError)) throw error;
      const cached = await this.#layout.cachedListing(revision).catch(() => undefined);
      if (cached === undefined) throw error;
      this.#offline = true;
      this.#settings.onNotice(`${this.name}: using the cache, because ${error.message}`);
      return cached;
    }
  }

  // A cache that is mounted read-only can still be read.
  async #rememberRef(revision: string, commit: string): Promise<void> {
    try {
      await this.#layout.writeRef(revision, commit);
    } catch (error) {
      if (!["EACCES", "EPERM", "EROFS"].includes(errorCode(error) ?? "")) {
        await withDiskErrors("huggingFace", this.#layout.repoDir, () => Promise.reject(error as Error));
      }
    }
  }

  #entry(listing: Listing, path: string): FileEntry {
    const entry = listing.entries.get(path);
    if (entry !== undefined) return entry;
    if (!this.#offline) throw noSuchFile("open", path, this.name, [...listing.entries.values()]);
    const detail = `${this.name} ${path} is not in the cache ${this.#settings.cacheDir}, and the network is off`;
    throw new OfflineError("open", `${detail}; download it once while online`);
  }

  async #isCached(path: string): Promise<boolean> {
    const listing = await this.#files(undefined);
    const { etag } = this.#entry(listing, path);
    return this.#offline || (etag !== undefined && (await this.#layout.linkedEtag(listing.commit, path)) === etag);
  }

  async #openRanges(path: string, options: OpenOptions): Promise<ByteSource> {
    const { http, repo, signal, onProgress } = this.#settings;
    const { commit, entries } = await this.#files(options.signal);
    const context = this.#context(path);
    const { sizeBytes, etag } = await withMetadata(http, entries.get(path)!, context, commit, options.signal);
    const url = fileUrl(http, repo, commit, path);
    return new RangeSource({ http, url, sizeBytes, etag, context, signal, onProgress: options.onProgress ?? onProgress });
  }

  #context(path: string) {
    return { op: "open", repo: this.#settings.repo, revision: this.#settings.revision, path };
  }

  #both(signal: AbortSignal | undefined): AbortSignal | undefined {
    const own = this.#settings.signal;
    return own && signal ? AbortSignal.any([own, signal]) : (own ?? signal);
  }

  // At most one event per `progressEveryMs` and file, and always the last one.
  #reporter(file: string, options: ReadOptions): (loadedBytes: number, totalBytes: number) => void {
    let last = Number.NEGATIVE_INFINITY;
    let finished = false;
    return (loadedBytes, totalBytes) => {
      const isLast = loadedBytes === totalBytes;
      if (isLast ? finished : performance.now() - last < progressEveryMs) return;
      last = performance.now();
      finished = isLast;
      const progress: ByteProgress = { file, loadedBytes, totalBytes };
      this.#settings.onProgress?.(progress);
      options.onProgress?.(progress);
    };
  }
}
