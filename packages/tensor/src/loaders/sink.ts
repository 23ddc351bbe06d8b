// Where written checkpoints go: memory, or a local file that appears under its name only when it is complete.
import { nodeModule } from "./node-module.ts";
import { SourceError } from "./source.ts";

/** Takes bytes in order. */
export interface ByteSink {
  /** Appends bytes; resolves when they may be reused. */
  write(bytes: Uint8Array): Promise<void>;
}

/** A sink that keeps what it gets; `bytes()` joins it. */
export function memorySink(): ByteSink & {
  /** Everything written so far. */
  bytes(): Uint8Array<ArrayBuffer>;
} {
  const parts: Uint8Array[] = [];
  return {
    async write(bytes) {
      parts.push(bytes.slice());
    },
    bytes() {
      const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
      let at = 0;
      for (const part of parts) {
        out.set(part, at);
        at += part.length;
      }
      return out;
    },
  };
}

/**
 * Writes a local file through `write` (Node only). The file is written beside its place and renamed when `write` resolves;
 * when it rejects nothing is left behind. Rejects with SourceError when the file cannot be written.
 */
export async function writeFileAtomically(path: string, write: (sink: ByteSink) => Promise<void>): Promise<void> {
  const { open, rename, rm } = nodeModule("writeFile", "node:fs/promises");
  const part = `${path}.${Math.random().toString(36).slice(2)}.part`;
  const handle = await open(part, "wx").catch((cause: unknown) => {
    throw new SourceError("writeFile", `cannot write ${path}`, { cause });
  });
  try {
    await write({
      async write(bytes) {
        for (let at = 0; at < bytes.length; ) at += (await handle.write(bytes, at, bytes.length - at)).bytesWritten;
      },
    });
    await handle.close();
    await rename(part, path);
  } catch (error) {
    await handle.close().catch(() => {});
    await rm(part, { force: true });
    throw error;
  }
}
