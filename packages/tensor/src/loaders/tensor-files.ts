// Tensors by name to a file and back, as safetensors.torch.save_file and load_file have it: for intermediates, goldens and inputs of comparisons.
import type { Device } from "../device.ts";
import { FormatError } from "../errors.ts";
import type { Tensor } from "../tensor.ts";
import { openWeights } from "./open.ts";
import { type ByteSink, writeFileAtomically } from "./sink.ts";
import { entryOf, type WeightSource } from "./weight-source.ts";
import { type WritableTensor, writeGguf, writeNpz, writeSafetensors } from "./write.ts";

/** Tensors by name. */
export type NamedTensors = Readonly<Record<string, Tensor>> | ReadonlyMap<string, Tensor>;

const writers = { safetensors: writeSafetensors, gguf: writeGguf, npz: writeNpz } as const;
/** What `saveTensors` writes. */
export type TensorFileFormat = keyof typeof writers;

/**
 * Writes tensors to a local file (Node only), in the format its ending names, or to a sink, in `format`; safetensors unless that says otherwise. The
 * file appears when it is complete. Throws FormatError for an unknown ending and for dtypes the format lacks.
 */
export async function saveTensors(target: string | ByteSink, tensors: NamedTensors, format?: TensorFileFormat): Promise<void> {
  const list = [...(tensors instanceof Map ? tensors : Object.entries(tensors))].map(([name, t]) => writable(name, t as Tensor));
  if (typeof target !== "string") return writers[format ?? "safetensors"](target, list);
  const chosen = format ?? formatOf(target);
  await writeFileAtomically(target, (sink) => writers[chosen](sink, list));
}

const writable = (name: string, tensor: Tensor): WritableTensor => ({
  name,
  dtype: tensor.dtype,
  shape: tensor.shape,
  bytes: async function* () {
    yield await tensor.toBytes();
  },
});

function formatOf(path: string): TensorFileFormat {
  const ending = path.slice(path.lastIndexOf(".") + 1).toLowerCase();
  if (ending in writers) return ending as TensorFileFormat;
  throw new FormatError("saveTensors", `${path} ends in none of .${Object.keys(writers).join(", .")}; name the format`);
}

/**
 * Tensors of a file of any format that is read (Node: by its path), or of an opened checkpoint, on `device` under their names, in the order of
 * `names` (all by default); the caller owns them (`hold`). Throws WeightsError for a name that is not there; on failure nothing stays on the device.
 */
export async function readTensors(
  source: string | WeightSource,
  device: Device,
  names?: readonly string[],
): Promise<Record<string, Tensor>> {
  const opened = typeof source === "string" ? await openWeights(source) : source;
  const read: Record<string, Tensor> = {};
  try {
    for (const name of names ?? opened.entries.keys()) {
      const { shape, dtype } = entryOf(opened.entries, name, typeof source === "string" ? source : "the checkpoint");
      read[name] = await device.upload(shape, dtype, opened.stream(name), name);
    }
    return read;
  } catch (error) {
    for (const tensor of Object.values(read)) tensor.dispose();
    throw error;
  } finally {
    if (typeof source === "string") await opened.close();
  }
}
