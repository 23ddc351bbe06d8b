// Random numbers that PyTorch's CPU generator would give, bit for bit: same seed, same noise. No hidden global generator.
// pytorch: aten/src/ATen/native/cpu/DistributionTemplates.h, core/DistributionsHelper.h, core/TransformationHelper.h, CPUGeneratorImpl.cpp.

import { bf16FromF32, f16FromF32 } from "../dtype-convert.ts";
import { DTypeError, TensorError } from "../errors.ts";
import { legacyBoxMuller16, legacyUniform } from "./legacy.ts";
import { Mt19937 } from "./mt19937.ts";
import { boxMuller16 } from "./normal-f32.ts";
import { boxMuller16Double, normalPair } from "./normal-f64.ts";

/** Formats PyTorch draws in; bf16 and f16 come back as bit patterns. */
export type RandomDType = "f32" | "f64" | "bf16" | "f16";
/** What a generator draws: floats, or the bits of a narrow format. */
export type RandomArray<D extends RandomDType> = D extends "f32" ? Float32Array : D extends "f64" ? Float64Array : Uint16Array;

/**
 * Which generation of PyTorch's bf16 and f16 streams: "torch-cpu" rounds the f32 stream (2.13 and its neighbours),
 * "torch-cpu-legacy" computes in the low precision from 8- or 11-bit uniforms (1.13). f32, f64 and integers are the same in both.
 */
export type TorchCpuStream = "torch-cpu" | "torch-cpu-legacy";
const streams: readonly string[] = ["torch-cpu", "torch-cpu-legacy"] satisfies TorchCpuStream[];
const dtypes: readonly string[] = ["f32", "f64", "bf16", "f16"] satisfies RandomDType[];

/** Bytes of `torch.Generator.get_state()` on the CPU. */
const STATE_BYTES = 5056;

/** torch.Generator("cpu"): the same draws, bit for bit. */
export class TorchCpuGenerator {
  /** Which generation of PyTorch's streams it gives. */
  readonly stream: TorchCpuStream;
  /** The seed the generator started from, modulo 2^64. */
  readonly seed: bigint;
  private engine: Mt19937;
  /** The second value of the last scalar normal pair, still to be handed out. */
  private spare: number | undefined;

  constructor(seed: number | bigint, stream: TorchCpuStream = "torch-cpu") {
    this.seed = checkSeed("torchCpu", seed);
    if (!streams.includes(stream)) throw new TensorError("torchCpu", `unknown stream "${stream}"; known are ${streams.join(" and ")}`);
    this.stream = stream;
    this.engine = Mt19937.seeded(this.seed);
    this.spare = undefined;
  }

  /**
   * `n` standard normal values, as `torch.randn(n, generator=g)` for any shape of n values.
   * From 16 values on they come in groups of 16; below that one by one, from pairs computed in f64.
   */
  randn(n: number): Float32Array;
  randn<D extends RandomDType>(n: number, dtype: D): RandomArray<D>;
  randn(n: number, dtype: RandomDType = "f32"): Float32Array | Float64Array | Uint16Array {
    checkCount("randn", n);
    checkDrawn("randn", dtype, dtypes);
    if (n < 16) return fill(n, dtype, () => this.scalarNormal());
    if (dtype === "f64") return this.grouped(new Float64Array(n), () => this.uniform53(), boxMuller16Double);
    if (dtype === "f32") return this.grouped(new Float32Array(n), () => this.uniform24(), boxMuller16);
    return this.stream === "torch-cpu" ? this.roundedNormals(n, dtype) : this.legacyNormals(n, dtype);
  }

