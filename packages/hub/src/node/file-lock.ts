// A lock between processes: a file created exclusively, refreshed while held, taken over when its owner is dead or silent.
// Node has no flock; the file's name differs from the Python library's lock so that its leftovers never block us.
import { delay } from "../remote/http.ts";
import { crypto, fs, os, path } from "./builtins.ts";
import { errorCode } from "./disk-errors.ts";

const refreshMs = 2_000;
const silentMs = 20_000;
const pollMs = 100;

interface Owner {
  readonly pid: number;
  readonly host: string;
  readonly id: string;
}

/** Runs `work` while holding `lockFile`; `onWait` is called at every poll while another process holds it. */
export async function withFileLock<T>(
  lockFile: string,
  signal: AbortSignal | undefined,
  onWait: () => void,
  work: () => Promise<T>,
): Promise<T> {
  const release = await acquire(lockFile, signal, onWait);
  try {
    return await work();
  } finally {
    await release();
  }
}

async function acquire(lockFile: string, signal: AbortSignal | undefined, onWait: () => void): Promise<() => Promise<void>> {
  await fs.mkdir(path.dirname(lockFile), { recursive: true });
  const owner: Owner = { pid: process.pid, host: os.hostname(), id: crypto.randomUUID() };
  for (;;) {
    signal?.throwIfAborted();
    if (await createExclusively(lockFile, JSON.stringify(owner))) return hold(lockFile, owner);
    if (await isAbandoned(lockFile)) await removeAbandoned(lockFile);
    else {
      onWait();
      await delay(pollMs, signal);
    }
  }
}

function hold(lockFile: string, owner: Owner): () => Promise<void> {
  const refresh = () => void fs.utimes(lockFile, new Date(), new Date()).catch(() => undefined);
  const timer = setInterval(refresh, refreshMs);
  timer.unref();
  return async () => {
    clearInterval(timer);
    if ((await readOwner(lockFile))?.id === owner.id) await fs.rm(lockFile, { force: true });
  };
}

async function createExclusively(file: string, text: string): Promise<boolean> {
  try {
    await fs.writeFile(file, text, { flag: "wx" });
    return true;
  } catch (error) {
    if (errorCode(error) === "EEXIST") return false;
    throw error;
  }
}

async function isAbandoned(lockFile: string): Promise<boolean> {
  const stats = await fs.stat(lockFile).catch(() => undefined);
  if (stats === undefined) return false;
  if (Date.now() - stats.mtimeMs > silentMs) return true;
  const owner = await readOwner(lockFile);
  return owner !== undefined && owner.host === os.hostname() && !isAlive(owner.pid);
}

// Only one process at a time may take a lock over, and it looks again first: otherwise a second one would remove the new owner's lock.
async function removeAbandoned(lockFile: string): Promise<void> {
  const guard = `${lockFile}.takeover`;
  if (!(await createExclusively(guard, ""))) {
    const stats = await fs.stat(guard).catch(() => undefined);
    if (stats && Date.now() - stats.mtimeMs > silentMs) await fs.rm(guard, { force: true });
    await delay(pollMs);
    return;
  }
  try {
    if (await isAbandoned(lockFile)) await fs.rm(lockFile, { force: true });
  } finally {
    await fs.rm(guard, { force: true });
  }
}

async function readOwner(lockFile: string): Promise<Owner | undefined> {
  try {
    return JSON.parse(await fs.readFile(lockFile, "utf8")) as Owner;
  } catch {
    return undefined; // Being written or removed right now; its age decides.
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errorCode(error) === "EPERM";
  }
}
