// A model's weights on the way out: as a checkpoint in memory that can be renamed, converted and written like any other.
import { type ByteSink, entryOf, type WeightEntry, type WeightSource, writableTensors, writeGguf, writeSafetensors } from "@wick/tensor";
import { type Module, namedParameters } from "./module.ts";

/** The loaded weights of `model` as a checkpoint under its own names; bytes are read back from the device when asked for. */
export function weightsOf(model: Module): WeightSource {
  const parameters = new Map(namedParameters(model));
  const entries = new Map<string, WeightEntry>();
  for (const [name, p] of parameters) {
    p.label ??= name;
    // Throws, by name, when the parameter has no data.
    p.storage();
    const { dtype, shape, byteLength } = p;
    entries.set(name, { name, dtype, shape, byteLength, storedDtype: dtype, file: model.constructor.name });
  }
  return {
    entries,
    metadata: new Map(),
    async *stream(name, options) {
      const { byteLength } = entryOf(entries, name, model.constructor.name);
      options?.signal?.throwIfAborted();
      const bytes = await parameters.get(name)!.toBytes();
      const chunkBytes = options?.chunkBytes ?? byteLength;
      for (let at = 0; at < byteLength; at += chunkBytes) yield bytes.subarray(at, at + chunkBytes);
    },
    async close() {},
  };
}

/** Writes a loaded model to a file: safetensors, or GGUF for block formats. Throws FormatError for dtypes the format lacks. */
export async function save(
  model: Module,
  sink: ByteSink,
  { format = "safetensors", metadata = {} }: { format?: "safetensors" | "gguf"; metadata?: Readonly<Record<string, string>> } = {},
): Promise<void> {
  const tensors = writableTensors(weightsOf(model));
  if (format === "gguf") await writeGguf(sink, tensors, metadata);
  else await writeSafetensors(sink, tensors, metadata);
}
