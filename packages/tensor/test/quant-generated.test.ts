// The generated encoders against the plain loops, byte for byte, over ordinary, degenerate and extreme blocks; and conversions of float formats.
import { describe, expect, it } from "vitest";
import { bytesOf, type DType, dtypeInfo, isQuantized, type QuantDType } from "../src/dtype.ts";
import { encodeFloats, type NarrowFloat } from "../src/dtype-convert.ts";
import { decodeInto } from "../src/loaders/convert.ts";
import { quantizeInto, quantizePlain } from "../src/quant/encode.ts";
import { runConversion } from "../src/quant/wasm/run.ts";
import { torchCpu } from "../src/random/torch-cpu.ts";

const quantized = (Object.keys(dtypeInfo) as DType[]).filter(isQuantized);
const narrow = ["f16", "bf16", "f8e4m3", "f8e5m2"] as const satisfies readonly NarrowFloat[];
/** Whole blocks of every format, and of the strips and groups that generated code works on, with a remainder. */
const blocks = 24;

/** A number generator that gives the same numbers everywhere. */
function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Fills blocks of 256 values. */
const kinds: Readonly<Record<string, (i: number, random: () => number) => number>> = {
  zeros: () => 0,
  "zeros of both signs": (_, random) => (random() < 0.5 ? -0 : 0),
  "negative zeros and a few values": (_, random) => (random() < 0.9 ? -0 : random() - 0.5),
  constant: () => 0.37,
  "negative constant": () => -1.25,
  "constant in each sub-block": (i) => (i >> 4) - 7.5,
  "positive, with zeros of both signs": (_, random) => (random() < 0.2 ? -0 : random() < 0.2 ? 0 : random()),
  "negative only": (_, random) => -random() - 0.1,
  "far from zero": (_, random) => 100 + random() / 64,
  "both extremes alike": (i, random) => (i % 7 === 0 ? (random() < 0.5 ? -2 : 2) : random()),
  "one value each": (i) => (i % 32 === 11 ? -3.5 : 0),
  "halves of steps": (i, random) => (Math.floor(random() * 33) - 16) / 2 + (i % 32 === 0 ? 8 : 0),
  "whole levels": (_, random) => Math.floor(random() * 255) - 127,
  "heavy tails": (_, random) => (random() - 0.5) / (random() ** 3 + 1e-4),
  "tiny, about the threshold": (_, random) => (random() - 0.5) * 4e-15,
  subnormal: (_, random) => (random() - 0.5) * 1e-40,
  "smallest numbers": (_, random) => Math.floor(random() * 3 - 1) * 1.4e-45,
  "scales that are subnormal in f16": (_, random) => (random() - 0.5) * 1e-5,
  "as large as f16 minima allow": (_, random) => (random() - 0.5) * 1.3e5,
  "magnitudes of all orders": (_, random) => (random() < 0.5 ? -1 : 1) * 10 ** (random() * 20 - 16),
};

function valuesOf(kind: string, seed: number): Float32Array {
  const random = numbers(seed);
  return Float32Array.from({ length: 256 * blocks }, (_, i) => kinds[kind]!(i, random));
}

function plainBytes(dtype: QuantDType, values: Float32Array): Uint8Array {
  const out = new Uint8Array(bytesOf(dtype, values.length));
  quantizePlain(dtype, values, 0, out, 0, values.length);
  return out;
}

const bytesOfValues = (values: Float32Array): Uint8Array => new Uint8Array(values.buffer, values.byteOffset, values.byteLength);

function generatedBytes(dtype: QuantDType, values: Float32Array): Uint8Array {
  const out = new Uint8Array(bytesOf(dtype, values.length)).fill(0xa5);
  expect(runConversion("f32", dtype, bytesOfValues(values), values.length, out)).toBe(true);
  return out;
}

/** Comparing by `toEqual` would take longer than everything else. */
function expectSameBytes(dtype: DType, got: Uint8Array, want: Uint8Array, what: string): void {
  const at = got.findIndex((byte, i) => byte !== want[i]);
  const { blockBytes } = dtypeInfo[dtype];
  expect(at, `${dtype} of ${what}: block ${Math.floor(at / blockBytes)}, byte ${at % blockBytes}`).toBe(-1);
}

