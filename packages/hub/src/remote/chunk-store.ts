// Where a range source keeps the pieces it fetched: the browser's Cache Storage (on disk, survives a reload).

/** Keeps pieces of files by key; a key always means the same bytes. */
export interface ChunkStore {
  get(key: string): Promise<Uint8Array | undefined>;
  /** Keeps a copy if there is room; having no room is not an error. */
  put(key: string, bytes: Uint8Array): Promise<void>;
}

// The DOM library is not part of this build; these are the two calls used of it.
interface CacheLike {
  match(key: string): Promise<Response | undefined>;
  put(key: string, response: Response): Promise<void>;
}
interface CacheStorageLike {
  open(name: string): Promise<CacheLike>;
}

/** The name of the browser cache; `caches.delete(cacheName)` frees it. */
export const cacheName = "wick-hub-v1";

/** A store in the browser's Cache Storage, or `undefined` where there is none (Node, insecure pages). */
export function browserChunkStore(onNotice: (text: string) => void): ChunkStore | undefined {
  const storage = (globalThis as { caches?: CacheStorageLike }).caches;
  if (storage === undefined) return undefined;
  let full = false;
  const cache = storage.open(cacheName);
  cache.catch(() => undefined);
  return {
    async get(key) {
      const found = await (await cache).match(key);
      return found && new Uint8Array(await found.arrayBuffer());
    },
    async put(key, bytes) {
      if (full) return;
      try {
        await (await cache).put(key, new Response(bytes as Uint8Array<ArrayBuffer>));
      } catch (error) {
        full = true;
        onNotice(`the browser keeps no more downloaded data: ${(error as Error).message}`);
      }
    },
  };
}
