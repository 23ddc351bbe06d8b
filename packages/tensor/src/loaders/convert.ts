// Weights in another dtype than the file's, converted piece by piece while they stream: any float or block format to any other.
// All conversions go through f32, which holds every stored format exactly; memory stays at a few MiB whatever the tensor's size.
import { bytesOf, type DType, dtypeInfo, isFloat, isInt, isQuantized, isSearched, type QuantDType } from "../dtype.ts";
import { decodeFloats, encodeFloats, type NarrowBits, type NarrowFloat, overflowFrom } from "../dtype-convert.ts";
import { DTypeError } from "../errors.ts";
import { dequantizeInto } from "../quant/decode.ts";
import { quantizeInto } from "../quant/encode.ts";
import { type Conversion, conversionOf, jobValues, runConversion } from "../quant/wasm/run.ts";
import type { ConversionThreads } from "./conversion-threads.ts";
import { entryOf, type StreamOptions, type WeightSource } from "./weight-source.ts";

/** Bytes asked for at a time when every byte must pass through the host's arithmetic. */
const CONVERT_CHUNK_BYTES = 4 * 2 ** 20;

/** True if bytes of `from` can be turned into `to`. */
export const canConvert = (from: DType, to: DType): boolean => from === to || (!isInt(from) && !isInt(to));

/** How a tensor is converted while it streams. */
export interface ConvertOptions extends StreamOptions {
  /** Threads that quantize to the formats that search their scales; without them the calling thread does. */
  readonly threads?: ConversionThreads | undefined;
}

/**
 * The bytes of a tensor as `to`, rounded to nearest even (quantized for block formats, whose blocks must divide the rows).
 * Throws DTypeError between integers and floats, and when a finite value does not fit `to`.
 */
export function streamAs(source: WeightSource, name: string, to: DType, options: ConvertOptions = {}): AsyncIterable<Uint8Array> {
  const entry = entryOf(source.entries, name, "this checkpoint");
  const { threads, ...reading } = options;
  if (entry.dtype === to) return source.stream(name, reading);
  const chunkBytes = Math.min(options.chunkBytes ?? CONVERT_CHUNK_BYTES, CONVERT_CHUNK_BYTES);
  return convertPieces(source.stream(name, { ...reading, chunkBytes }), entry.dtype, to, name, options);
}

/**
 * Converts a stream of whole elements or blocks; `where` names the tensor in errors. With threads (for formats that search their scales), pieces are read ahead while they work. A piece may be
 * overwritten after the next one is asked for.
 */
export async function* convertPieces(
  pieces: AsyncIterable<Uint8Array>,
  from: DType,
  to: DType,
  where: string,
  { threads, signal }: { readonly threads?: ConversionThreads | undefined; readonly signal?: AbortSignal | undefined } = {},
): AsyncGenerator<Uint8Array, void, undefined> {
  if (!canConvert(from, to)) throw new DTypeError("convert", `${from} does not convert to ${to} on load: ${where}`);
  // Blocks are decoded here, whatever they become next.
  if (threads && isQuantized(from) && isSearched(to)) {
    return yield* convertPieces(convertPieces(pieces, from, "f32", where), "f32", to, where, { threads, signal });
  }
  // Handing pieces over takes as long as converting to the other formats.
  const conversion = isSearched(to) ? conversionOf(from, to) : undefined;
  if (!threads?.threads || !conversion) {
    const out = new Uint8Array(bytesOf(to, jobValues));
    for await (const job of jobsOf(pieces, from)) yield convertJob(from, to, job, out, where);
    return;
  }
  const waiting: Promise<Uint8Array>[] = [];
  for await (const job of jobsOf(pieces, from, threads)) {
    const converted = convertElsewhere(threads, conversion, { from, to, where, ...job });
    // Who looks at it comes later, or not at all when the stream ends early.
    converted.catch(() => {});
    waiting.push(converted);
    if (threads.isStarting) await turn();
    while (waiting.length > (threads.ready > 0 ? threads.depth : 0)) yield await waiting.shift()!;
    signal?.throwIfAborted();
  }
  for (const converted of waiting) {
    yield await converted;
    signal?.throwIfAborted();
  }
}

/** Lets messages of other threads arrive. */
const turn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve));

/** Values to convert together: whole blocks of every format. */
interface ConversionJob {
  readonly input: Uint8Array;
  readonly count: number;
}

