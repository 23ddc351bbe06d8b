// Checkpoints in memory for tests, through the real safetensors reader.
import { memorySource, openSafetensors, type WeightSource } from "@wick/tensor";

export interface MemoryTensor {
  readonly dtype: "F32" | "BF16" | "F16" | "I64" | "F8_E4M3";
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

export const f32Tensor = (shape: readonly number[], values: ArrayLike<number>): MemoryTensor => ({
  dtype: "F32",
  shape,
  bytes: new Uint8Array(Float32Array.from(values).buffer),
});

/** Values start, start + step, … in row-major order. */
export const ramp = (shape: readonly number[], start = 0, step = 1): MemoryTensor => {
  const count = shape.reduce((a, b) => a * b, 1);
  return f32Tensor(
    shape,
    Float32Array.from({ length: count }, (_, i) => start + i * step),
  );
};

/** The bytes of a safetensors file. */
export function safetensorsBytes(tensors: Readonly<Record<string, MemoryTensor>>, metadata?: Record<string, string>): Uint8Array {
  let at = 0;
  const header: Record<string, unknown> = metadata ? { __metadata__: metadata } : {};
  for (const [name, { dtype, shape, bytes }] of Object.entries(tensors)) {
    header[name] = { dtype, shape, data_offsets: [at, at + bytes.length] };
    at += bytes.length;
  }
  const text = new TextEncoder().encode(JSON.stringify(header));
  const file = new Uint8Array(8 + text.length + at);
  new DataView(file.buffer).setBigUint64(0, BigInt(text.length), true);
  file.set(text, 8);
  let to = 8 + text.length;
  for (const { bytes } of Object.values(tensors)) {
    file.set(bytes, to);
    to += bytes.length;
  }
  return file;
}

/** An open checkpoint of these tensors. */
export const memoryWeights = (tensors: Readonly<Record<string, MemoryTensor>>, metadata?: Record<string, string>): Promise<WeightSource> =>
  openSafetensors([memorySource(safetensorsBytes(tensors, metadata), "memory.safetensors")]);