describe.each(quantized)("generated %s", (dtype) => {
  it("gives the bytes of the plain loops", () => {
    for (const kind of Object.keys(kinds)) {
      const values = valuesOf(kind, 7);
      expectSameBytes(dtype, generatedBytes(dtype, values), plainBytes(dtype, values), kind);
    }
    const normal = torchCpu(3).randn(256 * 1030, "f32") as Float32Array;
    expectSameBytes(dtype, generatedBytes(dtype, normal), plainBytes(dtype, normal), "normal numbers");
  });

  it("takes any number of blocks from any place", () => {
    const values = torchCpu(4).randn(256 * 21 + 1, "f32") as Float32Array;
    const { blockSize, blockBytes } = dtypeInfo[dtype];
    for (const count of [0, 1, 2, 7, 8, 9, 17]) {
      const [got, want] = [new Uint8Array(20 * blockBytes + 3), new Uint8Array(20 * blockBytes + 3)];
      quantizeInto(dtype, values, 1, got, 3, count * blockSize);
      quantizePlain(dtype, values, 1, want, 3, count * blockSize);
      expectSameBytes(dtype, got, want, `${count} blocks`);
    }
  });

  it("refuses what the plain loops refuse", () => {
    const { blockSize } = dtypeInfo[dtype];
    const out = new Uint8Array(bytesOf(dtype, 256 * 40));
    for (const wrong of [Number.NaN, Infinity, -Infinity, 3e38, -3e38]) {
      for (const at of [0, 31, blockSize * 3 + 5, 256 * 40 - 1]) {
        const values = new Float32Array(256 * 40).fill(1);
        values[at] = wrong;
        expect(runConversion("f32", dtype, bytesOfValues(values), values.length, out)).toBe(false);
        expect(() => quantizeInto(dtype, values, 0, out, 0, values.length)).toThrow(/^quantize: /);
      }
    }
  });
});

describe("generated conversions of float formats", () => {
  const every16 = new Uint8Array(Uint16Array.from({ length: 65_536 }, (_, i) => i).buffer);
  const every8 = Uint8Array.from({ length: 256 }, (_, i) => i);

  it.each(narrow)("reads every %s", (dtype) => {
    const all = dtypeInfo[dtype].blockBytes === 2 ? every16 : every8;
    const count = all.length / dtypeInfo[dtype].blockBytes;
    const [got, want] = [new Float32Array(count), new Float32Array(count)];
    expect(runConversion(dtype, "f32", all, count, bytesOfValues(got))).toBe(true);
    decodeInto(dtype, all, 0, want, 0, count);
    expect(got.findIndex((v, i) => !Object.is(v, want[i]))).toBe(-1);
  });

  it.each(narrow)("writes %s as the plain loops do", (dtype) => {
    const limit = { f16: 65520, bf16: Infinity, f8e4m3: 464, f8e5m2: 61440 }[dtype];
    const words = Uint32Array.from({ length: 65_536 * 4 }, (_, i) => (i >> 2) * 65_536 + [0, 1, 0x8000, 0xffff][i & 3]!);
    const values = new Float32Array(words.buffer).filter((v) => !(Math.abs(v) >= limit) || Math.abs(v) === Infinity);
    const { blockBytes } = dtypeInfo[dtype];
    const [got, want] = [new Uint8Array(values.length * blockBytes), new Uint8Array(values.length * blockBytes)];
    expect(runConversion("f32", dtype, bytesOfValues(values), values.length, got)).toBe(true);
    encodeFloats(dtype, values, 0, blockBytes === 2 ? new Uint16Array(want.buffer) : want, 0, values.length);
    expectSameBytes(dtype, got, want, "all orders of magnitude");
    if (limit === Infinity) return;
    for (const wrong of [limit, -limit]) {
      expect(runConversion("f32", dtype, bytesOfValues(Float32Array.of(1, 2, 3, 4, wrong)), 5, got)).toBe(false);
    }
  });

  it.each(narrow)("quantizes %s as it does the f32 values", (dtype) => {
    const values = torchCpu(5).randn(256 * 33, "f32") as Float32Array;
    const stored = new Uint8Array(bytesOf(dtype, values.length));
    encodeFloats(dtype, values, 0, dtypeInfo[dtype].blockBytes === 2 ? new Uint16Array(stored.buffer) : stored, 0, values.length);
    const rounded = new Float32Array(values.length);
    decodeInto(dtype, stored, 0, rounded, 0, values.length);
    for (const to of ["q4_K", "iq4_nl", "q8_0"] as const) {
      const out = new Uint8Array(bytesOf(to, values.length));
      expect(runConversion(dtype, to, stored, values.length, out)).toBe(true);
      expectSameBytes(to, out, plainBytes(to, rounded), dtype);
    }
  });
});
