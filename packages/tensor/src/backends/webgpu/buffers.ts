// GPU memory: whole buffers pooled by size class, never carved out of one arena, because WebGPU forbids binding one buffer for reading and for
// writing in the same dispatch even when the ranges are apart.

import { OutOfMemoryError } from "../../errors.ts";
import type { MemoryReport } from "../backend.ts";
import { GpuBuffer, type Store } from "./store.ts";

const minClassBytes = 256;
const maxLabels = 4096;
/** Allocations from this size on are watched for a refusal by the driver. */
const watchedBytes = 2 ** 20;
/** Allocations from this size on take a pooled buffer that is larger. */
const sharedBytes = 256 * 2 ** 20;
/** Refused allocations that one error names. */
const LISTED_FAILURES = 3;

/**
 * The smallest size class that holds `bytes`: multiples of 256 up to 2 KiB, eight steps an octave up to 1 MiB, then multiples of 64 KiB. Weights
 * are most of the memory and large ones recur in few sizes: eight steps an octave would waste 3 to 10 % of the released models' for nothing.
 */
export function sizeClass(bytes: number): number {
  if (bytes <= 2048) return Math.max(minClassBytes, Math.ceil(bytes / 256) * 256);
  const step = bytes > 2 ** 20 ? 2 ** 16 : 2 ** (31 - Math.clz32(bytes) - 3);
  return Math.ceil(bytes / step) * step;
}

export interface PoolLimits {
  readonly maxBufferBytes: number;
  /** Live and pooled together. */
  readonly memoryLimitBytes: number;
  /** Kept for reuse while work is recorded: until it has run, to destroy a buffer would free nothing. */
  readonly maxPooledBytes: number;
  /** Kept for reuse when somebody waits. */
  readonly maxKeptBytes: number;
  /** Destroyed, and held by work that has not run, before recording should wait. */
  readonly maxHeldBytes: number;
}

const bufferUsage = 0x80 | 0x04 | 0x08; // STORAGE | COPY_SRC | COPY_DST

/** Allocates, pools and counts. Errors that the driver reports later are kept in `failures` until someone awaits them. */
export class BufferPool {
  private readonly device: GPUDevice;
  private readonly limits: PoolLimits;
  private readonly free = new Map<number, Store[]>();
  private readonly live = new Map<string, { bytes: number; count: number }>();
  /** Destroyed after the next submission: destroying a buffer that recorded commands use would fail the submission. */
  private readonly doomed: Store[] = [];
  private doomedBytes = 0;
  private readonly failures: Promise<readonly string[]>[] = [];
  private nextId = 1;
  private liveBytes = 0;
  private pooledBytes = 0;
  private peakBytes = 0;
  /** Of all buffers ever destroyed, and of those whose last use the queue has passed. */
  private destroyedBytes = 0;
  private passedBytes = 0;
  /** Live and pooled together, as far as giving pooled buffers back can reach it. */
  private targetBytes: number;

  constructor(device: GPUDevice, limits: PoolLimits) {
    this.device = device;
    this.limits = limits;
    this.targetBytes = limits.memoryLimitBytes;
  }

  /** Gives pooled buffers back before live and pooled ones together pass `bytes`; unlike the limit it refuses nothing. */
  keepWithin(bytes: number): void {
    this.targetBytes = Math.min(bytes, this.limits.memoryLimitBytes);
    this.evict(0);
  }

  allocate(byteLength: number, label: string): GpuBuffer {
    const size = this.sizeFor(byteLength, label);
    const store = this.takePooled(size) ?? this.create(size, byteLength, label);
    this.count(label, store.sizeBytes, 1);
    this.peakBytes = Math.max(this.peakBytes, this.liveBytes + this.pooledBytes);
    return new GpuBuffer(byteLength, label, store);
  }

