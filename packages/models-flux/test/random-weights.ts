// Seeded weights for models of any size, of the magnitudes a trained model has: unit gains, small biases, norm scales around 1.
import { type Module, namedParameters } from "@wick/nn";
import { torchCpu, type WeightEntry, type WeightSource } from "@wick/tensor";

/** A checkpoint held in memory: f32 values by name. */
export function memoryWeights(
  values: ReadonlyMap<string, { readonly shape: readonly number[]; readonly data: Float32Array }>,
): WeightSource {
  const entries = new Map<string, WeightEntry>();
  for (const [name, { shape, data }] of values)
    entries.set(name, { name, shape, dtype: "f32", storedDtype: "F32", byteLength: data.byteLength, file: "memory" });
  return {
    entries,
    metadata: new Map(),
    async *stream(name) {
      const { data } = values.get(name)!;
      yield new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    },
    async close() {},
  };
}

/** Weights for every parameter of `model`. */
export function randomWeights(model: Module, seed = 1): WeightSource {
  const stream = torchCpu(seed);
  const draw = ([name, { shape, size }]: readonly [string, { shape: readonly number[]; size: number }]) => {
    const normal = stream.randn(size, "f32") as Float32Array;
    const data = normal.map((x) => (name.endsWith("scale") ? 1 + 0.1 * x : shape.length === 1 ? 0.02 * x : x / Math.sqrt(shape[1]!)));
    return [name, { shape, data }] as const;
  };
  return memoryWeights(new Map([...namedParameters(model)].map(draw)));
}
