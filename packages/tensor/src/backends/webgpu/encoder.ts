// The recorded stream: ops append dispatches to one compute pass, which is submitted by estimated work, on read, or on request.
import type { OpTiming } from "../backend.ts";
import type { Store } from "./buffers.ts";
import type { DeviceTraits } from "./limits.ts";
import { type PipelineCache, type Program, uniformSlotBytes } from "./pipelines.ts";
import { Profiler } from "./profile.ts";

/** Memory bound to one variable of a kernel. */
export interface Binding {
  readonly store: Store;
  readonly byteOffset: number;
  readonly byteLength: number;
}

export interface Dispatch {
  readonly op: string;
  readonly label?: string;
  readonly program: Program;
  readonly bindings: readonly Binding[];
  readonly params: readonly number[];
  /** Workgroups: a number is folded into two dimensions when it exceeds one, [x, y, z] is taken as it is. */
  readonly grid: number | readonly [number, number, number];
  readonly flops?: number;
  readonly bytes?: number;
}

const uniformSlots = 1024;
const maxWorkgroups = 65535;

/** Folds a linear number of workgroups into a grid that is legal on every device; kernels return early on the excess. */
export function foldGrid(n: number): [number, number, number] {
  if (n <= maxWorkgroups) return [n, 1, 1];
  const rows = Math.ceil(n / maxWorkgroups);
  return [Math.ceil(n / rows), rows, 1];
}

/** Owns the open command encoder; everything it is given runs in order. */
export class Recorder {
  /** Number of the submission being recorded; stores used by it carry the same number. */
  epoch = 1;
  private readonly device: GPUDevice;
  private readonly cache: PipelineCache;
  private readonly traits: DeviceTraits;
  private encoder: GPUCommandEncoder | undefined;
  private pass: GPUComputePassEncoder | undefined;
  private current: Program | undefined;
  private flops = 0;
  private bytes = 0;
  private ring: { buffer: GPUBuffer; group: GPUBindGroup; words: Uint32Array<ArrayBuffer>; used: number } | undefined;
  private profiler: Profiler | undefined;
  private readonly onSubmit: () => void;

  /** `onSubmit` runs after every submission. */
  constructor(device: GPUDevice, cache: PipelineCache, traits: DeviceTraits, onSubmit: () => void) {
    this.device = device;
    this.cache = cache;
    this.traits = traits;
    this.onSubmit = onSubmit;
  }

  get recording(): boolean {
    return this.encoder !== undefined;
  }

  record(d: Dispatch): void {
    const [x, y, z] = typeof d.grid === "number" ? foldGrid(d.grid) : d.grid;
    if (x === 0 || y === 0 || z === 0) return;
    const stores: Store[] = [];
    const offsets: number[] = [];
    const sizes: number[] = [];
    for (const b of d.bindings) {
      stores.push(b.store);
      offsets.push(b.byteOffset);
      sizes.push(b.byteLength);
      b.store.epoch = this.epoch;
    }
    const group = this.cache.bindGroup(d.program, stores, offsets, sizes);
    const ringOffset = this.fillParams(d.program, d.params);
    const pass = this.profiler ? this.timedPass(d) : this.openPass();
    this.encode(pass, d.program, group, ringOffset);
    pass.dispatchWorkgroups(x, y, z);
    if (this.profiler) this.closePass();
    this.account(d.flops ?? 0, d.bytes ?? 0);
  }

  private encode(pass: GPUComputePassEncoder, program: Program, group: GPUBindGroup, ringOffset: number): void {
    if (this.current !== program) {
      pass.setPipeline(program.pipeline);
      this.current = program;
    }
    pass.setBindGroup(0, group);
    if (ringOffset >= 0) pass.setBindGroup(1, this.ring!.group, [ringOffset]);
    else if (program.words.length > 0) pass.setImmediates(0, program.words);
  }

  /** Writes parameters into the program's words and, without immediates, into the uniform ring; returns the ring offset or -1. */
  private fillParams(program: Program, params: readonly number[]): number {
    const { types, words, floats, signed } = program;
    for (let i = 0; i < params.length; i++) {
      const v = params[i]!;
      if (types[i] === 0) words[i] = v;
      else if (types[i] === 1) floats[i] = v;
      else signed[i] = v;
    }
    if (program.immediates || words.length === 0) return -1;
    if (this.ring?.used === uniformSlots) this.submit();
    const ring = (this.ring ??= this.createRing());
    const offset = ring.used++ * uniformSlotBytes;
    ring.words.set(words, offset / 4);
    return offset;
  }

  private createRing(): NonNullable<Recorder["ring"]> {
    const buffer = this.device.createBuffer({ label: "uniform ring", size: uniformSlots * uniformSlotBytes, usage: 0x40 | 0x08 });
    return { buffer, group: this.cache.uniformGroup(buffer), words: new Uint32Array((uniformSlots * uniformSlotBytes) / 4), used: 0 };
  }

  private openPass(): GPUComputePassEncoder {
    this.encoder ??= this.device.createCommandEncoder({ label: "stream" });
    this.pass ??= this.encoder.beginComputePass({ label: "stream" });
    return this.pass;
  }

  private timedPass(d: Dispatch): GPUComputePassEncoder {
    this.closePass();
    if (this.profiler!.full) this.submit();
    this.encoder ??= this.device.createCommandEncoder({ label: "profile" });
    const timestampWrites = this.profiler!.begin(d.op, d.label ?? d.program.label, d.flops ?? 0, d.bytes ?? 0);
    this.pass = this.encoder.beginComputePass({ label: d.op, ...(timestampWrites ? { timestampWrites } : {}) });
    return this.pass;
  }

  private closePass(): void {
    this.pass?.end();
    this.pass = undefined;
    this.current = undefined;
  }

  private account(flops: number, bytes: number): void {
    this.flops += flops;
    this.bytes += bytes;
    const { submitFlops, submitBytes } = this.traits;
    if (this.flops > submitFlops || this.bytes > submitBytes || (this.profiler && !this.traits.timestamps)) this.submit();
  }

  /** Records a copy between buffers; both byte offsets and the length are multiples of 4. */
  copy(from: Store, fromByte: number, to: GPUBuffer, toByte: number, byteLength: number): void {
    this.closePass();
    this.encoder ??= this.device.createCommandEncoder({ label: "copy" });
    this.encoder.copyBufferToBuffer(from.gpu, fromByte, to, toByte, byteLength);
    from.epoch = this.epoch;
  }

  /** Hands everything recorded to the GPU. */
  submit(): void {
    const { encoder } = this;
    if (!encoder) return;
    this.closePass();
    this.profiler?.resolve(encoder);
    this.encoder = undefined;
    if (this.ring && this.ring.used > 0) {
      this.device.queue.writeBuffer(this.ring.buffer, 0, this.ring.words, 0, (this.ring.used * uniformSlotBytes) / 4);
      this.ring.used = 0;
    }
    this.device.queue.submit([encoder.finish()]);
    this.profiler?.submitted();
    this.epoch++;
    this.flops = 0;
    this.bytes = 0;
    this.onSubmit();
  }

  startProfile(): void {
    this.submit();
    this.profiler = new Profiler(this.device, this.traits.timestamps);
  }

  async endProfile(): Promise<OpTiming[]> {
    this.submit();
    const { profiler } = this;
    this.profiler = undefined;
    return profiler ? profiler.finish() : [];
  }

  get profiling(): boolean {
    return this.profiler !== undefined;
  }

  destroy(): void {
    this.pass = undefined;
    this.encoder = undefined;
    this.ring?.buffer.destroy();
    this.ring = undefined;
  }
}