  /** `n` uniform values in [0, 1), as `torch.rand(n, generator=g)`. */
  rand(n: number): Float32Array;
  rand<D extends RandomDType>(n: number, dtype: D): RandomArray<D>;
  rand(n: number, dtype: RandomDType = "f32"): Float32Array | Float64Array | Uint16Array {
    checkCount("rand", n);
    checkDrawn("rand", dtype, dtypes);
    if (dtype === "f64") return fill(n, dtype, () => this.uniform53());
    if (dtype === "f32") return fill(n, dtype, () => this.uniform24());
    if (this.stream === "torch-cpu-legacy") return fill(n, dtype, () => legacyUniform(this.engine.word(), dtype));
    const one = dtype === "bf16" ? 0x3f80 : 0x3c00;
    return (fill(n, dtype, () => this.uniform24()) as Uint16Array).map((bits) => (bits === one ? 0 : bits));
  }

  /** `n` whole numbers in [low, high), as `torch.randint(low, high, (n,), generator=g)`; the bounds must fit i32. */
  randint(low: number, high: number, n: number): Int32Array {
    checkCount("randint", n);
    const fits = (v: number): boolean => Number.isInteger(v) && v >= -(2 ** 31) && v <= 2 ** 31;
    if (!fits(low) || !fits(high) || low >= high) {
      throw new TensorError("randint", `bounds must be whole numbers that fit i32 with low < high: low ${low}, high ${high}`);
    }
    const range = high - low;
    const draw = range < 2 ** 28 ? () => this.engine.word() % range : () => Number(this.word64() % BigInt(range));
    return Int32Array.from({ length: n }, () => draw() + low);
  }

  /** The numbers 0…n-1 in random order, as `torch.randperm(n, generator=g)`. */
  randperm(n: number): Int32Array {
    checkCount("randperm", n);
    if (n >= 2 ** 32 / 20) throw new TensorError("randperm", `too many values: ${n}; at most ${Math.floor(2 ** 32 / 20)}`);
    const out = Int32Array.from({ length: n }, (_, i) => i);
    for (let i = 0; i < n - 1; i++) {
      const other = i + (this.engine.word() % (n - i));
      const kept = out[i]!;
      out[i] = out[other]!;
      out[other] = kept;
    }
    return out;
  }

  /** The state in the 5,056 bytes of `torch.Generator.get_state()`; either library can continue the other's stream. */
  state(): Uint8Array {
    const bytes = new Uint8Array(STATE_BYTES);
    const view = new DataView(bytes.buffer);
    const { words, left, next } = this.engine.snapshot();
    view.setBigUint64(0, this.seed, true);
    view.setInt32(8, left, true);
    view.setInt32(12, 1, true);
    view.setBigUint64(16, BigInt(next), true);
    for (const [i, word] of words.entries()) view.setUint32(24 + 8 * i, word, true);
    view.setFloat64(5024, this.spare ?? 0, true);
    view.setInt32(5040, this.spare === undefined ? 0 : 1, true);
    return bytes;
  }

