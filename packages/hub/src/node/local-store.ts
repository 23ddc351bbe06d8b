// A folder, or a single file, on the local disk.
import type { ByteSource } from "../byte-source.ts";
import { EntryNotFoundError } from "../errors.ts";
import { type FileEntry, type FileStore, noSuchFile, type OpenOptions } from "../model-files.ts";
import { checkFilePath } from "../names.ts";
import { fs, path } from "./builtins.ts";
import { filesUnder } from "./cache-layout.ts";
import { withDiskErrors } from "./disk-errors.ts";
import { openFileSource } from "./file-source.ts";

/** `FileStore` over what lies at a local path. */
export class LocalStore implements FileStore {
  readonly name: string;
  readonly parallelFiles = 8;
  readonly #folder: string;
  /** The one file there is, when the path named a file. */
  readonly #only: string | undefined;

  private constructor(name: string, folder: string, only: string | undefined) {
    this.name = name;
    this.#folder = folder;
    this.#only = only;
  }

  /** Looks at `target`; throws `EntryNotFoundError` when nothing is there. */
  static async at(target: string): Promise<LocalStore> {
    const full = path.resolve(target);
    const stats = await fs.stat(full).catch(() => undefined);
    if (stats?.isFile()) return new LocalStore(target, path.dirname(full), path.basename(full));
    if (stats?.isDirectory()) return new LocalStore(target, full, undefined);
    throw new EntryNotFoundError("localFolder", `no such file or folder: ${full}; check the path`);
  }

  async list(): Promise<readonly FileEntry[]> {
    const files = this.#only === undefined ? await filesUnder(this.#folder) : [this.#only];
    return Promise.all(files.map(async (file) => ({ path: file, sizeBytes: (await fs.stat(path.join(this.#folder, file))).size })));
  }

  async open(file: string, _options: OpenOptions): Promise<ByteSource> {
    return openFileSource(await this.localPath(file));
  }

  async localPath(file: string): Promise<string> {
    checkFilePath("open", file);
    const full = path.join(this.#folder, ...file.split("/"));
    const isOther = this.#only !== undefined && file !== this.#only;
    const stats = isOther ? undefined : await fs.stat(full).catch(() => undefined);
    if (stats?.isFile()) return full;
    throw noSuchFile("open", file, this.name, await withDiskErrors("open", this.name, () => this.list()));
  }

  async revision(): Promise<undefined> {
    return undefined;
  }
}
