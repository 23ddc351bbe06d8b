// WebAssembly memories as a source of regions: each up to 4 GiB, grown on demand, with a coalescing first-fit free list.

import { type WasmMemory, wasm } from "../../../wasm/webassembly.ts";
import type { Home, Region, RegionSource } from "../memory.ts";
import { scratch } from "./blocking.ts";

const pageBytes = 65_536;
/** Bytes of a 32-bit memory, less a page so that addresses plus vector widths never wrap. */
const addressableBytes = 65_535 * pageBytes;
const growthBytes = 16 * 2 ** 20;

/** How arenas are made. */
export interface ArenaOptions {
  /** Whether threads share them. */
  readonly shared: boolean;
  /** Threads that need scratch memory. */
  readonly threads: number;
  /** Largest size of one arena; 4 GiB by default. */
  readonly limitBytes?: number;
}

/** Who knows what still runs. */
interface Settler {
  settle: (() => void) | undefined;
}

interface Gap {
  start: number;
  end: number;
}

/** One WebAssembly memory. */
export class Arena implements Home {
  readonly memory: WasmMemory;
  readonly #settler: Settler;
  readonly #gaps: Gap[] = [];
  readonly #limitBytes: number;
  readonly #threads: number;
  #buffer: ArrayBufferLike;
  #words: Int32Array;
  /** Everything below was handed out at some time; the first page stays empty, then comes each thread's scratch. */
  #top: number;
  #used = 0;

  constructor({ shared, threads, limitBytes = addressableBytes }: ArenaOptions, settler: Settler) {
    this.#settler = settler;
    this.#limitBytes = Math.min(limitBytes, addressableBytes);
    this.#threads = threads;
    this.#top = pageBytes + Math.ceil((threads * scratch.bytes) / pageBytes) * pageBytes;
    this.memory = new wasm!.Memory({ initial: this.#top / pageBytes, maximum: 65_536, shared });
    this.#buffer = this.memory.buffer;
    this.#words = new Int32Array(this.#buffer);
  }

  settle(): void {
    this.#settler.settle?.();
  }

  /** The memory as words; another array after it grew. */
  get words(): Int32Array {
    return this.#words;
  }

  get buffer(): ArrayBufferLike {
    return this.#buffer;
  }

  /** Bytes handed out and not taken back. */
  get usedBytes(): number {
    return this.#used;
  }

  get pooledBytes(): number {
    return this.#gaps.reduce((n, g) => n + g.end - g.start, 0);
  }

  take(byteLength: number): Region | undefined {
    const at = this.#takeGap(byteLength) ?? this.#extend(byteLength);
    if (at === undefined) return undefined;
    this.#used += byteLength;
    return { home: this, byteOffset: at, byteLength };
  }

  #takeGap(byteLength: number): number | undefined {
    const i = this.#gaps.findIndex((g) => g.end - g.start >= byteLength);
    const gap = this.#gaps[i];
    if (!gap) return undefined;
    const at = gap.start;
    gap.start += byteLength;
    if (gap.start === gap.end) this.#gaps.splice(i, 1);
    return at;
  }

  #extend(byteLength: number): number | undefined {
    const last = this.#gaps.at(-1);
    const start = last?.end === this.#top ? last.start : this.#top;
    const end = start + byteLength;
    if (end > this.#limitBytes || !this.#reach(end)) return undefined;
    if (start !== this.#top) this.#gaps.pop();
    this.#top = end;
    return start;
  }

  /** Grows the memory to at least `end` bytes. */
  #reach(end: number): boolean {
    const have = this.#buffer.byteLength;
    if (end <= have) return true;
    const wanted = Math.ceil(Math.max(end, Math.min(this.#limitBytes, have + growthBytes)) / pageBytes);
    try {
      this.memory.grow(wanted - have / pageBytes);
    } catch {
      return false;
    }
    this.#buffer = this.memory.buffer;
    this.#words = new Int32Array(this.#buffer);
    return true;
  }

  give({ byteOffset, byteLength }: Region): void {
    this.#used -= byteLength;
    const gap = { start: byteOffset, end: byteOffset + byteLength };
    let i = this.#gaps.findIndex((g) => g.start > gap.start);
    if (i < 0) i = this.#gaps.length;
    const [before, after] = [this.#gaps[i - 1], this.#gaps[i]];
    if (after?.start === gap.end) {
      after.start = gap.start;
      if (before?.end !== gap.start) return;
      before.end = after.end;
      this.#gaps.splice(i, 1);
    } else if (before?.end === gap.start) before.end = gap.end;
    else this.#gaps.splice(i, 0, gap);
  }

  /** Address of a thread's scratch memory, or undefined for a thread beyond those it was made for. */
  scratchOf(thread: number): number | undefined {
    return thread < this.#threads ? pageBytes + thread * scratch.bytes : undefined;
  }
}

/** Arenas in the order of their creation; a region comes from the first that has room. */
export class ArenaSource implements RegionSource {
  readonly arenas: Arena[] = [];
  /** Set by the engine whose jobs may still be running. */
  settle: (() => void) | undefined;
  readonly #options: ArenaOptions;

  constructor(options: ArenaOptions) {
    this.#options = options;
  }

  get pooledBytes(): number {
    return this.arenas.reduce((n, a) => n + a.pooledBytes, 0);
  }

  take(byteLength: number): Region | undefined {
    const size = Math.max(64, Math.ceil(byteLength / 64) * 64);
    if (size > addressableBytes) return undefined;
    for (const arena of this.arenas) {
      const region = arena.take(size);
      if (region) return region;
    }
    return this.open()?.take(size);
  }

  /** Another, empty arena; undefined when there is no address space for one. */
  open(): Arena | undefined {
    try {
      const arena = new Arena(this.#options, this);
      this.arenas.push(arena);
      return arena;
    } catch {
      return undefined;
    }
  }

  give(region: Region): void {
    (region.home as Arena).give(region);
  }

  /** Drops arenas in which nothing lives; a memory cannot shrink. */
  trim(): void {
    const kept = this.arenas.filter((a) => a.usedBytes > 0);
    this.arenas.splice(0, this.arenas.length, ...kept);
  }
}
