// A model's weights on the way out: as a checkpoint in memory that can be renamed, converted and written like any other.
import {
  type ByteSink,
  entryOf,
  FormatError,
  type WeightEntry,
  type WeightSource,
  writableTensors,
  writeFileAtomically,
  writeGguf,
  writeSafetensors,
} from "@wick/tensor";
import { classOf, type Module, namedParameters } from "./module.ts";

/** The loaded weights of `model` as a checkpoint under its own names; bytes are read back from the device when asked for. */
export function weightsOf(model: Module): WeightSource {
  const parameters = new Map(namedParameters(model));
  const entries = new Map<string, WeightEntry>();
  for (const [name, p] of parameters) {
    p.label ??= name;
    // Throws, by name, when the parameter has no data.
    p.storage();
    const { dtype, shape, byteLength } = p;
    entries.set(name, { name, dtype, shape, byteLength, storedDtype: dtype, file: classOf(model) });
  }
  return {
    entries,
    metadata: new Map(),
    async *stream(name, options) {
      const { byteLength } = entryOf(entries, name, classOf(model));
      options?.signal?.throwIfAborted();
      const bytes = await parameters.get(name)!.toBytes();
      const chunkBytes = options?.chunkBytes ?? byteLength;
      for (let at = 0; at < byteLength; at += chunkBytes) yield bytes.subarray(at, at + chunkBytes);
    },
    async close() {},
  };
}

/** How a model is written. */
export interface SaveOptions {
  /** What the file's ending says by default, safetensors in a sink. GGUF holds block formats. */
  readonly format?: "safetensors" | "gguf";
  /** Texts in the header. */
  readonly metadata?: Readonly<Record<string, string>>;
}

/**
 * Writes a loaded model to a local file (Node only), which appears when it is complete, or to a sink. Throws FormatError for an unknown ending and
 * for dtypes the format lacks.
 */
export async function save(model: Module, target: string | ByteSink, { format, metadata = {} }: SaveOptions = {}): Promise<void> {
  const chosen = format ?? (typeof target === "string" ? formatOf(target) : "safetensors");
  const write = (sink: ByteSink) => (chosen === "gguf" ? writeGguf : writeSafetensors)(sink, writableTensors(weightsOf(model)), metadata);
  await (typeof target === "string" ? writeFileAtomically(target, write) : write(target));
}

function formatOf(path: string): "safetensors" | "gguf" {
  const ending = /\.(safetensors|gguf)$/i.exec(path)?.[1];
  if (ending === undefined) throw new FormatError("save", `${path} ends in neither .safetensors nor .gguf; name the format`);
  return ending.toLowerCase() as "safetensors" | "gguf";
}
