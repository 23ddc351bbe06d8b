// Modules of Node for the few functions that touch local files. An import would make every bundler for browsers warn or stop, even where
// these functions are never called.
import { UnsupportedError } from "../errors.ts";

type NodeModules = {
  readonly "node:fs/promises": typeof import("node:fs/promises");
  readonly "node:url": typeof import("node:url");
};

/** A module of Node for `op`; throws UnsupportedError where there is no Node. */
export function nodeModule<N extends keyof NodeModules>(op: string, name: N): NodeModules[N] {
  const { process } = globalThis as { process?: { getBuiltinModule?: (name: N) => NodeModules[N] | undefined } };
  const found = process?.getBuiltinModule?.(name);
  if (found) return found;
  throw new UnsupportedError(op, "there are no local files here; use httpSource, blobSource or memorySource");
}
