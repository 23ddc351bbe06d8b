// File system failures as typed errors: no room, no permission, and what to do.
import { CacheAccessError, DiskFullError, HubError } from "../errors.ts";

/** The error code of a Node file system error, or `undefined`. */
export function errorCode(error: unknown): string | undefined {
  return error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
}

/** Runs `work`; a file system failure inside becomes `DiskFullError` or `CacheAccessError`, anything else passes. */
export async function withDiskErrors<T>(op: string, place: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw diskError(op, place, error);
  }
}

function diskError(op: string, place: string, error: unknown): unknown {
  const code = errorCode(error);
  if (error instanceof HubError || code === undefined || (error as NodeJS.ErrnoException).syscall === undefined) return error;
  if (code === "ENOSPC" || code === "EDQUOT" || code === "EFBIG") {
    return new DiskFullError(op, `no room left: ${place} (${code}); free some space, or set HF_HOME or cacheDir to another disk`, {
      cause: error,
    });
  }
  const remedy = "check the permissions, or set HF_HOME or cacheDir to a folder you can write";
  return new CacheAccessError(op, `cannot use ${place}: ${(error as Error).message}; ${remedy}`, { cause: error });
}

/** Throws `DiskFullError` before a download that cannot fit; file systems that do not report free space pass. */
export async function checkFreeSpace(op: string, freeBytes: number | undefined, neededBytes: number, place: string): Promise<void> {
  if (freeBytes === undefined || freeBytes >= neededBytes) return;
  const detail = `${neededBytes} bytes are still to be downloaded, ${freeBytes} are free: ${place}`;
  throw new DiskFullError(op, `${detail}; free some space, or set HF_HOME or cacheDir to another disk`);
}
