// The Python library's cache on disk: models--org--name/{blobs,refs,snapshots}, snapshots being relative links into blobs.
// Reference: huggingface/huggingface_hub src/huggingface_hub/file_download.py.
import { OfflineError } from "../errors.ts";
import type { FileEntry } from "../model-files.ts";
import { checkEtag, checkFilePath, isCommit } from "../names.ts";
import type { Listing } from "../remote/listing.ts";
import { crypto, fs, path } from "./builtins.ts";
import { errorCode } from "./disk-errors.ts";

/** The places of one repository in a cache folder. */
export class CacheLayout {
  readonly cacheDir: string;
  readonly repo: string;
  readonly repoDir: string;
  /** Which blobs were hashed and when; ours, in a folder the Python library ignores. */
  readonly marksDir: string;

  constructor(cacheDir: string, repo: string) {
    this.cacheDir = cacheDir;
    this.repo = repo;
    this.repoDir = path.join(cacheDir, folderName(repo));
    this.marksDir = path.join(this.repoDir, ".wick");
  }

  blob(etag: string): string {
    return path.join(this.repoDir, "blobs", checkEtag("huggingFace", etag));
  }

  lock(etag: string): string {
    return path.join(this.cacheDir, ".locks", folderName(this.repo), `${checkEtag("huggingFace", etag)}.wick.lock`);
  }

  pointer(commit: string, file: string): string {
    return path.join(this.repoDir, "snapshots", commit, ...checkFilePath("huggingFace", file).split("/"));
  }

  /** Writes which commit a branch or tag was last seen at. */
  async writeRef(revision: string, commit: string): Promise<void> {
    if (revision === commit) return;
    const ref = path.join(this.repoDir, "refs", ...revision.split("/"));
    if ((await fs.readFile(ref, "utf8").catch(() => "")) === commit) return;
    await fs.mkdir(path.dirname(ref), { recursive: true });
    await replaceFile(ref, (temporary) => fs.writeFile(temporary, commit));
  }

  /** The commit the cache knows for a revision, or `undefined`. */
  async readRef(revision: string): Promise<string | undefined> {
    if (isCommit(revision)) return revision;
    const text = await fs.readFile(path.join(this.repoDir, "refs", ...revision.split("/")), "utf8").catch(() => "");
    return isCommit(text.trim()) ? text.trim() : undefined;
  }

  /** What the cache holds of a revision, without the network; throws `OfflineError` when it holds nothing. */
  async cachedListing(revision: string): Promise<Listing> {
    const commit = await this.readRef(revision);
    const folder = commit && path.join(this.repoDir, "snapshots", commit);
    const found = folder ? await filesUnder(folder) : [];
    if (commit === undefined || found.length === 0) {
      const detail = `${this.repo}@${revision} is not in the cache ${this.cacheDir}`;
      throw new OfflineError(
        "huggingFace",
        `${detail}; download it once while online, or point HF_HOME or cacheDir at a cache that has it`,
      );
    }
    const entries = new Map<string, FileEntry>();
    for (const file of found) entries.set(file, await this.#cachedEntry(commit, file));
    return { commit, entries };
  }

  /** The etag a snapshot's file links to, or `undefined` when it is a plain copy (Windows without links) or missing. */
  async linkedEtag(commit: string, file: string): Promise<string | undefined> {
    const target = await fs.readlink(this.pointer(commit, file)).catch(() => undefined);
    return target === undefined ? undefined : path.basename(target);
  }

  /** Whether the snapshot's file is there and leads to the blob: by link, or as a copy of the same size where links are not allowed. */
  async isLinked(commit: string, file: string, etag: string): Promise<boolean> {
    const stats = await fs.lstat(this.pointer(commit, file)).catch(() => undefined);
    if (stats === undefined) return false;
    if (stats.isSymbolicLink()) return (await this.linkedEtag(commit, file)) === etag;
    return stats.size === (await fs.stat(this.blob(etag)).catch(() => undefined))?.size;
  }

  /** Makes the snapshot's file point at its blob: a relative link, or a copy where links are not allowed. */
  async link(commit: string, file: string, etag: string): Promise<string> {
    const pointer = this.pointer(commit, file);
    await fs.mkdir(path.dirname(pointer), { recursive: true });
    const target = path.relative(path.dirname(pointer), this.blob(etag));
    await replaceFile(pointer, async (temporary) => {
      try {
        await fs.symlink(target, temporary);
      } catch (error) {
        if (!["EPERM", "ENOSYS", "EINVAL", "ENOTSUP"].includes(errorCode(error) ?? "")) throw error;
        await fs.copyFile(this.blob(etag), temporary);
      }
    });
    return pointer;
  }

  async #cachedEntry(commit: string, file: string): Promise<FileEntry> {
    const { size } = await fs.stat(this.pointer(commit, file));
    const etag = await this.linkedEtag(commit, file);
    return { path: file, sizeBytes: size, ...(etag === undefined ? {} : { etag }) };
  }
}

/** Relative forward-slash paths of all readable files below `folder`, following links; dangling links are left out. */
export async function filesUnder(folder: string, depthLimit = 16): Promise<string[]> {
  const found: string[] = [];
  const visit = async (relative: string, depth: number): Promise<void> => {
    for (const name of await fs.readdir(path.join(folder, relative)).catch(() => [])) {
      const below = relative === "" ? name : `${relative}/${name}`;
      const stats = await fs.stat(path.join(folder, below)).catch(() => undefined);
      if (stats?.isFile()) found.push(below);
      else if (stats?.isDirectory() && depth < depthLimit && name !== ".git" && name !== "node_modules") await visit(below, depth + 1);
    }
  };
  await visit("", 0);
  return found;
}

function folderName(repo: string): string {
  return ["models", ...repo.split("/")].join("--");
}

async function replaceFile(file: string, write: (temporary: string) => Promise<void>): Promise<void> {
  const temporary = `${file}.${crypto.randomBytes(4).toString("hex")}.tmp`;
  try {
    await write(temporary);
    await fs.rename(temporary, file);
  } catch (error) {
    await fs.rm(temporary, { force: true });
    throw error;
  }
}
