// Files a command writes: checked before the work, complete or absent after it.
import { access, constants, open, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { CliError } from "./cli-error.ts";

/** Throws unless a file can be made (or replaced) at `path`, which the user gave as `option`; asked before minutes of work are spent. */
export async function checkWritable(path: string, option = "--out"): Promise<void> {
  const folder = dirname(resolve(path));
  const place = await stat(folder).catch(() => undefined);
  if (!place) throw new CliError(`cannot write ${path}: there is no folder ${folder}; create it, or choose another ${option}`);
  if (!place.isDirectory()) throw new CliError(`cannot write ${path}: ${folder} is not a folder; choose another ${option}`);
  if ((await stat(path).catch(() => undefined))?.isDirectory()) {
    throw new CliError(`cannot write ${path}: it is a folder; give the name of a file in it`);
  }
  await access(folder, constants.W_OK).catch((cause: unknown) => {
    throw new CliError(`cannot write ${path}: ${folder} is not writable for you; choose another ${option}`, 1, { cause });
  });
}

/** Writes a file beside its place and renames it, so that no partial file is ever seen under its name; on failure nothing is left. */
export async function writeWhole(path: string, bytes: Uint8Array): Promise<void> {
  const part = join(dirname(resolve(path)), `.${basename(path)}.${process.pid}.part`);
  try {
    const file = await open(part, "w");
    try {
      await file.writeFile(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(part, path);
  } catch (error) {
    await rm(part, { force: true }).catch(() => undefined);
    throw named(error, path);
  }
}

/** A failure of the file system with the file it happened to, which the system does not say of writing. */
export function named(error: unknown, path: string): unknown {
  const failure = error as NodeJS.ErrnoException;
  if (error instanceof Error && failure.syscall !== undefined) failure.path ??= path;
  return error;
}

/** The first of `stem.ext`, `stem-2.ext`, … that does not exist. */
export async function freeName(stem: string, extension: string): Promise<string> {
  for (let n = 1; ; n++) {
    const name = `${stem}${n === 1 ? "" : `-${n}`}${extension}`;
    if (!(await stat(name).catch(() => undefined))) return name;
  }
}
