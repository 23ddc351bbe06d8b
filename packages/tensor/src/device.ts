// A device: a backend plus the tensors made on it. Devices are values; there is no global one.
import type { Backend, Capabilities, MemoryReport, OpTiming } from "./backends/backend.ts";
import { checkDType, type DType, dtypeInfo, type PlainDType } from "./dtype.ts";
import { encodeValues, type NumberData } from "./encode.ts";
import { DeviceError, DTypeError, ShapeError, TensorError } from "./errors.ts";
import { contiguousLayout, expandLayout, type Layout } from "./layout.ts";
import { disown } from "./scope.ts";
import { checkShape, formatShape, type Shape, sameShape, sizeOf } from "./shape.ts";
import { type Pending, Storage } from "./storage.ts";
import { Tensor } from "./tensor.ts";
import type { DeviceBuffer, View } from "./view.ts";

/** Anything that draws normals and uniforms, in f32 or as the bits of a narrow format (PyTorch has a stream per dtype); see `random/`. */
export interface RandomSource {
  /** `n` standard normal values. */
  randn(count: number, dtype?: "f32" | "bf16" | "f16"): Float32Array | Uint16Array;
  /** `n` values evenly from 0 up to 1. */
  rand(count: number, dtype?: "f32" | "bf16" | "f16"): Float32Array | Uint16Array;
}

/** Uploaded bytes that may wait in the driver's staging memory. */
const maxStagedBytes = 256 * 2 ** 20;

/** What a tensor of given values is. */
export interface TensorOptions {
  /** f32, or the kind of an integer array, by default. */
  readonly dtype?: PlainDType;
  /** For messages and reports. */
  readonly label?: string;
}

/** Where tensors live and ops run; made by `cpu()`, `webgpu()` or `dryRun()`. */
export class Device {
  /** What does the work. */
  readonly backend: Backend;
  #live = 0;
  #peak = 0;
  #destroyed = false;
  /** Bytes uploaded since the backend was last known to have taken them all. */
  #stagedBytes = 0;

  constructor(backend: Backend) {
    this.backend = backend;
  }

