// The WebGPU backend: a device, its memory and a recorded stream of kernels. In Node it runs on Dawn, in browsers on navigator.gpu.
import { DeviceError, OutOfMemoryError } from "../../errors.ts";
import { contiguousLayout } from "../../layout.ts";
import type { KernelTable } from "../../ops/table.ts";
import type { DeviceBuffer } from "../../view.ts";
import type { Backend, MemoryReport, OpTiming } from "../backend.ts";
import { BufferPool } from "./buffers.ts";
import { DerivedWords, derivedBytes } from "./derived.ts";
import { type Dispatch, Recorder } from "./encoder.ts";
import type { KernelContext } from "./kernels/context.ts";
import { makeKernels } from "./kernels/index.ts";
import { LaunchPlans } from "./launch-plans.ts";
import { type OpenedDevice, openDevice } from "./open.ts";
import type { WebGpuOptions } from "./options.ts";
import { PipelineCache } from "./pipelines.ts";
import { Readback, uploadWords } from "./readback.ts";
import { trustedTraits } from "./self-test.ts";
import { type GpuBuffer, storeOf } from "./store.ts";
import { type DeviceTraits, traitsOf } from "./traits.ts";

/** Opens a WebGPU device; throws DeviceError when there is no adapter (the message says what to install). */
export async function createWebGpuBackend(options: WebGpuOptions = {}): Promise<WebGpuBackend> {
  const opened = await openDevice(options);
  try {
    const wanted = traitsOf(opened, options);
    const traits = await trustedTraits(opened, wanted, options, (t) => new WebGpuBackend(opened, t, options));
    return new WebGpuBackend(opened, traits, options);
  } catch (error) {
    opened.device.destroy();
    throw error;
  }
}

const gibibyte = 2 ** 30;

/** Memory, kernels and submissions of one GPU device. */
export class WebGpuBackend implements Backend {
  readonly kind = "webgpu";
  readonly description: string;
  readonly capabilities: DeviceTraits;
  readonly kernels: KernelTable;
  /** The underlying device, for programs that share it. */
  readonly device: GPUDevice;
  private readonly pool: BufferPool;
  private readonly cache: PipelineCache;
  private readonly recorder: Recorder;
  private readonly readback: Readback;
  private readonly plans: LaunchPlans;
  private readonly derived: DerivedWords;
  private lost: DeviceError | undefined;
  private failure: Error | undefined;
  /** Submissions before this one have run, as far as somebody waited for them. */
  private passedEpoch = 1;

  constructor(opened: OpenedDevice, traits: DeviceTraits, options: WebGpuOptions) {
    const { device, info, driver, software } = opened;
    this.device = device;
    this.capabilities = traits;
    this.description = `webgpu (${info.description || info.device || info.architecture || info.vendor || "unnamed adapter"}, ${driver})`;
    this.pool = new BufferPool(device, {
      maxBufferBytes: traits.maxBufferBytes,
      memoryLimitBytes: options.memoryLimitBytes ?? Number.POSITIVE_INFINITY,
      maxPooledBytes: 2 * gibibyte,
      maxKeptBytes: software ? gibibyte / 8 : 2 * gibibyte,
      maxHeldBytes: software ? gibibyte / 4 : gibibyte,
    });
    this.cache = new PipelineCache(device, traits.immediates);
    this.recorder = new Recorder(device, this.cache, traits, { onSubmit: () => this.sweep(), mayHold: () => !this.pool.isDooming });
    this.readback = new Readback(device);
    this.derived = new DerivedWords(() => this.pool.createUncounted(derivedBytes, "derived"));
    this.plans = new LaunchPlans({
      checkAlive: (op) => this.checkAlive(op),
      run: (launch, stores) => this.recorder.run(launch, stores),
      scratch: (byteLength, label) => this.pool.allocate(byteLength, label),
      drop: (buffer) => this.pool.release(buffer),
      derived: (store, key) => this.derived.of(store, key),
    });
    this.kernels = this.plans.wrap(this.rawKernels());
    this.listen();
  }

  /** The kernels themselves; the plans listen to what they record. */
  private rawKernels(): KernelTable {
    const { plans } = this;
    const ctx: KernelContext = {
      traits: this.capabilities,
      program: (key, spec) => this.cache.program(key, spec),
      record: (d: Dispatch) => {
        const launch = this.recorder.record(d);
        if (launch) plans.launched(launch, d.bindings);
      },
      scratch: (byteLength, label) => plans.scratched(this.pool.allocate(byteLength, label)),
      drop: (buffer) => {
        plans.dropped(buffer);
        this.pool.release(buffer);
      },
      derived: (of, key, compute) => plans.derive(storeOf(of.buffer), key, compute),
      get kernels(): KernelTable {
        return kernels;
      },
    };
    const kernels = makeKernels(ctx);
    return kernels;
  }

  private listen(): void {
    this.device.addEventListener("uncapturederror", (event) => {
      event.preventDefault();
      this.failure ??= reported(event.error);
    });
    void this.device.lost.then((info) => {
      const detail = info.message ? `: ${info.message.split("\n")[0]}` : "";
      this.lose(
        new DeviceError("webgpu", "lost", `the device was lost (${info.reason || "unknown"})${detail}; open a new device and load again`),
      );
    });
  }

  private lose(error: DeviceError): void {
    this.lost ??= error;
    this.readback.rejectAll(this.lost);
  }

  private checkAlive(op: string): void {
    if (this.lost) throw new DeviceError(op, this.lost.reason, this.lost.detail);
  }

