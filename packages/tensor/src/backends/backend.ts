// What a backend must provide: memory and one kernel per line of the op table. Nothing here knows tensors or lifetimes.
import type { BackendKernels } from "../ops/table.ts";
import type { DeviceBuffer } from "../view.ts";

/** All figures in bytes. */
export interface MemoryReport {
  /** Held by live tensors. */
  readonly liveBytes: number;
  /** Freed by tensors, kept by the backend for the next allocation. */
  readonly pooledBytes: number;
  /** Highest live + pooled since creation or the last `resetPeak`. */
  readonly peakBytes: number;
  /** Live bytes by buffer label, largest first. */
  readonly byLabel: readonly {
    /** Of the buffers. */
    readonly label: string;
    /** Of all buffers with this label. */
    readonly bytes: number;
    /** Buffers with this label. */
    readonly count: number;
  }[];
}

/** Time of one op in a profile. */
export interface OpTiming {
  /** Name of the kernel. */
  readonly op: string;
  /** Of the buffer it wrote. */
  readonly label: string;
  /** Device time, in microseconds; start is relative to the first op. */
  readonly startMicros: number;
  /** Device time, in microseconds. */
  readonly elapsedMicros: number;
  /** Floating-point operations and bytes moved, from the shapes; 0 when the kernel does not say. */
  readonly flops: number;
  /** Read and written, from the shapes; 0 when the kernel does not say. */
  readonly bytes: number;
  /** Where the program was when the kernel was recorded, as the `region` given to `profile` says. */
  readonly region?: string | undefined;
}

/** How exactly the operands of f32 products are multiplied, in the words of torch.set_float32_matmul_precision. */
export type Float32MatmulPrecision = "highest" | "high";

/** Properties that decide which kernels run. */
export interface Capabilities {
  /** "plain" | "subgroups" | "matrix" on WebGPU; "js" | "wasm" | "wasm-fma" | "wasm-wide" on the CPU. */
  readonly tier: string;
  /** Why this tier and not a higher one, where that needs saying. */
  readonly tierReason?: string;
  /** What products of f32 and quantized operands have: "high" where that was asked for and has an effect, else "highest". */
  readonly float32MatmulPrecision: Float32MatmulPrecision;
  /** Arithmetic in f16. */
  readonly f16: boolean;
  /** Threads that run kernels; 1 on a GPU, whose own parallelism is not counted. */
  readonly threads: number;
  /** Largest single binding the kernels may use; larger tensors are split inside. */
  readonly maxBindingBytes: number;
  /** Largest single tensor; absent when only the memory as a whole limits it. */
  readonly maxBufferBytes?: number;
}

/** What a device runs on: memory, kernels and a queue; the whole contract of a backend. */
export interface Backend {
  /** What the device is. */
  readonly kind: "cpu" | "webgpu";
  /** Human-readable, e.g. "webgpu (llvmpipe, vulkan)". */
  readonly description: string;
  /** What decides which kernels run. */
  readonly capabilities: Capabilities;
  /** One function per op; recording only, never waiting. */
  readonly kernels: BackendKernels;

  /** Throws OutOfMemoryError; contents are undefined. `label` names the tensor in reports and driver messages. */
  allocate(byteLength: number, label: string): DeviceBuffer;
  /** The buffer may be handed to the next recorded op at once: execution order makes it safe. */
  release(buffer: DeviceBuffer): void;
  /** Copies host bytes in, ordered after everything recorded so far. `data.byteLength` need not be a multiple of 4. */
  write(buffer: DeviceBuffer, byteOffset: number, data: Uint8Array): void;
  /** Submits what is recorded and resolves with a copy of the bytes. Rejects with DeviceError when the device is lost. */
  read(buffer: DeviceBuffer, byteOffset: number, byteLength: number): Promise<Uint8Array>;
  /** Submits what is recorded without waiting. */
  flush(): void;
  /** Submits and resolves when everything recorded has run and staging memory of writes is released. */
  idle(): Promise<void>;
  /**
   * Whether recording should wait for what was recorded: because much memory that was given back is still held by it, or because the driver
   * compiles no kernel while others run. Never, where kernels run when they are recorded.
   */
  readonly isBehind?: boolean;
  /** What is allocated now, and the most there was. */
  memory(): MemoryReport;
  /** Starts `peakBytes` again from what is allocated now. */
  resetPeak(): void;
  /** Frees pooled memory that no tensor uses. */
  trim(): void;
  /** Frees pooled memory before it and live tensors together pass `bytes`. Where memory cannot be given back (WebAssembly) nothing happens. */
  keepWithin(bytes: number): void;
  /** Runs `fn` with per-op timing; nested calls are an error. `region` is asked at every kernel. */
  profile(fn: () => void | Promise<void>, region?: () => string | undefined): Promise<readonly OpTiming[]>;
  /** Rejects pending reads; every later call throws DeviceError. */
  destroy(): void;
}
