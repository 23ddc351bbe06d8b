// Sources in memory for tests: any dtype and shape, bytes given or made up, streamed in small pieces.
import { bytesOf, type DType, entryOf, type Shape, sizeOf, type WeightEntry, type WeightSource } from "../src/index.ts";

export interface MemoryTensor {
  readonly dtype: DType;
  readonly shape: Shape;
  readonly bytes: Uint8Array;
}

/** A source over `tensors`; `pieceBytes` cuts streams, `seekable` gives it streamSlice. */
export function memorySourceOf(
  tensors: Readonly<Record<string, MemoryTensor>>,
  { pieceBytes = 1 << 20, seekable = false }: { pieceBytes?: number; seekable?: boolean } = {},
): WeightSource {
  const entries = new Map<string, WeightEntry>(
    Object.entries(tensors).map(([name, { dtype, shape, bytes }]) => [
      name,
      { name, dtype, shape, byteLength: bytes.length, storedDtype: dtype, file: "memory" },
    ]),
  );
  async function* pieces(name: string, begin: number, end: number): AsyncGenerator<Uint8Array, void, undefined> {
    const { bytes } = tensors[entryOf(entries, name, "memory").name]!;
    for (let at = begin; at < end; at += pieceBytes) yield bytes.slice(at, Math.min(end, at + pieceBytes));
  }
  return {
    entries,
    metadata: new Map(),
    stream: (name) => pieces(name, 0, entryOf(entries, name, "memory").byteLength),
    ...(seekable ? { streamSlice: (name: string, begin: number, end: number) => pieces(name, begin, end) } : {}),
    async close() {},
  };
}

export const f32Tensor = (shape: Shape, values: ArrayLike<number>): MemoryTensor => ({
  dtype: "f32",
  shape,
  bytes: new Uint8Array(Float32Array.from(values).buffer),
});

/** start, start + 1, … */
export const ramp = (shape: Shape, start = 0): MemoryTensor =>
  f32Tensor(
    shape,
    Float32Array.from({ length: sizeOf(shape) }, (_, i) => start + i),
  );

/** Bytes that count up; the values mean nothing. */
export const blocks = (dtype: DType, shape: Shape, seed = 0): MemoryTensor => ({
  dtype,
  shape,
  bytes: Uint8Array.from({ length: bytesOf(dtype, sizeOf(shape)) }, (_, i) => (i * 7 + seed * 31) & 255),
});
