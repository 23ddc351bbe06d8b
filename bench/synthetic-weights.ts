// A checkpoint that exists only as a pattern: any model can be loaded through the usual path without a file. Values are spread like those
// of trained linear layers (deviation 0.02), the scales of norms are 1.
import { type Module, parameterSites, policyFor } from "@wick/nn";
import {
  bytesOf,
  type DType,
  dtypeInfo,
  isQuantized,
  type PlainDType,
  quantizeInto,
  sizeOf,
  type WeightEntry,
  type WeightSource,
} from "@wick/tensor";
import { values } from "./peers/data.mjs";

/** Values in the pattern: 8 Mi, longer than any cache line of a GPU's interest, a multiple of every block. */
const patternSize = 8 * 2 ** 20;
const deviation = 0.02;

/** Bits of f32 values cut to bf16. */
const bf16Bytes = (x: Float32Array): Uint8Array => new Uint8Array(Uint16Array.from(new Uint32Array(x.buffer), (u) => u >>> 16).buffer);

function encoded(x: Float32Array, dtype: DType): Uint8Array {
  if (dtype === "bf16") return bf16Bytes(x);
  if (dtype === "f32") return new Uint8Array(x.buffer);
  if (!isQuantized(dtype)) throw new Error(`synthetic weights are f32, bf16 or quantized, not ${dtype as PlainDType}`);
  const out = new Uint8Array(bytesOf(dtype, x.length));
  quantizeInto(dtype, x, 0, out, 0, x.length);
  return out;
}

/** Weights for every parameter of `model`, as if stored in bf16 and, where the model allows it, in `dtype`. */
export function syntheticWeights(model: Module, dtype: DType): WeightSource {
  const policy = policyFor(model, dtype === "bf16" ? undefined : dtype);
  const patterns = new Map<DType, Uint8Array>();
  // Uniform values of the same deviation; a product of many of them does not know the difference.
  const noise = values(patternSize, 1).map((v) => v * deviation * Math.sqrt(12));
  const patternOf = (kind: DType): Uint8Array => {
    const known = patterns.get(kind) ?? encoded(noise, kind);
    patterns.set(kind, known);
    return known;
  };
  const entries = new Map<string, WeightEntry>();
  for (const site of parameterSites(model)) {
    const chosen = policy({ ...site, stored: "bf16" });
    const { shape } = site.parameter;
    const byteLength = bytesOf(chosen, sizeOf(shape));
    patternOf(chosen);
    entries.set(site.path, { name: site.path, dtype: chosen, shape, byteLength, storedDtype: chosen, file: "synthetic" });
  }
  return {
    entries,
    metadata: new Map(),
    async *stream(name) {
      const { dtype: kind, byteLength, shape } = entries.get(name)!;
      if (shape.length === 1 && /norm|scale/.test(name)) return yield encoded(new Float32Array(sizeOf(shape)).fill(1), kind);
      const pattern = patternOf(kind);
      const step = 16 * 2 ** 20 - ((16 * 2 ** 20) % dtypeInfo[kind].blockBytes);
      for (let at = 0; at < byteLength; ) {
        const from = at % pattern.length;
        const piece = pattern.subarray(from, Math.min(pattern.length, from + Math.min(step, byteLength - at)));
        yield piece;
        at += piece.length;
      }
    },
    close: async () => {},
  };
}