  /** A generator that continues from `state()` or from PyTorch's `get_state()`; throws on any other bytes. */
  static fromState(bytes: Uint8Array, stream: TorchCpuStream = "torch-cpu"): TorchCpuGenerator {
    if (bytes.length !== STATE_BYTES) {
      throw new TensorError("fromState", `a torch CPU generator state has ${STATE_BYTES} bytes, these are ${bytes.length}`);
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const left = view.getInt32(8, true);
    const next = Number(view.getBigUint64(16, true));
    if (view.getInt32(12, true) !== 1 || left < 1 || left > 624 || next > 624 || (left > 1 && next !== 625 - left)) {
      throw new TensorError("fromState", `not a torch CPU generator state: seeded ${view.getInt32(12, true)}, left ${left}, next ${next}`);
    }
    const words = Uint32Array.from({ length: 624 }, (_, i) => view.getUint32(24 + 8 * i, true));
    const generator = new TorchCpuGenerator(view.getBigUint64(0, true), stream);
    generator.engine = Mt19937.resumed(words, left, next);
    generator.spare = view.getInt32(5040, true) ? view.getFloat64(5024, true) : undefined;
    return generator;
  }

  private uniform24(): number {
    return (this.engine.word() & 0xffffff) / 0x1000000;
  }

  private uniform53(): number {
    const high = this.engine.word() & 0x1fffff;
    return (high * 2 ** 32 + this.engine.word()) / 2 ** 53;
  }

  private word64(): bigint {
    const high = BigInt(this.engine.word()) << 32n;
    return high | BigInt(this.engine.word());
  }

  private scalarNormal(): number {
    if (this.spare !== undefined) {
      const value = this.spare;
      this.spare = undefined;
      return value;
    }
    const angle = this.uniform53();
    const [first, second] = normalPair(angle, this.uniform53());
    this.spare = second;
    return first;
  }

  /** Uniforms over the whole array, Box-Muller per 16, then a ragged end drawn again over the last 16 places. */
  private grouped<A extends Float32Array | Float64Array>(out: A, uniform: () => number, transform: (x: A, i: number) => void): A {
    const n = out.length;
    for (let i = 0; i < n; i++) out[i] = uniform();
    for (let i = 0; i + 16 <= n; i += 16) transform(out, i);
    if (n % 16 !== 0) {
      for (let i = n - 16; i < n; i++) out[i] = uniform();
      transform(out, n - 16);
    }
    return out;
  }

  /** bf16 and f16 of the current generation: f32 groups rounded; a ragged end draws nothing for its first pass. */
  private roundedNormals(n: number, dtype: "bf16" | "f16"): Uint16Array {
    const out = new Uint16Array(n);
    const encode = dtype === "bf16" ? bf16FromF32 : f16FromF32;
    const group = new Float32Array(16);
    const drawAt = (offset: number): void => {
      for (let j = 0; j < 16; j++) group[j] = this.uniform24();
      boxMuller16(group, 0);
      for (let j = 0; j < 16; j++) out[offset + j] = encode(group[j]!);
    };
    for (let i = 0; i + 16 <= n; i += 16) drawAt(i);
    if (n % 16 !== 0) drawAt(n - 16);
    return out;
  }

  private legacyNormals(n: number, dtype: "bf16" | "f16"): Uint16Array {
    const out = new Uint16Array(n);
    const draw = (from: number): void => {
      for (let i = from; i < n; i++) out[i] = legacyUniform(this.engine.word(), dtype, true);
    };
    draw(0);
    for (let i = 0; i + 16 <= n; i += 16) legacyBoxMuller16(out, i, dtype);
    if (n % 16 !== 0) {
      draw(n - 16);
      legacyBoxMuller16(out, n - 16, dtype);
    }
    return out;
  }
}

function fill(n: number, dtype: RandomDType, draw: () => number): Float32Array | Float64Array | Uint16Array {
  const out = dtype === "f32" ? new Float32Array(n) : dtype === "f64" ? new Float64Array(n) : new Uint16Array(n);
  const encode = dtype === "bf16" ? bf16FromF32 : dtype === "f16" ? f16FromF32 : (v: number) => v;
  for (let i = 0; i < n; i++) out[i] = encode(draw());
  return out;
}

function checkCount(op: string, n: number): void {
  if (!Number.isSafeInteger(n) || n < 0) throw new TensorError(op, `the number of values must be a whole number of at least 0: ${n}`);
}

/** Throws DTypeError unless PyTorch's generator draws in `dtype`. */
export function checkDrawn(op: string, dtype: string, known: readonly string[]): void {
  if (!known.includes(dtype)) throw new DTypeError(op, `no random numbers are drawn in ${dtype}; draw in ${known.join(", ")}`);
}

/** A seed modulo 2^64, as PyTorch keeps it. Throws TensorError unless it is whole. */
export function checkSeed(op: string, seed: number | bigint): bigint {
  if (typeof seed === "number" && !Number.isSafeInteger(seed)) {
    throw new TensorError(op, `a seed must be a whole number: ${seed}; pass a bigint beyond 2^53`);
  }
  return BigInt.asUintN(64, BigInt(seed));
}

/** A generator of PyTorch's CPU streams from `seed`; see `TorchCpuStream` for the two generations of bf16 and f16. */
export const torchCpu = (seed: number | bigint, stream: TorchCpuStream = "torch-cpu"): TorchCpuGenerator =>
  new TorchCpuGenerator(seed, stream);