  allocate(byteLength: number, label: string): DeviceBuffer {
    this.checkAlive("allocate");
    return this.pool.allocate(byteLength, label);
  }

  release(buffer: DeviceBuffer): void {
    this.pool.release(buffer as GpuBuffer);
  }

  write(buffer: DeviceBuffer, byteOffset: number, data: Uint8Array): void {
    this.checkAlive("write");
    if (data.byteLength === 0) return;
    const end = byteOffset + data.byteLength;
    const whole = end === buffer.byteLength ? end % 4 : 0;
    if (byteOffset % 4 !== 0 || (end % 4 !== 0 && whole === 0)) this.writeUnaligned(buffer, byteOffset, data);
    else uploadWords(this.device, this.recorder, storeOf(buffer), byteOffset, whole === 0 ? data : padded(data));
  }

  /** Uploads to scratch memory and moves the bytes with a kernel that leaves the neighbours alone. */
  private writeUnaligned(buffer: DeviceBuffer, byteOffset: number, data: Uint8Array): void {
    const scratch = this.pool.allocate(data.byteLength, "unaligned write");
    uploadWords(this.device, this.recorder, storeOf(scratch), 0, padded(data));
    const layout = contiguousLayout([data.byteLength]);
    this.kernels.copy(
      { buffer, dtype: "u8", layout: { ...layout, offset: byteOffset } },
      { x: { buffer: scratch, dtype: "u8", layout } },
      {},
    );
    this.pool.release(scratch);
  }

  async read(buffer: DeviceBuffer, byteOffset: number, byteLength: number): Promise<Uint8Array> {
    this.checkAlive("read");
    if (byteLength === 0) return new Uint8Array(0);
    this.pool.shrink();
    const outcome = await this.readback.read(this.recorder, storeOf(buffer), byteOffset, byteLength).then(
      (bytes) => ({ bytes }),
      (error: unknown) => ({ error }),
    );
    // Afterwards: what the driver has to say about this submission comes before its bytes.
    const failure = await this.settle();
    if (failure) throw failure;
    if ("error" in outcome) throw this.lost ?? outcome.error;
    return outcome.bytes;
  }

  /** Errors the driver reported since the last time someone waited. */
  private async settle(): Promise<Error | undefined> {
    const outOfMemory: OutOfMemoryError | undefined = this.pool.hasFailures ? await this.pool.settled() : undefined;
    const { failure } = this;
    this.failure = undefined;
    return outOfMemory ?? failure;
  }

  flush(): void {
    this.checkAlive("flush");
    this.recorder.submit();
    if (!this.recorder.recording) this.sweep();
  }

  private sweep(): void {
    if (!this.pool.sweep()) return;
    this.cache.clearBindGroups();
    // Dawn frees destroyed buffers at the next submission.
    this.device.queue.submit([]);
  }

  async idle(): Promise<void> {
    this.pool.shrink();
    this.flush();
    this.device.queue.submit([]);
    const [passed, { epoch }] = [this.pool.passing(), this.recorder];
    await this.readback.guarded(this.device.queue.onSubmittedWorkDone());
    // Dawn gives memory back while it looks at a submission after the one that was the last to use it.
    if (passed() && !this.lost) {
      this.device.queue.submit([]);
      await this.readback.guarded(this.device.queue.onSubmittedWorkDone());
    }
    this.passedEpoch = Math.max(this.passedEpoch, epoch);
    const failure = await this.settle();
    if (failure) throw failure;
  }

  get isBehind(): boolean {
    return this.pool.isBehind || (this.capabilities.software && (this.recorder.isHolding || this.recorder.epoch > this.passedEpoch));
  }

  memory(): MemoryReport {
    return this.pool.report();
  }

  /** Label and WGSL text of every kernel compiled so far, for inspection. */
  sources(): readonly { readonly label: string; readonly code: string }[] {
    return this.cache.sources();
  }

  resetPeak(): void {
    this.pool.resetPeak();
  }

  keepWithin(bytes: number): void {
    this.pool.keepWithin(bytes);
  }

  trim(): void {
    this.checkAlive("trim");
    this.pool.drain();
    this.readback.trim();
    this.flush();
  }

  async profile(fn: () => void | Promise<void>, region?: () => string | undefined): Promise<readonly OpTiming[]> {
    this.checkAlive("profile");
    if (this.recorder.profiling) throw new DeviceError("profile", "busy", "a profile is already running; profiles do not nest");
    this.recorder.startProfile(region);
    try {
      await fn();
    } catch (error) {
      await this.recorder.endProfile();
      throw error;
    }
    return this.readback.guarded(this.recorder.endProfile());
  }

  destroy(): void {
    this.lose(new DeviceError("webgpu", "destroyed", "the device was destroyed; open a new one"));
    this.recorder.destroy();
    this.cache.clearBindGroups();
    this.device.destroy();
  }
}

/** What the driver said outside of any scope, such as to memory for a read that it does not have. */
function reported({ message, constructor: kind }: GPUError): Error {
  if (kind.name !== "GPUOutOfMemoryError") return new DeviceError("webgpu", "driver-error", message);
  const said = message.split("\n")[0];
  return new OutOfMemoryError("webgpu", `the driver had no memory (${said}); release tensors, use a smaller dtype, tile or stream`);
}

function padded(data: Uint8Array): Uint8Array {
  if (data.byteLength % 4 === 0) return data;
  const out = new Uint8Array(Math.ceil(data.byteLength / 4) * 4);
  out.set(data);
  return out;
}
