// What `wick doctor --tune` measured on this machine's adapters, kept in the user's cache folder and used by every command that opens a GPU.
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import type { Tuning } from "@wick/tensor";
import { CliError } from "./cli-error.ts";

/** XDG_CACHE_HOME/wick/tuning.json, by default ~/.cache/wick/tuning.json; LOCALAPPDATA on Windows. */
export function tuningFile(env: NodeJS.ProcessEnv = process.env): string {
  const folder = env["XDG_CACHE_HOME"] || (process.platform === "win32" && env["LOCALAPPDATA"]) || join(homedir(), ".cache");
  return join(folder, "wick", "tuning.json");
}

/** All adapters' tunings, empty where nothing was measured; throws CliError when the file holds something else. */
export async function readTunings(path = tuningFile()): Promise<readonly Tuning[]> {
  const text = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw new CliError(`${path} cannot be read (${error.code}); make it readable or delete it`, 1, { cause: error });
  });
  if (text === undefined) return [];
  const tunings = parsed(text);
  if (!tunings) throw new CliError(`${path} holds no tunings; delete it, or run wick doctor --tune again`, 1);
  return tunings;
}

function parsed(text: string): readonly Tuning[] | undefined {
  try {
    const { tunings } = JSON.parse(text) as { tunings?: unknown };
    return Array.isArray(tunings) && tunings.every(isTuning) ? tunings : undefined;
  } catch {
    return undefined; // not JSON, or JSON that is no object: said by the caller
  }
}

function isTuning(value: unknown): value is Tuning {
  const { adapter, tier, variants, attention = {} } = (value ?? {}) as Partial<Record<keyof Tuning, unknown>>;
  return typeof adapter === "string" && typeof tier === "string" && [variants, attention].every((x) => typeof x === "object" && x !== null);
}

/** Puts an adapter's tuning in the place of its earlier one. A file that holds something else is replaced. */
export async function keepTuning({ adapter, tier, variants, attention }: Tuning, path = tuningFile()): Promise<void> {
  const others = (await readTunings(path).catch(() => [])).filter((t) => t.adapter !== adapter);
  await mkdir(dirname(path), { recursive: true });
  const tuning: Tuning = { adapter, tier, variants, ...(attention ? { attention } : {}) };
  const partial = `${path}.${process.pid}`;
  await writeFile(partial, `${JSON.stringify({ tunings: [...others, tuning] }, null, 2)}\n`);
  await rename(partial, path);
}
