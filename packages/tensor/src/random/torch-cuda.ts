// Random numbers as PyTorch draws them on NVIDIA GPUs: the counter-based Philox4x32-10, spread over threads the way the kernel spreads them.
// Uniforms are exact; normals agree to about 1e-6, because the GPU uses its own fast logarithm and sine.
// pytorch: aten/src/ATen/native/cuda/DistributionTemplates.h; J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011).
import { bf16FromF32, f16FromF32 } from "../dtype-convert.ts";
import { TensorError } from "../errors.ts";
import { checkDrawn, checkSeed } from "./torch-cpu.ts";

const f = Math.fround;
const BLOCK_THREADS = 256;

/** The card whose thread count shapes large draws, e.g. { sms: 108, threadsPerSm: 2048 } for an A100. */
export interface CudaCard {
  /** Multiprocessors of the card. */
  readonly sms: number;
  /** Most resident threads per multiprocessor. */
  readonly threadsPerSm: number;
}

/** Formats that PyTorch draws on CUDA. */
export type CudaRandomDType = "f32" | "bf16" | "f16";
const dtypes: readonly string[] = ["f32", "bf16", "f16"] satisfies CudaRandomDType[];
type CudaArray<D extends CudaRandomDType> = D extends "f32" ? Float32Array : Uint16Array;

/** High and low word of the product of two unsigned 32-bit numbers; the high word by halves, all in exact doubles. */
function mulHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const low = aLow * bLow;
  const middle = aHigh * bLow + Math.floor(low / 65536);
  const other = aLow * bHigh + (middle % 65536);
  return aHigh * bHigh + Math.floor(middle / 65536) + Math.floor(other / 65536);
}

/** Ten rounds over the counter `c` (four words, in place) under the key (k0, k1). */
function philox(c: Uint32Array, k0: number, k1: number): void {
  for (let round = 0; round < 10; round++) {
    const high0 = mulHigh(0xd2511f53, c[0]!);
    const high1 = mulHigh(0xcd9e8d57, c[2]!);
    const low0 = Math.imul(0xd2511f53, c[0]!);
    const low1 = Math.imul(0xcd9e8d57, c[2]!);
    c[0] = high1 ^ c[1]! ^ k0;
    c[1] = low1;
    c[2] = high0 ^ c[3]! ^ k1;
    c[3] = low0;
    k0 = (k0 + 0x9e3779b9) | 0;
    k1 = (k1 + 0xbb67ae85) | 0;
  }
}

/** A uniform in (0, 1] from a word, as curand_uniform gives it. */
const uniform = (word: number): number => f(f(f(word) * f(2 ** -32)) + f(2 ** -33));

/** Two normals from two words, as curand's Box-Muller: sine first. */
function boxMuller(x: number, y: number): readonly [number, number] {
  const v = f(f(f(y) * f(2 ** -32 * 2 * Math.PI)) + f(2 ** -33 * 2 * Math.PI));
  const s = f(Math.sqrt(f(-2 * f(Math.log(uniform(x))))));
  return [f(s * f(Math.sin(v))), f(s * f(Math.cos(v)))];
}

/** torch.Generator("cuda"): the same draws as a card with as many processors. */
export class TorchCudaGenerator {
  /** The seed, modulo 2^64. */
  readonly seed: bigint;
  /** Whose launch sizes decide the order of the values. */
  readonly card: CudaCard | undefined;
  /** Where in the stream the next draw begins, as `torch.cuda` counts it. */
  private offset: number;

  constructor(seed: number | bigint, card?: CudaCard, offset = 0) {
    this.seed = checkSeed("torchCuda", seed);
    this.card = checkCard(card);
    if (!Number.isSafeInteger(offset) || offset < 0 || offset % 4 !== 0) {
      throw new TensorError("torchCuda", `an offset must be a multiple of 4: ${offset}`);
    }
    this.offset = offset;
  }

  /** `n` standard normals, as `torch.randn(n, device="cuda", generator=g)` to about 1e-6; bf16 and f16 come as bit patterns. */
  randn(n: number): Float32Array;
  randn<D extends CudaRandomDType>(n: number, dtype: D): CudaArray<D>;
  randn(n: number, dtype: CudaRandomDType = "f32"): Float32Array | Uint16Array {
    checkDrawn("randn", dtype, dtypes);
    return encode(this.draw(n, normals), dtype);
  }

