// Memory of the CPU backend: buffers with typed views, where their bytes come from, and the account of who holds how much.
import { DeviceError, OutOfMemoryError } from "../../errors.ts";
import type { DeviceBuffer } from "../../view.ts";
import type { MemoryReport } from "../backend.ts";

/** Storage arrays by element kind; 16-bit floats are seen as Uint16Array, f8 and quantized bytes as Uint8Array. */
export interface TypedViews {
  u8: Uint8Array;
  u16: Uint16Array;
  i32: Int32Array;
  u32: Uint32Array;
  f32: Float32Array;
  u64: BigUint64Array;
}

/** Memory that kernels may still be working in. */
export interface Home {
  readonly buffer: ArrayBufferLike;
  /** Waits until what was recorded has run; absent where kernels are done when they return. */
  settle?(): void;
}

/** A stretch of bytes inside an ArrayBuffer that may be replaced when it grows. */
export interface Region {
  /** Where the bytes are now; another object after a WebAssembly memory grew. */
  readonly home: Home;
  readonly byteOffset: number;
  /** Capacity, in bytes; a multiple of 64. */
  readonly byteLength: number;
}

/** Where regions come from. */
export interface RegionSource {
  /** A region of at least `byteLength` bytes, or undefined when there is no more memory. */
  take(byteLength: number): Region | undefined;
  /** Takes a region back for reuse. */
  give(region: Region): void;
  /** Bytes kept for reuse. */
  readonly pooledBytes: number;
  /** Lets go of what is kept for reuse. */
  trim(): void;
}

const constructors = { u8: Uint8Array, u16: Uint16Array, i32: Int32Array, u32: Uint32Array, f32: Float32Array, u64: BigUint64Array };

/** Device memory of the CPU backend. */
export class CpuBuffer implements DeviceBuffer {
  readonly byteLength: number;
  readonly label: string;
  readonly region: Region;
  #seen: ArrayBufferLike | undefined;
  #views: Partial<TypedViews> = {};

  constructor(byteLength: number, label: string, region: Region) {
    this.byteLength = byteLength;
    this.label = label;
    this.region = region;
  }

  /** The whole buffer as an array of one element kind (cached), for use at once: kernels that come later may run later. */
  array<K extends keyof TypedViews>(kind: K): TypedViews[K] {
    const { home, byteOffset, byteLength } = this.region;
    home.settle?.();
    if (this.#seen !== home.buffer) {
      this.#seen = home.buffer;
      this.#views = {};
    }
    const cached = this.#views[kind];
    if (cached) return cached as TypedViews[K];
    const make = constructors[kind];
    const made = new make(home.buffer as ArrayBuffer, byteOffset, byteLength / make.BYTES_PER_ELEMENT) as TypedViews[K];
    this.#views[kind] = made;
    return made;
  }
}

/** Rounds a size up to an eighth of its power of two, at least 64 bytes: at most 12.5 % is lost and sizes repeat. */
export function sizeClass(byteLength: number): number {
  const least = Math.max(64, byteLength);
  const step = Math.max(64, 2 ** Math.floor(Math.log2(least)) / 8);
  return Math.ceil(least / step) * step;
}

/** One ArrayBuffer per region, reused whole by size class; regions of 64 MiB and more are exact and never kept. */
export class HeapSource implements RegionSource {
  pooledBytes = 0;
  readonly #free = new Map<number, Region[]>();

  take(byteLength: number): Region | undefined {
    const large = byteLength >= 2 ** 26;
    const size = large ? Math.ceil(byteLength / 64) * 64 : sizeClass(byteLength);
    const kept = this.#free.get(size)?.pop();
    if (kept) {
      this.pooledBytes -= size;
      return kept;
    }
    return makeRegion(size);
  }

  give(region: Region): void {
    if (region.byteLength >= 2 ** 26) return;
    const list = this.#free.get(region.byteLength);
    if (list) list.push(region);
    else this.#free.set(region.byteLength, [region]);
    this.pooledBytes += region.byteLength;
  }

  trim(): void {
    this.#free.clear();
    this.pooledBytes = 0;
  }
}

function makeRegion(byteLength: number): Region | undefined {
  try {
    return { home: { buffer: new ArrayBuffer(byteLength) }, byteOffset: 0, byteLength };
  } catch {
    return undefined;
  }
}

/** Allocates and releases buffers and keeps the account. */
export class CpuMemory {
  readonly #source: RegionSource;
  readonly #limitBytes: number;
  readonly #live = new Set<CpuBuffer>();
  #liveBytes = 0;
  #peakBytes = 0;

  /** `limitBytes`: live bytes beyond which allocation throws. */
  constructor(source: RegionSource, limitBytes: number) {
    this.#source = source;
    this.#limitBytes = limitBytes;
  }

  /** A buffer of at least `byteLength` bytes with undefined contents; throws OutOfMemoryError. */
  allocate(byteLength: number, label: string): CpuBuffer {
    if (this.#liveBytes + byteLength > this.#limitBytes) throw this.#outOfMemory(byteLength, label);
    let region = this.#source.take(byteLength);
    if (!region) {
      this.#source.trim();
      region = this.#source.take(byteLength);
    }
    if (!region) throw this.#outOfMemory(byteLength, label);
    const buffer = new CpuBuffer(byteLength, label, region);
    this.#live.add(buffer);
    this.#liveBytes += region.byteLength;
    this.#peakBytes = Math.max(this.#peakBytes, this.#liveBytes + this.#source.pooledBytes);
    return buffer;
  }

  #outOfMemory(byteLength: number, label: string): OutOfMemoryError {
    const limit = this.#limitBytes === Number.POSITIVE_INFINITY ? "" : ` (limit ${this.#limitBytes})`;
    return new OutOfMemoryError(
      "allocate",
      `no memory for ${byteLength} bytes of "${label}" with ${this.#liveBytes} live${limit}; release tensors or use a smaller dtype`,
    );
  }

  /** Takes a live buffer back; throws DeviceError when it is not live. */
  release(buffer: CpuBuffer): void {
    if (!this.#live.delete(buffer))
      throw new DeviceError("release", "invalid-buffer", `not a live buffer of this device: "${buffer.label}"`);
    this.#liveBytes -= buffer.region.byteLength;
    this.#source.give(buffer.region);
  }

  /** Throws DeviceError unless the buffer is live here. */
  check(op: string, buffer: DeviceBuffer): CpuBuffer {
    if (buffer instanceof CpuBuffer && this.#live.has(buffer)) return buffer;
    throw new DeviceError(
      op,
      "invalid-buffer",
      `not a live buffer of this device: "${buffer instanceof CpuBuffer ? buffer.label : "of another backend"}"`,
    );
  }

  report(): MemoryReport {
    const labels = new Map<string, { label: string; bytes: number; count: number }>();
    for (const { label, region } of this.#live) {
      const row = labels.get(label) ?? { label, bytes: 0, count: 0 };
      row.bytes += region.byteLength;
      row.count++;
      labels.set(label, row);
    }
    const byLabel = [...labels.values()].sort((a, b) => b.bytes - a.bytes || (a.label < b.label ? -1 : 1));
    return { liveBytes: this.#liveBytes, pooledBytes: this.#source.pooledBytes, peakBytes: this.#peakBytes, byLabel };
  }

  resetPeak(): void {
    this.#peakBytes = this.#liveBytes + this.#source.pooledBytes;
  }

  trim(): void {
    this.#source.trim();
  }

  /** Forgets every buffer. */
  clear(): void {
    this.#live.clear();
    this.#liveBytes = 0;
    this.#source.trim();
  }
}
