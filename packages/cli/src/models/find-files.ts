// Where a model's files are: what the options of the hub say of a repository or folder.
import { stat } from "node:fs/promises";
import type { ModelFiles } from "@wick/hub";
import { CliError, UsageError } from "../cli-error.ts";

/** The options of a command that may read from the hub. */
export interface HubOptions {
  readonly offline?: boolean | undefined;
  readonly cacheDir?: string | undefined;
  readonly retries?: number | undefined;
}

/** A repository or folder by name; throws UsageError when its revision is given twice, CliError when the name can be neither. */
export async function findFiles(
  place: string,
  options: HubOptions & {
    readonly revision?: string | undefined;
    readonly signal: AbortSignal;
    readonly onNotice?: ((text: string) => void) | undefined;
  },
): Promise<ModelFiles> {
  const { revision, offline, cacheDir, retries, onNotice, signal } = options;
  const { modelFiles } = await import("@wick/hub");
  if (revision !== undefined && place.includes("@"))
    throw new UsageError(`the revision is given twice: ${place} and --revision ${revision}`);
  // Asking the hub would report a mistyped folder as a failure of the network.
  if (!/[/\\]/.test(place) && !(await stat(place).catch(() => undefined)))
    throw new CliError(`${place}: no such file or folder, and a repository is written org/name; check the name`);
  return modelFiles(place, {
    signal,
    ...(revision === undefined ? {} : { revision }),
    ...(offline ? { offline } : {}),
    ...(cacheDir === undefined ? {} : { cacheDir }),
    ...(retries === undefined ? {} : { retries }),
    ...(onNotice ? { onNotice } : {}),
  });
}
