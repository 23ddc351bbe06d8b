// Any error as one line with its remedy and an exit code. Stacks are for --debug.
import { CliError, type ExitCode, exitCodes } from "./cli-error.ts";

/** What to tell the user about an error. */
export interface Failure {
  readonly text: string;
  readonly code: ExitCode;
}

/** Errors of options given to a pipeline: the user's to correct on the command line. */
const usageErrors = new Set(["RequestError", "InvalidNameError"]);

/** Errors of ours that leave it to the system's error, their cause, to say what is wrong. */
const bareErrors = new Set(["SourceError"]);

/** File system failures by code: what they mean and what to do. */
const diskErrors: Readonly<Record<string, string>> = {
  ENOENT: "no such file or folder; check the path",
  EACCES: "permission denied; choose a place you may use, or change the permissions",
  EPERM: "not permitted; choose a place you may use, or change the permissions",
  EROFS: "the disk is read-only; choose another place",
  EISDIR: "this is a folder; give the name of a file in it",
  ENOTDIR: "a part of this path is a file, not a folder; check the path",
  ENOSPC: "no space is left on the disk; free some, or choose another disk",
  EDQUOT: "your disk quota is used up; free some space, or choose another disk",
  EFBIG: "the file is too large for this disk; choose another disk",
  EMFILE: "too many files are open; close some programs or raise the limit (ulimit -n)",
};

/** The one line and the exit code of an error; `aborted` is the reason of the command's signal, if it was aborted. */
export function describeFailure(error: unknown, aborted?: unknown): Failure {
  if (aborted instanceof CliError) return { text: aborted.message, code: aborted.exitCode };
  if (error instanceof CliError) return { text: oneLine(error.message), code: error.exitCode };
  const disk = findCause(
    error,
    (e) => (e as NodeJS.ErrnoException).code !== undefined && (e as NodeJS.ErrnoException).syscall !== undefined,
  );
  if (disk && !(error instanceof Error && isOurs(error) && !bareErrors.has(error.name)))
    return { text: diskText(disk as NodeJS.ErrnoException), code: exitCodes.failure };
  if (!(error instanceof Error)) return { text: `unexpected failure: ${String(error)}; run again with --debug`, code: exitCodes.failure };
  const code = usageErrors.has(error.name) ? exitCodes.usage : exitCodes.failure;
  if (isOurs(error)) return { text: oneLine(inOptions(error)), code };
  return { text: oneLine(`unexpected failure: ${error.name}: ${error.message}; run again with --debug for details`), code };
}

/** Errors with an `op` come from Wick's libraries and are written for users. */
const isOurs = (error: Error): boolean => typeof (error as { op?: unknown }).op === "string";

/** Ways to need less memory that no option of the command line offers. */
const onlyInPrograms = /(embeddings made elsewhere|promptEmbeds made elsewhere|precomputeModulation: true), or /g;

/** The message with the libraries' option as the command line calls it. */
function inOptions(error: Error): string {
  const { needsBytes } = error as { needsBytes?: number };
  if (usageErrors.has(error.name))
    return error.message
      .replace("negativePrompt", "--negative")
      .replace(/\btrueCfg\b/, "--true-cfg")
      .replace(/\bpass companions:/, "pass --companions:");
  if (needsBytes === undefined)
    return error.message.replace("set offline: true", "add --offline").replace("HF_HOME or cacheDir", "HF_HOME or --cache-dir");
  return error.message
    .replace(onlyInPrograms, "")
    .replace("textEncoderDType", "--text-encoder-dtype")
    .replace("a smaller dtype", "a smaller --dtype")
    .replace("maxGpuBytes is", "--max-memory is")
    .replace(/maxGpuBytes of \d+/, `--max-memory ${Math.ceil(needsBytes / 1e5) / 10}MB`);
}

function findCause(error: unknown, test: (error: Error) => boolean): Error | undefined {
  for (let e = error; e instanceof Error; e = e.cause) if (test(e)) return e;
  return undefined;
}

function diskText({ code, path, message }: NodeJS.ErrnoException): string {
  const known = diskErrors[code!];
  // A file is written beside its place, under a name of its own.
  const asked = path?.replace(/\.[a-z0-9]+\.part$/, "");
  return known ? `${asked === undefined ? "" : `${asked}: `}${known}` : oneLine(`${message}; run again with --debug for details`);
}

/** Line breaks and indentation as single spaces. */
export const oneLine = (text: string): string => text.trim().replace(/\s*\n\s*/g, " | ");