  /**
   * A pooled buffer of this size; for a large one also of up to twice the size. Activations of large images take gibibytes in few sizes, and what one
   * layer released stays allocated until the GPU has passed it, whether it is used or not. (Weights are smaller, or come when the pool is empty.)
   */
  private takePooled(size: number): Store | undefined {
    let found = this.free.get(size);
    if (!found?.length && size >= sharedBytes) {
      const fitting = [...this.free.keys()].filter((bytes) => bytes > size && bytes <= 2 * size && this.free.get(bytes)!.length > 0);
      found = this.free.get(Math.min(...fitting));
    }
    const store = found?.pop();
    if (store) this.pooledBytes -= store.sizeBytes;
    return store;
  }

  release(buffer: GpuBuffer): void {
    const { store } = buffer;
    if (!store) return;
    buffer.store = undefined;
    this.count(buffer.label, -store.sizeBytes, -1);
    if (store.failed || this.pooledBytes + store.sizeBytes > this.limits.maxPooledBytes) {
      this.doom(store);
      return;
    }
    this.pooledBytes += store.sizeBytes;
    const list = this.free.get(store.sizeBytes);
    if (list) list.push(store);
    else this.free.set(store.sizeBytes, [store]);
  }

  /** Destroys buffers that were waiting for a submission; drivers hold their memory until the queue has passed their last use. */
  sweep(): boolean {
    for (const { gpu, sizeBytes, derived } of this.doomed) {
      gpu.destroy();
      this.destroyedBytes += sizeBytes;
      for (const { buffer } of derived?.byKey.values() ?? []) buffer.store?.gpu.destroy();
    }
    this.doomedBytes = 0;
    return this.doomed.splice(0).length > 0;
  }

  private doom(store: Store): void {
    this.doomed.push(store);
    this.doomedBytes += store.sizeBytes;
  }

  /** Whether so much waits for a submission to be destroyed that one should not be put off. */
  get isDooming(): boolean {
    return this.doomedBytes > this.limits.maxHeldBytes / 4;
  }

  /** Whether the queue holds so much of what was destroyed that recording should wait for it. */
  get isBehind(): boolean {
    return this.destroyedBytes - this.passedBytes > this.limits.maxHeldBytes;
  }

  /** To be called when everything submitted is about to be waited for; what it returns, when that has run: whether it released memory. */
  passing(): () => boolean {
    const bytes = this.destroyedBytes;
    return () => {
      const more = bytes > this.passedBytes;
      if (more) this.passedBytes = bytes;
      return more;
    };
  }

  /** Destroys everything free, also when it is in use by the recorded stream: only for devices that end. */
  destroy(): void {
    this.drain();
    this.sweep();
  }

  /** Moves every pooled buffer to the doomed ones. */
  drain(): void {
    for (const list of this.free.values()) for (const store of list) this.doom(store);
    this.free.clear();
    this.pooledBytes = 0;
  }

  /** Dooms pooled buffers until no more are kept than after a wait. */
  shrink(): void {
    this.doomLargest(() => this.pooledBytes - this.limits.maxKeptBytes);
  }

  /** Dooms pooled buffers until `size` more bytes stay within the target. */
  private evict(size: number): void {
    this.doomLargest(() => this.liveBytes + this.pooledBytes + size - this.targetBytes);
  }

  /** The largest first, while there is an excess of bytes. */
  private doomLargest(excess: () => number): void {
    if (this.pooledBytes === 0 || excess() <= 0) return;
    for (const bytes of [...this.free.keys()].sort((a, b) => b - a)) {
      const stores = this.free.get(bytes)!;
      while (stores.length > 0) {
        if (excess() <= 0) return;
        this.doom(stores.pop()!);
        this.pooledBytes -= bytes;
      }
      this.free.delete(bytes);
    }
  }

  get hasFailures(): boolean {
    return this.failures.length > 0;
  }

  /** Resolves to an error when an allocation since the last call failed. */
  async settled(): Promise<OutOfMemoryError | undefined> {
    const messages = (await Promise.all(this.failures.splice(0))).flat();
    if (messages.length === 0) return undefined;
    const more = messages.length > LISTED_FAILURES ? `; and ${messages.length - LISTED_FAILURES} more` : "";
    return new OutOfMemoryError(
      "allocate",
      `${messages.slice(0, LISTED_FAILURES).join("; ")}${more}; release tensors, use a smaller dtype, tile or stream`,
    );
  }

