// What every checkpoint format opens as: named tensors with dtype and shape, whose bytes come in pieces when asked for.
import { bytesOf, type DType } from "../dtype.ts";
import { FormatError, WeightsError } from "../errors.ts";
import { formatShape, type Shape, sizeOf } from "../shape.ts";

/** What a checkpoint's header says of one tensor. */
export interface WeightEntry {
  /** As the checkpoint spells it. */
  readonly name: string;
  /** Of the bytes that `stream` yields. */
  readonly dtype: DType;
  /** Row-major, outermost dimension first. */
  readonly shape: Shape;
  /** Bytes that `stream` yields in total. */
  readonly byteLength: number;
  /** The file's own word for the element format, e.g. "BF16", "F64", "Q4_K"; differs in meaning from `dtype` where `stream` converts. */
  readonly storedDtype: string;
  /** The file the tensor lies in. */
  readonly file: string;
}

/** How a tensor's bytes arrive. */
export interface StreamOptions {
  /** Largest piece, in bytes; pieces hold whole elements or blocks. Default 16 MiB. */
  readonly chunkBytes?: number;
  /** Stops the stream. */
  readonly signal?: AbortSignal;
}

/** An opened checkpoint. Only headers were read; `close` releases the files. */
export interface WeightSource {
  /** All tensors by name, known from the header. */
  readonly entries: ReadonlyMap<string, WeightEntry>;
  /** The file's own notes: safetensors `__metadata__`, GGUF key-values. */
  readonly metadata: ReadonlyMap<string, unknown>;
  /** The tensor's bytes, little-endian row-major in `entry.dtype`; a piece may be reused by the source after the next one is asked for. */
  stream(name: string, options?: StreamOptions): AsyncIterable<Uint8Array>;
  /** Bytes begin…end of what `stream` yields, whole elements or blocks; only sources that can seek have it. See `streamSlice`. */
  streamSlice?(name: string, begin: number, end: number, options?: StreamOptions): AsyncIterable<Uint8Array>;
  /** Closes the files; streams that are open fail. */
  close(): Promise<void>;
}

/** Bytes begin…end (whole elements or blocks) of a tensor's stream; a source that cannot seek is read from the tensor's start. */
export async function* streamSlice(
  source: WeightSource,
  name: string,
  begin: number,
  end: number,
  options?: StreamOptions,
): AsyncGenerator<Uint8Array, void, undefined> {
  if (source.streamSlice) return yield* source.streamSlice(name, begin, end, options);
  let at = 0;
  for await (const piece of source.stream(name, options)) {
    const part = piece.subarray(Math.max(0, begin - at), Math.max(0, end - at));
    if (part.length > 0) yield part;
    at += piece.length;
    if (at >= end) return;
  }
}

/** The entry called `name`; throws WeightsError naming the file and near names when there is none. */
export function entryOf<
  E extends {
    /** Of the tensor. */
    readonly name: string;
  },
>(entries: ReadonlyMap<string, E>, name: string, where: string): E {
  const entry = entries.get(name);
  if (entry) return entry;
  const tail = name.slice(name.lastIndexOf(".") + 1);
  const near = [...entries.keys()].filter((key) => key.endsWith(name) || name.endsWith(key) || key.endsWith(`.${tail}`)).slice(0, 3);
  const hint = near.length > 0 ? `; it has ${near.join(", ")}` : "";
  throw new WeightsError("stream", `no tensor ${name} in ${where} (${entries.size} tensors)${hint}`);
}

/** All bytes of a tensor in one array; for small tensors and tests. */
export async function readTensorBytes(source: WeightSource, name: string, options?: StreamOptions): Promise<Uint8Array<ArrayBuffer>> {
  const out = new Uint8Array(entryOf(source.entries, name, "this checkpoint").byteLength);
  let at = 0;
  for await (const piece of source.stream(name, options)) {
    out.set(piece, at);
    at += piece.length;
  }
  return out;
}

/** Bytes of a shape in `dtype`; throws FormatError when dimensions are not whole numbers, overflow, or rows are not whole blocks. */
export function checkedByteLength(op: string, where: string, dtype: DType, shape: Shape, blockSize = 1): number {
  const whole = shape.every((d) => Number.isSafeInteger(d) && d >= 0);
  const count = whole ? sizeOf(shape) : Number.NaN;
  if (!Number.isSafeInteger(count)) throw new FormatError(op, `impossible shape: ${where} ${formatShape(shape)}`);
  if (count > 0 && (shape.at(-1) ?? 1) % blockSize !== 0) {
    throw new FormatError(op, `rows are not whole ${dtype} blocks of ${blockSize}: ${where} ${formatShape(shape)}`);
  }
  const bytes = bytesOf(dtype, count);
  if (!Number.isSafeInteger(bytes)) throw new FormatError(op, `impossible shape: ${where} ${formatShape(shape)}`);
  return bytes;
}