  /** `n` uniforms in [0, 1), as `torch.rand(n, device="cuda", generator=g)`; bf16 and f16 come as bit patterns. */
  rand(n: number): Float32Array;
  rand<D extends CudaRandomDType>(n: number, dtype: D): CudaArray<D>;
  rand(n: number, dtype: CudaRandomDType = "f32"): Float32Array | Uint16Array {
    checkDrawn("rand", dtype, dtypes);
    const one = dtype === "bf16" ? 0x3f80 : 0x3c00;
    const out = encode(this.draw(n, uniforms), dtype);
    // The kernel turns (0, 1] into [0, 1) after rounding to the dtype.
    return dtype === "f32" ? out.map((v) => (v === 1 ? 0 : v)) : out.map((v) => (v === one ? 0 : v));
  }

  /** Seed and offset, which are the whole state; `torchCuda(seed, card, offset)` continues from it. */
  state(): {
    /** The seed, modulo 2^64. */
    readonly seed: bigint;
    /** Where the next draw begins. */
    readonly offset: number;
  } {
    return { seed: this.seed, offset: this.offset };
  }

  /** Element e is drawn by thread e mod T in its iteration ⌊e/4T⌋ as component ⌊(e mod 4T)/T⌋, with T threads in flight. */
  private draw(n: number, transform: (words: Uint32Array, out: Float32Array) => void): Float32Array {
    if (!Number.isSafeInteger(n) || n < 0)
      throw new TensorError("randn", `the number of values must be a whole number of at least 0: ${n}`);
    const out = new Float32Array(n);
    const threads = this.threads(n);
    const [k0, k1] = [Number(this.seed & 0xffffffffn) | 0, Number(this.seed >> 32n) | 0];
    const counter = new Uint32Array(4);
    const values = new Float32Array(4);
    const rounds = Math.ceil(n / (4 * threads));
    for (let round = 0; round < rounds; round++) {
      const block = this.offset / 4 + round;
      for (let thread = 0; thread < threads && round * 4 * threads + thread < n; thread++) {
        counter[0] = block;
        counter[1] = Math.floor(block / 2 ** 32);
        counter[2] = thread;
        counter[3] = 0;
        philox(counter, k0, k1);
        transform(counter, values);
        for (let i = 0, e = round * 4 * threads + thread; i < 4 && e < n; i++, e += threads) out[e] = values[i]!;
      }
    }
    this.offset += 4 * rounds;
    return out;
  }

  private threads(n: number): number {
    const blocks = Math.max(1, Math.ceil(n / BLOCK_THREADS));
    const most = this.card ? this.card.sms * Math.floor(this.card.threadsPerSm / BLOCK_THREADS) : blocks;
    return BLOCK_THREADS * Math.min(blocks, most);
  }
}

function normals(words: Uint32Array, out: Float32Array): void {
  [out[0], out[1]] = boxMuller(words[0]!, words[1]!);
  [out[2], out[3]] = boxMuller(words[2]!, words[3]!);
}

function uniforms(words: Uint32Array, out: Float32Array): void {
  for (let i = 0; i < 4; i++) out[i] = uniform(words[i]!);
}

function encode(values: Float32Array, dtype: CudaRandomDType): Float32Array | Uint16Array {
  if (dtype === "f32") return values;
  return Uint16Array.from(values, dtype === "bf16" ? bf16FromF32 : f16FromF32);
}

function checkCard(card: CudaCard | undefined): CudaCard | undefined {
  if (!card) return undefined;
  const { sms, threadsPerSm } = card;
  if (Number.isInteger(sms) && sms > 0 && Number.isInteger(threadsPerSm) && threadsPerSm >= BLOCK_THREADS) return card;
  throw new TensorError("torchCuda", `a card needs at least one multiprocessor of 256 threads: sms ${sms}, threadsPerSm ${threadsPerSm}`);
}

/**
 * A generator of PyTorch's CUDA streams from `seed`. Without a card, draws come as from one with threads for every value, which agrees with
 * all cards up to sms * threadsPerSm values; larger draws differ from card to card.
 */
export const torchCuda = (seed: number | bigint, card?: CudaCard, offset = 0): TorchCudaGenerator =>
  new TorchCudaGenerator(seed, card, offset);
