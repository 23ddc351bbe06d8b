// Weights in another dtype than the file's, converted piece by piece while they stream: any float or block format to any other.
// All conversions go through f32, which holds every stored format exactly; memory stays at a few MiB whatever the tensor's size.
import { bytesOf, type DType, dtypeInfo, isFloat, isInt, isQuantized } from "../dtype.ts";
import { decodeFloats, encodeFloats, type NarrowBits, type NarrowFloat, overflowFrom } from "../dtype-convert.ts";
import { DTypeError } from "../errors.ts";
import { dequantizeInto } from "../quant/decode.ts";
import { quantizeInto } from "../quant/encode.ts";
import { entryOf, type StreamOptions, type WeightSource } from "./weight-source.ts";

/** Values converted at a time; whole blocks of every format. */
const BATCH_VALUES = 1 << 20;
/** Bytes asked for at a time when every byte must pass through the host's arithmetic. */
const CONVERT_CHUNK_BYTES = 4 * 2 ** 20;

/** True if bytes of `from` can be turned into `to`. */
export const canConvert = (from: DType, to: DType): boolean => from === to || (!isInt(from) && !isInt(to));

/**
 * The bytes of a tensor as `to`, rounded to nearest even (quantized for block formats, whose blocks must divide the rows).
 * Throws DTypeError between integers and floats, and when a finite value does not fit `to`.
 */
export function streamAs(source: WeightSource, name: string, to: DType, options: StreamOptions = {}): AsyncIterable<Uint8Array> {
  const entry = entryOf(source.entries, name, "this checkpoint");
  if (entry.dtype === to) return source.stream(name, options);
  const chunkBytes = Math.min(options.chunkBytes ?? CONVERT_CHUNK_BYTES, CONVERT_CHUNK_BYTES);
  return convertPieces(source.stream(name, { ...options, chunkBytes }), entry.dtype, to, name);
}

/** Converts a stream of whole elements or blocks; `where` names the tensor in errors. Yields views of one buffer that is reused. */
export async function* convertPieces(
  pieces: AsyncIterable<Uint8Array>,
  from: DType,
  to: DType,
  where: string,
): AsyncGenerator<Uint8Array, void, undefined> {
  if (!canConvert(from, to)) throw new DTypeError("convert", `${from} does not convert to ${to} on load: ${where}`);
  const values = new Float32Array(BATCH_VALUES);
  const encoded = new Uint8Array(bytesOf(to, BATCH_VALUES));
  let filled = 0;
  for await (const piece of pieces) {
    const count = (piece.length / dtypeInfo[from].blockBytes) * dtypeInfo[from].blockSize;
    for (let at = 0; at < count; ) {
      const n = Math.min(count - at, BATCH_VALUES - filled);
      decodeInto(from, piece, at, values, filled, n);
      at += n;
      filled += n;
      if (filled < BATCH_VALUES) continue;
      yield encodeValues(to, values, filled, encoded, where);
      filled = 0;
    }
  }
  if (filled > 0) yield encodeValues(to, values, filled, encoded, where);
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
function encodeValues(dtype: DType, values: Float32Array, count: number, out: Uint8Array, where: string): Uint8Array {
  const bytes = out.subarray(0, bytesOf(dtype, count));
  if (isQuantized(dtype)) quantizeNamed(dtype, values, count, bytes, where);
  else if (dtype === "f32") new Float32Array(out.buffer, 0, count).set(values.subarray(0, count));
  else if (isFloat(dtype)) {
    checkOverflow(dtype, values, count, where);
    encodeFloats(dtype, values, 0, bitsOf(dtype, bytes), 0, count);
  }
  return bytes;
}

function quantizeNamed(
  dtype: Parameters<typeof quantizeInto>[0],
  values: Float32Array,
  count: number,
  out: Uint8Array,
  where: string,
): void {
  if (count % dtypeInfo[dtype].blockSize !== 0) {
    throw new DTypeError("convert", `rows are not whole ${dtype} blocks of ${dtypeInfo[dtype].blockSize}: ${where}`);
  }
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
