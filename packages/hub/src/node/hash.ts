// Content hashes as the hub states them: sha256 of a large file, git's blob sha1 of a small one; and the memory of what was checked.
import type { Hash } from "node:crypto";
import type { BigIntStats } from "node:fs";
import { crypto, fs, path } from "./builtins.ts";

/** A running hash that ends in the etag of the bytes, or `undefined` where an etag is no hash we know. */
export function etagHash(etag: string, sizeBytes: number): Hash | undefined {
  if (/^[0-9a-f]{64}$/.test(etag)) return crypto.createHash("sha256");
  if (/^[0-9a-f]{40}$/.test(etag)) return crypto.createHash("sha1").update(`blob ${sizeBytes}\0`);
  return undefined;
}

/** Feeds the first `lengthBytes` of a file into `hash`. */
export async function hashFile(
  file: string,
  lengthBytes: number,
  hash: Hash,
  onBytes: (bytes: number) => void,
  signal?: AbortSignal,
): Promise<void> {
  const handle = await fs.open(file, "r");
  try {
    const buffer = new Uint8Array(Math.min(2 ** 20, Math.max(1, lengthBytes)));
    for (let at = 0; at < lengthBytes; ) {
      signal?.throwIfAborted();
      const { bytesRead } = await handle.read(buffer, 0, Math.min(buffer.byteLength, lengthBytes - at), at);
      if (bytesRead === 0) return;
      hash.update(buffer.subarray(0, bytesRead));
      at += bytesRead;
      onBytes(bytesRead);
    }
  } finally {
    await handle.close();
  }
}

/** Whether a blob has the content its etag names. A blob checked once is not hashed again until its size or time changes. */
export async function blobIsIntact(
  blob: string,
  marksFolder: string,
  etag: string,
  sizeBytes: number | undefined,
  signal?: AbortSignal,
): Promise<boolean> {
  const stats = await fs.stat(blob, { bigint: true });
  if (sizeBytes !== undefined && stats.size !== BigInt(sizeBytes)) return false;
  const hash = etagHash(etag, Number(stats.size));
  if (hash === undefined) return true;
  const mark = path.join(marksFolder, `${etag}.checked`);
  if ((await fs.readFile(mark, "utf8").catch(() => "")) === fingerprint(stats)) return true;
  await hashFile(blob, Number(stats.size), hash, () => undefined, signal);
  if (hash.digest("hex") !== etag) return false;
  await writeMark(mark, stats);
  return true;
}

/** Remembers that `blob` was just checked while it was downloaded. */
export async function markIntact(blob: string, marksFolder: string, etag: string): Promise<void> {
  await writeMark(path.join(marksFolder, `${etag}.checked`), await fs.stat(blob, { bigint: true }));
}

function fingerprint(stats: BigIntStats): string {
  return `${stats.size} ${stats.mtimeNs}`;
}

// A cache that cannot be written is hashed again next time, which is slower and still right.
async function writeMark(mark: string, stats: BigIntStats): Promise<void> {
  const write = async () => {
    await fs.mkdir(path.dirname(mark), { recursive: true });
    await fs.writeFile(mark, fingerprint(stats));
  };
  await write().catch(() => undefined);
}
