// A checkpoint named on the command line: one file of any format, a folder of shards, or a file of a repository.
import { stat } from "node:fs/promises";
import { openWeights, type WeightSource } from "@wick/tensor";
import { CliError } from "../cli-error.ts";

/** An opened checkpoint and the files it came from. */
export interface Checkpoint {
  readonly source: WeightSource;
  readonly format: string;
  readonly fileBytes: number;
}

/** Opens a local file, or a folder that holds the shards of one checkpoint. */
export async function openCheckpoint(path: string, signal: AbortSignal): Promise<Checkpoint> {
  const place = await stat(path);
  if (!place.isDirectory()) return { source: await openWeights(path, { signal }), format: await formatOf(path), fileBytes: place.size };
  const { localFolder } = await import("@wick/hub");
  const files = localFolder(path);
  const entries = (await files.list()).filter((entry) => /^[^/]+\.safetensors$/.test(entry.path));
  if (entries.length === 0)
    throw new CliError(`${path} has no .safetensors files; name a file, or the folder of one model part such as ${path}/transformer`);
  const source = await openWeights(await files.openAll("*.safetensors"), { signal });
  return { source, format: `safetensors, ${entries.length} files`, fileBytes: entries.reduce((sum, e) => sum + (e.sizeBytes ?? 0), 0) };
}

/** Lends `use` a function that opens checkpoints; all of them are closed when it is done, or has failed. */
export async function withCheckpoints<T>(
  signal: AbortSignal,
  use: (open: (path: string) => Promise<Checkpoint>) => Promise<T>,
): Promise<T> {
  const opened: WeightSource[] = [];
  try {
    return await use(async (path) => {
      const checkpoint = await openCheckpoint(path, signal);
      opened.push(checkpoint.source);
      return checkpoint;
    });
  } finally {
    await Promise.all(opened.map((source) => source.close()));
  }
}

/** The format of a file that openWeights took, by its first bytes. */
async function formatOf(path: string): Promise<string> {
  const { open } = await import("node:fs/promises");
  const file = await open(path, "r");
  try {
    const first = new Uint8Array(16);
    await file.read(first, 0, 16, 0);
    const text = String.fromCharCode(...first);
    if (text.startsWith("GGUF")) return "GGUF";
    if (text.startsWith("\x93NUMPY")) return "npy";
    if (text.startsWith("PK")) return /\.npz$/i.test(path) ? "npz" : "PyTorch";
    // The length before the header of safetensors may begin with any byte.
    if (first[8] === 0x7b) return "safetensors";
    if (first[0] === 0x80) return "PyTorch (before 1.6)";
    return text.startsWith("{") ? "safetensors, by its index" : "safetensors";
  } finally {
    await file.close();
  }
}
