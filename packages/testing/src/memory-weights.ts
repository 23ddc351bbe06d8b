// Checkpoints that are held in memory: given values, seeded random ones of the magnitudes a trained model has, zeros.
import { type Module, namedParameters } from "@wick/nn";
import { torchCpu, type WeightEntry, type WeightSource } from "@wick/tensor";

/** Values of one weight. */
export interface MemoryWeight {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/** A checkpoint of these f32 values. */
export function memoryWeights(values: ReadonlyMap<string, MemoryWeight>): WeightSource {
  const entries = [...values].map(([name, { shape, data }]) => entryOf(name, shape, "f32", data.byteLength));
  return source(entries, (name) => {
    const { buffer, byteOffset, byteLength } = values.get(name)!.data;
    return new Uint8Array(buffer, byteOffset, byteLength);
  });
}

/** Weights for every parameter of `model`: matrices of unit gain, scales of norms around 1, small biases. Equal seeds give equal weights. */
export function randomWeights(model: Module, seed = 1): WeightSource {
  const stream = torchCpu(seed);
  const drawn = [...namedParameters(model)].map(([name, { shape, size }]): [string, MemoryWeight] => {
    const isGain = shape.length === 1 && /norm\w*(\.\w+)?\.(weight|scale)$/.test(name);
    const data = stream.randn(size).map((x) => (isGain ? 1 + 0.1 * x : shape.length === 1 ? 0.02 * x : x / Math.sqrt(size / shape[0]!)));
    return [name, { shape, data }];
  });
  return memoryWeights(new Map(drawn));
}

/** bf16 zeros for every parameter of `model`. */
export function zeroWeights(model: Module): WeightSource {
  const entries = [...namedParameters(model)].map(([name, { shape, size }]) => entryOf(name, shape, "bf16", 2 * size));
  const bytes = new Map(entries.map((e) => [e.name, e.byteLength]));
  return source(entries, (name) => new Uint8Array(bytes.get(name)!));
}

const entryOf = (name: string, shape: readonly number[], dtype: "f32" | "bf16", byteLength: number): WeightEntry => ({
  name,
  shape,
  dtype,
  storedDtype: dtype.toUpperCase(),
  byteLength,
  file: "memory",
});

const source = (entries: readonly WeightEntry[], bytesOf: (name: string) => Uint8Array): WeightSource => ({
  entries: new Map(entries.map((e) => [e.name, e])),
  metadata: new Map(),
  async *stream(name) {
    yield bytesOf(name);
  },
  async close() {},
});