/** Gathers pieces of any length into jobs of `jobValues` values; with threads each in a buffer of its own. */
async function* jobsOf(pieces: AsyncIterable<Uint8Array>, from: DType, threads?: ConversionThreads): AsyncGenerator<ConversionJob> {
  const jobBytes = bytesOf(from, jobValues);
  let buffer: Uint8Array | undefined;
  let filled = 0;
  for await (const piece of pieces) {
    for (let at = 0; at < piece.length; ) {
      const n = Math.min(piece.length - at, jobBytes - filled);
      const part = piece.subarray(at, at + n);
      at += n;
      // What is used up at once need not be copied.
      if (n === jobBytes && !threads) {
        yield { input: part, count: jobValues };
        continue;
      }
      buffer ??= threads ? threads.takeBuffer(jobBytes) : new Uint8Array(jobBytes);
      buffer.set(part, filled);
      filled += n;
      if (filled < jobBytes) continue;
      yield { input: buffer, count: jobValues };
      filled = 0;
      if (threads) buffer = undefined;
    }
  }
  const { blockSize, blockBytes } = dtypeInfo[from];
  if (filled > 0) yield { input: buffer!, count: (filled / blockBytes) * blockSize };
}

/** A job on a thread; what threads cannot do, or refuse, is done here, which knows what is wrong. */
async function convertElsewhere(
  threads: ConversionThreads,
  conversion: Conversion,
  job: ConversionJob & { readonly from: DType; readonly to: DType; readonly where: string },
): Promise<Uint8Array> {
  const { input, count, from, to, where } = job;
  try {
    checkWhole(to, count, where);
    const done = await threads.convert(conversion, input, count, bytesOf(to, count));
    return done ?? convertJob(from, to, job, new Uint8Array(bytesOf(to, jobValues)), where);
  } finally {
    threads.giveBuffer(input);
  }
}

/** Converts on the calling thread, into `out`. */
function convertJob(from: DType, to: DType, { input, count }: ConversionJob, out: Uint8Array, where: string): Uint8Array {
  checkWhole(to, count, where);
  const bytes = out.subarray(0, bytesOf(to, count));
  if (runConversion(from, to, input, count, bytes)) return bytes;
  const values = new Float32Array(count);
  decodeInto(from, input, 0, values, 0, count);
  encodeValues(to, values, count, bytes, where);
  return bytes;
}

function checkWhole(to: DType, count: number, where: string): void {
  const { blockSize } = dtypeInfo[to];
  if (count % blockSize !== 0) throw new DTypeError("convert", `rows are not whole ${to} blocks of ${blockSize}: ${where}`);
}

/** Typed views need aligned memory; pieces of a file may start anywhere. */
const aligned = (bytes: Uint8Array, width: number): Uint8Array => (bytes.byteOffset % width === 0 ? bytes : bytes.slice());

/** `count` values of `dtype` from value `first` of `bytes` on, as f32 into `out[at…]`. */
export function decodeInto(dtype: DType, bytes: Uint8Array, first: number, out: Float32Array, at: number, count: number): void {
  const from = bytesOf(dtype, first);
  if (isQuantized(dtype)) {
    dequantizeInto(dtype, bytes, from, out, at, count);
    return;
  }
  const part = aligned(bytes.subarray(from, from + bytesOf(dtype, count)), dtypeInfo[dtype].blockBytes);
  if (dtype === "f32") out.set(new Float32Array(part.buffer, part.byteOffset, count), at);
  else decodeFloats(dtype as NarrowFloat, bitsOf(dtype as NarrowFloat, part), 0, out, at, count);
}

const bitsOf = (dtype: NarrowFloat, bytes: Uint8Array): NarrowBits =>
  dtypeInfo[dtype].blockBytes === 1 ? bytes : new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length >> 1);

/** The first `count` of `values` as bytes of `dtype`, in `out`. */
function encodeValues(dtype: DType, values: Float32Array, count: number, out: Uint8Array, where: string): void {
  if (isQuantized(dtype)) quantizeNamed(dtype, values, count, out, where);
  else if (dtype === "f32") out.set(new Uint8Array(values.buffer, values.byteOffset, 4 * count));
  else if (isFloat(dtype)) {
    checkOverflow(dtype, values, count, where);
    encodeFloats(dtype, values, 0, bitsOf(dtype, out), 0, count);
  }
}

function quantizeNamed(dtype: QuantDType, values: Float32Array, count: number, out: Uint8Array, where: string): void {
  try {
    quantizeInto(dtype, values, 0, out, 0, count);
  } catch (cause) {
    throw new DTypeError("convert", `cannot quantize ${where}: ${(cause as Error).message}`, { cause });
  }
}

function checkOverflow(dtype: DType, values: Float32Array, count: number, where: string): void {
  const limit = overflowFrom[dtype as NarrowFloat];
  if (limit === undefined) return;
  for (let i = 0; i < count; i++) {
    const v = Math.abs(values[i]!);
    if (v >= limit && v !== Infinity)
      throw new DTypeError("convert", `${values[i]} does not fit ${dtype}: ${where}; load it as bf16 or f32`);
  }
}