  /** "cpu" or "webgpu". */
  get kind(): "cpu" | "webgpu" {
    return this.backend.kind;
  }
  /** Human-readable, e.g. "webgpu (llvmpipe, vulkan)". */
  get description(): string {
    return this.backend.description;
  }
  /** What decides which kernels run. */
  get capabilities(): Capabilities {
    return this.backend.capabilities;
  }
  /** The description. */
  toString(): string {
    return this.backend.description;
  }
  /** What console.log shows in Node. */
  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return `Device(${this})`;
  }

  /** Bytes of live tensors. */
  get liveBytes(): number {
    return this.#live;
  }
  /** Highest `liveBytes` since creation or `resetPeak()`. */
  get peakBytes(): number {
    return this.#peak;
  }
  /** Starts `peakBytes` again from what is live now. */
  resetPeak(): void {
    this.#peak = this.#live;
    this.backend.resetPeak();
  }

  /**
   * A number, (nested) lists or a typed array; one row may be given another `shape`. f32 unless `dtype` says otherwise; integer arrays keep their
   * kind. Values are rounded to nearest even.
   */
  tensor(data: NumberData, options?: TensorOptions): Tensor;
  tensor(data: NumberData, shape?: Shape, options?: TensorOptions): Tensor;
  tensor(data: NumberData, second?: Shape | TensorOptions, third?: TensorOptions): Tensor {
    const isOptions = typeof second === "object" && !Array.isArray(second);
    const { dtype: wanted, label } = (isOptions ? (second as TensorOptions) : third) ?? {};
    const { bytes, dtype, shape: own } = encodeValues(data, wanted);
    const to = isOptions ? own : ((second as Shape | undefined) ?? own);
    checkShape("tensor", to);
    if (sizeOf(own) !== sizeOf(to)) throw new ShapeError("tensor", `${sizeOf(own)} values do not fill ${formatShape(to)} (${sizeOf(to)})`);
    if (own.length > 1 && !sameShape(own, to))
      throw new ShapeError("tensor", `the lists are ${formatShape(own)}, the shape beside them ${formatShape(to)}; leave it out`);
    return this.fromBytes(bytes, to, dtype, label);
  }

  /** Raw little-endian bytes of `dtype`, row-major; the only way in for quantized data. */
  fromBytes(bytes: Uint8Array, shape: Shape, dtype: DType, label = "tensor"): Tensor {
    const out = this.empty(shape, dtype, label);
    if (out.byteLength !== bytes.byteLength) {
      out.dispose();
      throw new ShapeError("fromBytes", `${bytes.byteLength} bytes do not fill ${dtype} ${formatShape(shape)} (${out.byteLength} bytes)`);
    }
    if (bytes.byteLength > 0) this.backend.write(out.view.buffer, 0, bytes);
    return out;
  }

  /**
   * Streams bytes from `chunks` to the device without holding them: at most 256 MiB wait in staging memory, over all uploads. `signal` ends
   * that wait; nothing stays on the device then.
   */
  async upload(
    shape: Shape,
    dtype: DType,
    chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
    label = "upload",
    signal?: AbortSignal,
  ): Promise<Tensor> {
    const out = this.empty(shape, dtype, label);
    disown(out);
    const total = out.byteLength;
    let at = 0;
    try {
      for await (const chunk of chunks) {
        if (at + chunk.byteLength > total)
          throw new ShapeError("upload", `more than ${total} bytes for ${label}: ${dtype} ${formatShape(shape)}`);
        this.backend.write(out.view.buffer, at, chunk);
        at += chunk.byteLength;
        await this.#stage(chunk.byteLength, signal);
      }
      if (at !== total) throw new ShapeError("upload", `${at} of ${total} bytes arrived for ${label}: ${dtype} ${formatShape(shape)}`);
      return out;
    } catch (error) {
      out.dispose();
      throw error;
    }
  }

  /** Counts over all uploads: a model of many small weights would fill as much staging memory as one large weight. */
  async #stage(byteLength: number, signal: AbortSignal | undefined): Promise<void> {
    this.#stagedBytes += byteLength;
    if (this.#stagedBytes < maxStagedBytes) return;
    this.#stagedBytes = 0;
    await this.idle(signal);
  }

  /** Contents undefined. */
  empty(shape: Shape, dtype: DType = "f32", label = "empty"): Tensor {
    checkShape("empty", shape);
    checkDType("empty", dtype);
    this.#checkBlocks(shape, dtype);
    return new Tensor(this, dtype, contiguousLayout(shape), Storage.allocate(this, shape, dtype, label), label);
  }
  /** A tensor of zeros; f32 unless `dtype` says otherwise. */
  zeros(shape: Shape, dtype: PlainDType = "f32"): Tensor {
    return this.full(shape, 0, dtype);
  }
  /** A tensor of ones; f32 unless `dtype` says otherwise. */
  ones(shape: Shape, dtype: PlainDType = "f32"): Tensor {
    return this.full(shape, 1, dtype);
  }
  /** A tensor of one value, rounded to `dtype`; f32 by default. */
  full(shape: Shape, value: number, dtype: PlainDType = "f32"): Tensor {
    const out = this.empty(shape, dtype, "full");
    this.backend.kernels.fill(out.view, {}, { value });
    return out;
  }
  /** start, start + step, … below end. `arange(n)` counts from 0. Computed in f64 on the host. */
  arange(startOrEnd: number, end?: number, step = 1, dtype: PlainDType = "f32"): Tensor {
    const start = end === undefined ? 0 : startOrEnd;
    const stop = end ?? startOrEnd;
    if (step === 0) throw new ShapeError("arange", "step must not be 0");
    const count = Math.max(0, Math.ceil((stop - start) / step));
    return this.tensor(
      Float64Array.from({ length: count }, (_, i) => start + i * step),
      [count],
      { dtype, label: "arange" },
    );
  }
  /** `count` values from `start` to `end`, both included. */
  linspace(start: number, end: number, count: number, dtype: PlainDType = "f32"): Tensor {
    const step = count > 1 ? (end - start) / (count - 1) : 0;
    // From both ends, as torch does, so that the last value is exactly `end`.
    const at = (i: number) => (i < count / 2 ? start + step * i : end - step * (count - 1 - i));
    return this.tensor(
      Float64Array.from({ length: count }, (_, i) => at(i)),
      [count],
      { dtype, label: "linspace" },
    );
  }
  /** The identity matrix [n, n]. */
  eye(n: number, dtype: PlainDType = "f32"): Tensor {
    const values = new Float64Array(n * n);
    for (let i = 0; i < n; i++) values[i * n + i] = 1;
    return this.tensor(values, [n, n], { dtype, label: "eye" });
  }
  /** Standard normals from an explicit generator (there is no hidden global one); bf16 and f16 are drawn as such, not rounded from f32. */
  randn(shape: Shape, generator: RandomSource, dtype: PlainDType = "f32"): Tensor {
    checkShape("randn", shape);
    checkGenerator("randn", generator);
    return this.#drawn(generator.randn(sizeOf(shape), drawnDType(dtype)), shape, dtype, "randn");
  }
  /** Uniforms in [0, 1) from an explicit generator. */
  rand(shape: Shape, generator: RandomSource, dtype: PlainDType = "f32"): Tensor {
    checkShape("rand", shape);
    checkGenerator("rand", generator);
    return this.#drawn(generator.rand(sizeOf(shape), drawnDType(dtype)), shape, dtype, "rand");
  }

  /** Resolves when everything recorded has run; rejects with `signal`'s reason if that aborts first: what was recorded runs on. */
  async idle(signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    const idle = this.backend.idle();
    await (signal ? orAborted(idle, signal) : idle);
  }
  /**
   * Waits as `idle` does, but only where more than 1 GiB (a quarter of that on software adapters) of released memory is still held by work that
   * has not run: whoever records far ahead of the GPU would need memory that is in no report. On software adapters it waits for
   * whatever was submitted or comes to 1e9 operations, because their drivers compile no kernel while others run.
   */
  async catchUp(signal?: AbortSignal): Promise<void> {
    if (this.backend.isBehind) await this.idle(signal);
  }
  /** Submits what is recorded without waiting for it. */
  flush(): void {
    this.backend.flush();
  }
  /** Frees memory that is kept for reuse. */
  trim(): void {
    this.backend.trim();
  }
  /** Keeps less memory for reuse where live tensors and it together would pass `bytes`. Allocating is never refused for it. */
  keepWithin(bytes: number): void {
    this.backend.keepWithin(bytes);
  }
  /** What the backend has allocated, by label. */
  memory(): MemoryReport {
    return this.backend.memory();
  }
  /**
   * Per-op times of what `fn` records: `summarizeProfile` makes a table of them, `chromeTrace` a file. `region` names where the program is; it is
   * asked at every kernel. `profile` of @wick/nn tells times by module.
   */
  profile(fn: () => void | Promise<void>, region?: () => string | undefined): Promise<readonly OpTiming[]> {
    return this.backend.profile(fn, region);
  }

  /** Ends the device: its memory is freed, pending reads are rejected, its tensors cannot be used any more. */
  destroy(): void {
    if (this.#destroyed) return;
    this.#destroyed = true;
    this.backend.destroy();
  }
  /** The same as `destroy()`, for `using`. */
  [Symbol.dispose](): void {
    this.destroy();
  }

  /** @internal */
  allocate(byteLength: number, label: string): DeviceBuffer {
    if (this.#destroyed)
      throw new DeviceError("allocate", "destroyed", `the device was destroyed: ${label} on ${this}; create a new device`);
    const buffer = this.backend.allocate(byteLength, label);
    this.#live += byteLength;
    this.#peak = Math.max(this.#peak, this.#live);
    return buffer;
  }
  /** @internal */
  release(buffer: DeviceBuffer, byteLength: number): void {
    this.#live -= byteLength;
    if (!this.#destroyed) this.backend.release(buffer);
  }
  /** @internal Launches a pending expression into `out`. */
  launchMap(out: View, { expr, inputs, shape }: Pending): void {
    const views = inputs.map((i) => ({ buffer: i.storage.buffer(), dtype: i.dtype, layout: expanded(i.layout, shape) }));
    this.backend.kernels.map(out, { inputs: views }, { expr });
  }

  /** A source may draw narrow floats itself (as bits) or leave the rounding to us. */
  #drawn(values: Float32Array | Uint16Array, shape: Shape, dtype: PlainDType, label: string): Tensor {
    if (values instanceof Float32Array) return this.tensor(values, shape, { dtype, label });
    return this.fromBytes(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), shape, dtype, label);
  }

  #checkBlocks(shape: Shape, dtype: DType): void {
    const { blockSize } = dtypeInfo[dtype];
    const columns = shape.at(-1) ?? 1;
    if (columns % blockSize !== 0) {
      throw new DTypeError("empty", `${dtype} rows are whole blocks of ${blockSize}, got ${formatShape(shape)}`);
    }
  }
}

/** The outcome of `work`, or of `signal` if that comes first or has come already. */
function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const stop = (): void => reject(signal.reason);
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", stop));
  });
}

const expanded = (layout: Layout, shape: Shape): Layout => expandLayout("map", layout, shape);

const drawnDType = (dtype: PlainDType): "f32" | "bf16" | "f16" => (dtype === "bf16" || dtype === "f16" ? dtype : "f32");

/** Whoever comes from torch.randn(shape) leaves it out. */
function checkGenerator(op: string, generator: RandomSource | undefined): void {
  if (typeof generator?.[op as "randn" | "rand"] !== "function")
    throw new TensorError(op, "draws from a generator, there is no hidden one: pass torchCpu(seed) after the shape");
}