  report(): MemoryReport {
    const byLabel = [...this.live].filter(([, { count }]) => count > 0).map(([label, { bytes, count }]) => ({ label, bytes, count }));
    byLabel.sort((a, b) => b.bytes - a.bytes);
    return { liveBytes: this.liveBytes, pooledBytes: this.pooledBytes, peakBytes: this.peakBytes, byLabel };
  }

  resetPeak(): void {
    this.peakBytes = this.liveBytes + this.pooledBytes;
  }

  private sizeFor(byteLength: number, label: string): number {
    const { maxBufferBytes } = this.limits;
    if (byteLength > maxBufferBytes) {
      const what = `"${label}" needs ${byteLength} bytes, more than this device's largest buffer of ${maxBufferBytes} bytes`;
      throw new OutOfMemoryError("allocate", `${what}; split the tensor`);
    }
    // 16 bytes of slack let kernels read whole vectors at the end.
    return Math.min(sizeClass(byteLength + 16), Math.max(Math.ceil(byteLength / 16) * 16, maxBufferBytes - (maxBufferBytes % 16)));
  }

  private create(size: number, byteLength: number, label: string): Store {
    this.makeRoom(size, label);
    const make = () => this.storeOn(this.createGpuBuffer(size, byteLength, label), size);
    if (size < watchedBytes) return make();
    this.device.pushErrorScope("out-of-memory");
    let store: Store | undefined;
    try {
      store = make();
      return store;
    } finally {
      // Also where it threw: a scope left open would swallow every later refusal.
      this.watch(store, label, byteLength);
    }
  }

  private storeOn(gpu: GPUBuffer, sizeBytes: number): Store {
    return { id: this.nextId++, gpu, sizeBytes, epoch: 0, version: 0, derived: undefined, failed: false };
  }

  /** A small buffer for the backend's own words; in no report. */
  createUncounted(byteLength: number, label: string): Store {
    return this.storeOn(this.createGpuBuffer(byteLength, byteLength, label), byteLength);
  }

  private createGpuBuffer(size: number, byteLength: number, label: string): GPUBuffer {
    try {
      return this.device.createBuffer({ size, usage: bufferUsage, label });
    } catch (cause) {
      throw new OutOfMemoryError("allocate", `"${label}": ${byteLength} bytes could not be allocated`, { cause });
    }
  }

  private watch(store: Store | undefined, label: string, byteLength: number): void {
    const failure = this.device.popErrorScope().then(
      (error) => {
        if (store) store.failed = error !== null;
        return error ? [`"${label}": ${byteLength} bytes could not be allocated (${error.message.split("\n")[0]})`] : [];
      },
      () => [],
    );
    this.failures.push(failure);
    if (this.failures.length > 64) this.forgetSuccesses();
  }

  /** Keeps the list of watched allocations short in programs that never wait. */
  private forgetSuccesses(): void {
    const batch = this.failures.splice(0);
    this.failures.push(Promise.all(batch).then((messages) => messages.flat()));
  }

  private makeRoom(size: number, label: string): void {
    this.evict(size);
    const { memoryLimitBytes } = this.limits;
    if (this.liveBytes + size <= memoryLimitBytes) return;
    const have = `${this.liveBytes} of ${memoryLimitBytes} bytes are in use`;
    throw new OutOfMemoryError("allocate", `"${label}" needs ${size} bytes and ${have}; release tensors or use a smaller dtype`);
  }

  private count(label: string, bytes: number, n: number): void {
    this.liveBytes += bytes;
    let entry = this.live.get(label);
    if (!entry) {
      if (this.live.size >= maxLabels) this.forgetLabels();
      entry = { bytes: 0, count: 0 };
      this.live.set(label, entry);
    }
    entry.bytes += bytes;
    entry.count += n;
  }

  /** Labels without live buffers; they are kept for a while because most come back with the next op. */
  private forgetLabels(): void {
    for (const [label, { count }] of this.live) if (count === 0) this.live.delete(label);
  }
}
