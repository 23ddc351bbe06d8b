// Per-op times: GPU timestamps around one pass per op, or the host's clock around one submission per op where there are none.
import type { OpTiming } from "../backend.ts";

interface Entry {
  readonly op: string;
  readonly label: string;
  readonly flops: number;
  readonly bytes: number;
  readonly region: string | undefined;
}

const opsPerSet = 1024;

/** Collects the entries of one `profile` call. */
export class Profiler {
  private readonly device: GPUDevice;
  private readonly timestamps: boolean;
  private readonly region: (() => string | undefined) | undefined;
  private readonly timings: Promise<OpTiming[]>[] = [];
  private set: GPUQuerySet | undefined;
  private entries: Entry[] = [];
  private staging: GPUBuffer | undefined;
  private lastEnd: Promise<number> = Promise.resolve(performance.now());

  constructor(device: GPUDevice, timestamps: boolean, region?: () => string | undefined) {
    this.device = device;
    this.timestamps = timestamps;
    this.region = region;
  }

  get full(): boolean {
    return this.entries.length >= opsPerSet;
  }

  begin(op: string, label: string, flops: number, bytes: number): GPUComputePassTimestampWrites | undefined {
    const i = this.entries.push({ op, label, flops, bytes, region: this.region?.() }) - 1;
    if (!this.timestamps) return undefined;
    this.set ??= this.device.createQuerySet({ label: "profile", type: "timestamp", count: opsPerSet * 2 });
    return { querySet: this.set, beginningOfPassWriteIndex: 2 * i, endOfPassWriteIndex: 2 * i + 1 };
  }

  /** Called before a submission is finished: moves its timestamps into a buffer. */
  resolve(encoder: GPUCommandEncoder): void {
    if (!this.set || this.entries.length === 0) return;
    const size = this.entries.length * 16;
    const resolved = this.device.createBuffer({ label: "timestamps", size, usage: 0x200 | 0x04 });
    this.staging = this.device.createBuffer({ label: "timestamps", size, usage: 0x01 | 0x08 });
    encoder.resolveQuerySet(this.set, 0, this.entries.length * 2, resolved, 0);
    encoder.copyBufferToBuffer(resolved, 0, this.staging, 0, size);
  }

  submitted(): void {
    const entries = this.entries;
    this.entries = [];
    if (entries.length === 0) return;
    const { staging, set } = this;
    this.staging = undefined;
    this.set = undefined;
    this.timings.push(staging ? readTimestamps(staging, set!, entries) : this.hostTimes(entries));
  }

  private hostTimes(entries: readonly Entry[]): Promise<OpTiming[]> {
    const submitted = performance.now();
    const previous = this.lastEnd;
    const end = this.device.queue.onSubmittedWorkDone().then(() => performance.now());
    this.lastEnd = end;
    return Promise.all([previous, end]).then(([before, after]) => {
      const start = Math.max(before, submitted);
      const elapsedMicros = ((after - start) * 1000) / entries.length;
      // The host's clock includes submission and waiting; the label says so.
      return entries.map((e, i) => ({
        ...e,
        label: `${e.label} (host clock)`,
        startMicros: start * 1000 + i * elapsedMicros,
        elapsedMicros,
      }));
    });
  }

  /** All timings, start times relative to the first op. */
  async finish(): Promise<OpTiming[]> {
    const all = (await Promise.all(this.timings)).flat();
    const first = all.reduce((m, t) => Math.min(m, t.startMicros), Number.POSITIVE_INFINITY);
    return all.map((t) => ({ ...t, startMicros: t.startMicros - first }));
  }
}

async function readTimestamps(staging: GPUBuffer, set: GPUQuerySet, entries: readonly Entry[]): Promise<OpTiming[]> {
  await staging.mapAsync(1);
  const ns = new BigUint64Array(staging.getMappedRange().slice(0));
  staging.destroy();
  set.destroy();
  return entries.map((e, i) => {
    const startMicros = Number(ns[2 * i]!) / 1000;
    return { ...e, startMicros, elapsedMicros: Math.max(0, Number(ns[2 * i + 1]!) / 1000 - startMicros) };
  });
}
