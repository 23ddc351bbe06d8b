// A WeightSource over tensors that lie in files as plain ranges of bytes, which is all of safetensors and GGUF and most of the rest.
import { dtypeInfo } from "../dtype.ts";
import type { Shape } from "../shape.ts";
import type { StoredFormat } from "./edge-dtypes.ts";
import { type ByteSource, chunkBytesFor, PiecePool, streamRange } from "./source.ts";
import { checkedByteLength, entryOf, type StreamOptions, type WeightEntry, type WeightSource } from "./weight-source.ts";

/** A tensor as a range of a file. */
export interface StoredTensor extends WeightEntry {
  readonly source: ByteSource;
  readonly offset: number;
  readonly storedBytes: number;
  readonly format: StoredFormat;
}

/** What a reader found in a header about one tensor. */
export interface FoundTensor {
  readonly name: string;
  readonly shape: Shape;
  readonly storedDtype: string;
  readonly format: StoredFormat;
  readonly source: ByteSource;
  readonly offset: number;
}

/** Checks the shape and works out the byte counts; throws FormatError on impossible shapes. */
export function storedTensor(op: string, found: FoundTensor): StoredTensor {
  const { dtype, unitBytes } = found.format;
  const { blockSize, blockBytes } = dtypeInfo[dtype];
  const where = `${found.name} in ${found.source.name}`;
  const byteLength = checkedByteLength(op, where, dtype, found.shape, blockSize);
  const storedBytes = (byteLength / blockBytes) * unitBytes;
  return { ...found, dtype, byteLength, storedBytes, file: found.source.name };
}

/** Streams a stored tensor, or the bytes begin…end of it, in pieces of whole elements or blocks. */
export async function* streamStored(
  tensor: StoredTensor,
  options: StreamOptions = {},
  begin = 0,
  end: number = tensor.byteLength,
  pool?: PiecePool,
): AsyncGenerator<Uint8Array, void, undefined> {
  const { unitBytes, convert } = tensor.format;
  const chunkBytes = Math.max(unitBytes, Math.floor((options.chunkBytes ?? chunkBytesFor(tensor.source)) / unitBytes) * unitBytes);
  const inFile = (bytes: number): number => (bytes / dtypeInfo[tensor.dtype].blockBytes) * unitBytes;
  const pieces = streamRange(tensor.source, tensor.offset + inFile(begin), inFile(end - begin), chunkBytes, options.signal, pool);
  if (!convert) return yield* pieces;
  for await (const piece of pieces) yield convert(piece);
}

/** Puts tensors, notes and the files to close together. */
export function storedWeights(
  tensors: ReadonlyMap<string, StoredTensor>,
  metadata: ReadonlyMap<string, unknown>,
  sources: readonly ByteSource[],
): WeightSource {
  const where = sources.map((s) => s.name).join(", ");
  const pool = new PiecePool();
  const stream = (name: string, options?: StreamOptions, begin?: number, end?: number) =>
    streamStored(entryOf(tensors, name, where), options, begin, end, pool);
  return {
    entries: tensors,
    metadata,
    stream: (name, options) => stream(name, options),
    streamSlice: (name, begin, end, options) => stream(name, options, begin, end),
    async close() {
      for (const source of sources) await source.close();
    },
  };
}
