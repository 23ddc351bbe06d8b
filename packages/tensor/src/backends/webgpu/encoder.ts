// The recorded stream: ops append dispatches to one compute pass, which is submitted by estimated work, on read, or on request. On software
// adapters it is cut by estimated work too, but held until somebody asks for it: there, compiling a kernel waits for what runs.
import type { OpTiming } from "../backend.ts";
import { type BindingWindows, type PipelineCache, type Program, paramWords, uniformSlotBytes } from "./pipelines.ts";
import { Profiler } from "./profile.ts";
import type { Store } from "./store.ts";
import type { DeviceTraits } from "./traits.ts";

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

/** A dispatch without its buffers: it can be repeated on others of the same sizes. */
export interface Launch {
  readonly op: string;
  readonly label: string;
  readonly program: Program;
  readonly windows: BindingWindows;
  /** Parameters as the kernel reads them. */
  readonly words: Uint32Array<ArrayBuffer>;
  readonly grid: readonly [number, number, number];
  readonly flops: number;
  readonly bytes: number;
}

/** What a recorder tells the backend, and asks it. */
export interface RecorderHooks {
  /** Runs after every submission. */
  readonly onSubmit: () => void;
  /** Whether memory allows to hold back what is recorded. */
  readonly mayHold: () => boolean;
}

const uniformSlots = 1024;
/** Finished command buffers that wait at most: minutes of a software adapter's work. */
const maxHeld = 1024;
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
  private group: GPUBindGroup | undefined;
  private flops = 0;
  private bytes = 0;
  private ring: { buffer: GPUBuffer; group: GPUBindGroup; words: Uint32Array<ArrayBuffer>; used: number } | undefined;
  private profiler: Profiler | undefined;
  /** Finished, and not submitted. */
  private readonly held: GPUCommandBuffer[] = [];
  private readonly hooks: RecorderHooks;

  constructor(device: GPUDevice, cache: PipelineCache, traits: DeviceTraits, hooks: RecorderHooks) {
    this.device = device;
    this.cache = cache;
    this.traits = traits;
    this.hooks = hooks;
  }

  get recording(): boolean {
    return this.encoder !== undefined || this.isHolding;
  }

  /** Whether at least one submission's work waits to be asked for. */
  get isHolding(): boolean {
    return this.held.length > 0;
  }

  /** Records a dispatch; the launch that would repeat it, or undefined if there was nothing to do. */
  record(d: Dispatch): Launch | undefined {
    const grid = typeof d.grid === "number" ? foldGrid(d.grid) : d.grid;
    if (grid[0] === 0 || grid[1] === 0 || grid[2] === 0) return undefined;
    const windows = { byteOffsets: d.bindings.map((b) => b.byteOffset), byteLengths: d.bindings.map((b) => b.byteLength) };
    const { op, program, label = program.label, flops = 0, bytes = 0 } = d;
    const launch = { ...{ op, label, program, windows, grid, flops, bytes }, words: paramWords(program, d.params) };
    const stores = d.bindings.map((b) => b.store);
    this.run(launch, stores);
    return launch;
  }

  /** Appends a launch to the stream, on the given buffers. */
  run(launch: Launch, stores: readonly Store[]): void {
    const { program, windows, grid, words } = launch;
    for (let i = 0; i < stores.length; i++) stores[i]!.epoch = this.epoch;
    for (let i = 0; i < program.writes.length; i++) stores[program.writes[i]!]!.version++;
    const group = this.cache.bindGroup(program, stores, windows);
    const ringOffset = program.immediates || words.length === 0 ? -1 : this.fillRing(words);
    // A full ring has submitted what came before.
    if (ringOffset >= 0) for (let i = 0; i < stores.length; i++) stores[i]!.epoch = this.epoch;
    const pass = this.profiler ? this.timedPass(launch) : this.openPass();
    this.encode(pass, launch, group, ringOffset);
    if (grid[2] !== 1) pass.dispatchWorkgroups(grid[0], grid[1], grid[2]);
    else if (grid[1] !== 1) pass.dispatchWorkgroups(grid[0], grid[1]);
    else pass.dispatchWorkgroups(grid[0]);
    if (this.profiler) this.closePass();
    this.account(launch.flops, launch.bytes);
  }

  private encode(pass: GPUComputePassEncoder, { program, words }: Launch, group: GPUBindGroup, ringOffset: number): void {
    if (this.current !== program) {
      pass.setPipeline(program.pipeline);
      this.current = program;
    }
    if (this.group !== group) {
      pass.setBindGroup(0, group);
      this.group = group;
    }
    if (ringOffset >= 0) pass.setBindGroup(1, this.ring!.group, [ringOffset]);
    // The buffer, not the array: Node's bindings take four times as long to look into a typed array.
    else if (words.length > 0) pass.setImmediates(0, words.buffer);
  }

  /** Puts parameters into the uniform ring, for devices without immediates; returns their byte offset. */
  private fillRing(words: Uint32Array): number {
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

  private timedPass(launch: Launch): GPUComputePassEncoder {
    this.closePass();
    if (this.profiler!.full) this.submit();
    this.encoder ??= this.device.createCommandEncoder({ label: "profile" });
    const timestampWrites = this.profiler!.begin(launch.op, launch.label, launch.flops, launch.bytes);
    this.pass = this.encoder.beginComputePass({ label: launch.op, ...(timestampWrites ? { timestampWrites } : {}) });
    return this.pass;
  }

  private closePass(): void {
    this.pass?.end();
    this.pass = undefined;
    this.current = undefined;
    this.group = undefined;
  }

  private account(flops: number, bytes: number): void {
    this.flops += flops;
    this.bytes += bytes;
    const { submitFlops, submitBytes, timestamps } = this.traits;
    if (this.profiler && !timestamps) this.submit();
    else if (this.flops > submitFlops || this.bytes > submitBytes) this.cut();
  }

  /**
   * Ends a submission's worth of work. Software adapters (Mesa's lavapipe) run submissions and compile kernels under one lock that is not fair: a
   * program that records on while they run stands still in the driver, deaf to signals, until the queue is empty or luck has it.
   */
  private cut(): void {
    const holds = this.traits.software && !this.profiler && !this.ring?.used && this.held.length < maxHeld && this.hooks.mayHold();
    if (!holds) {
      this.submit();
      return;
    }
    this.closePass();
    this.held.push(this.encoder!.finish());
    this.encoder = undefined;
    this.flops = 0;
    this.bytes = 0;
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
    if (!this.recording) return;
    // One by one: between submissions a software adapter lets others in.
    for (const commands of this.held.splice(0)) this.device.queue.submit([commands]);
    this.closePass();
    if (encoder) this.profiler?.resolve(encoder);
    this.encoder = undefined;
    if (this.ring && this.ring.used > 0) {
      this.device.queue.writeBuffer(this.ring.buffer, 0, this.ring.words, 0, (this.ring.used * uniformSlotBytes) / 4);
      this.ring.used = 0;
    }
    if (encoder) this.device.queue.submit([encoder.finish()]);
    this.profiler?.submitted();
    this.epoch++;
    this.flops = 0;
    this.bytes = 0;
    this.hooks.onSubmit();
  }

  startProfile(region: (() => string | undefined) | undefined): void {
    this.submit();
    this.profiler = new Profiler(this.device, this.traits.timestamps, region);
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
    this.held.length = 0;
    this.ring?.buffer.destroy();
    this.ring = undefined;
  }
}
