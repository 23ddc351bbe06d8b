// Everything that touches the disk; reached only through a dynamic import, so that browsers never load it.
import type { FileStore } from "../model-files.ts";
import { type HubOptions, resolveSettings } from "../settings.ts";
import { fs } from "./builtins.ts";
import { CacheStore } from "./cache-store.ts";
import { readEnvironment } from "./environment.ts";
import { LocalStore } from "./local-store.ts";

export { readEnvironment };

/** The store of a repository, with the environment's defaults. */
export async function openCacheStore(repo: string, options: HubOptions): Promise<FileStore> {
  return new CacheStore(resolveSettings(repo, options, await readEnvironment()));
}

/** The store of a local file or folder. */
export async function openLocalStore(path: string): Promise<FileStore> {
  return LocalStore.at(path);
}

/** Whether anything is at a local path. */
export async function exists(path: string): Promise<boolean> {
  return fs.stat(path).then(
    () => true,
    () => false,
  );
}
