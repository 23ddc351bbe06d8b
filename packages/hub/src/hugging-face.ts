// The three ways in: a Hugging Face repository, a local path, or a string that names either.
import type { ByteSource } from "./byte-source.ts";
import { UnsupportedError } from "./errors.ts";
import { type FileEntry, type FileStore, type ModelFiles, type OpenOptions, type ReadOptions, StoredFiles } from "./model-files.ts";
import { checkRepoId, checkRevision } from "./names.ts";
import { browserChunkStore } from "./remote/chunk-store.ts";
import { RangeStore } from "./remote/range-store.ts";
import { type HubDefaults, type HubOptions, resolveSettings } from "./settings.ts";

/**
 * The files of a Hugging Face repository `org/name`: in Node through the Python library's cache on disk, in browsers by HTTP
 * range. Nothing is asked of the network before the first call on the result. Throws `InvalidNameError` at once for a bad name.
 */
export function huggingFace(repo: string, options: HubOptions = {}): ModelFiles {
  checkRepoId(repo);
  const revision = checkRevision(options.revision ?? "main");
  const { parallelFiles = 4 } = options;
  const name = `${repo}@${revision}`;
  return new StoredFiles(new LazyStore(name, parallelFiles, () => openRepository(repo, options)));
}

/** The files of a local folder, or of a single file as a folder with one file in it. Node only. */
export function localFolder(path: string): ModelFiles {
  return new StoredFiles(new LazyStore(path, 8, async () => (await nodeModule("localFolder", path)).openLocalStore(path)));
}

/**
 * The files that a string names: a local file or folder that exists, or a path that looks like one (`./x`, `/x`, `C:\x`);
 * otherwise a repository, `org/name` or `org/name@revision`.
 */
export async function modelFiles(where: string, options: HubOptions = {}): Promise<ModelFiles> {
  const looksLocal = /^(\.{0,2}[/\\]|\.{1,2}$|[A-Za-z]:[/\\])/.test(where);
  if (looksLocal || (isNode() && (await (await nodeModule("modelFiles", where)).exists(where)))) return localFolder(where);
  const at = where.indexOf("@");
  if (at < 0) return huggingFace(where, options);
  return huggingFace(where.slice(0, at), { ...options, revision: where.slice(at + 1) });
}

/** Server, cache folder, token and mode that `huggingFace` uses where its options say nothing: those of the Python library's environment. Node only. */
export async function hubDefaults(): Promise<HubDefaults> {
  return (await nodeModule("hubDefaults", "the environment")).readEnvironment();
}

/** A store that is made at the first call, because making it needs the disk or a module loaded on demand. */
class LazyStore implements FileStore {
  readonly name: string;
  readonly parallelFiles: number;
  readonly #make: () => Promise<FileStore>;
  #made: Promise<FileStore> | undefined;

  constructor(name: string, parallelFiles: number, make: () => Promise<FileStore>) {
    this.name = name;
    this.parallelFiles = parallelFiles;
    this.#make = make;
  }

  async list(options: ReadOptions): Promise<readonly FileEntry[]> {
    return (await this.#store()).list(options);
  }

  async open(path: string, options: OpenOptions): Promise<ByteSource> {
    return (await this.#store()).open(path, options);
  }

  async localPath(path: string, options: ReadOptions): Promise<string> {
    return (await this.#store()).localPath(path, options);
  }

  async revision(options: ReadOptions): Promise<string | undefined> {
    return (await this.#store()).revision(options);
  }

  // A failure (a folder that is not there yet) is not remembered.
  async #store(): Promise<FileStore> {
    this.#made ??= this.#make();
    try {
      return await this.#made;
    } catch (error) {
      this.#made = undefined;
      throw error;
    }
  }
}

async function openRepository(repo: string, options: HubOptions): Promise<FileStore> {
  if (isNode()) return (await nodeModule("huggingFace", repo)).openCacheStore(repo, options);
  const settings = resolveSettings(repo, options, {});
  return new RangeStore(settings, browserChunkStore(settings.onNotice));
}

function isNode(): boolean {
  return typeof process !== "undefined" && typeof process.getBuiltinModule === "function" && process.versions?.node !== undefined;
}

async function nodeModule(op: string, subject: string): Promise<typeof import("./node/index.ts")> {
  if (isNode()) return import("./node/index.ts");
  throw new UnsupportedError(op, `${subject}: there is no local disk here; use huggingFace("org/name")`);
}
