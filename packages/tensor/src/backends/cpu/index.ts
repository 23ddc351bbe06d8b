// The CPU backend: kernels run when they are recorded, or soon after where other threads take them; whoever looks at memory waits for those.
import { DeviceError, UnsupportedError } from "../../errors.ts";
import type { KernelTable } from "../../ops/table.ts";
import type { DeviceBuffer } from "../../view.ts";
import { probeWasm, setV8Flags } from "../../wasm/features.ts";
import { availableThreads } from "../../wasm/threads.ts";
import type { Backend, Capabilities, MemoryReport, OpTiming } from "../backend.ts";
import { plainKernels } from "./kernels/plain.ts";
import { CpuMemory, HeapSource } from "./memory.ts";
import { Profiler } from "./profile.ts";
import { ArenaSource } from "./wasm/arena.ts";
import { chooseEngine } from "./wasm/choose.ts";
import type { WasmEngine } from "./wasm/engine.ts";
import { wasmKernels } from "./wasm/kernels.ts";

/** Options of `createCpuBackend`. */
export interface CpuOptions {
  /** "wasm" (default where available): generated SIMD kernels with the plain loops as fallback; "plain": only the loops. */
  readonly kernels?: "plain" | "wasm";
  /** Outputs of fewer elements use the plain loops, whose fixed cost is smaller (default 256). */
  readonly plainBelow?: number;
  /** Threads including the calling one; by default all cores, and 1 where memory cannot be shared (a page that is not cross-origin isolated). */
  readonly threads?: number;
  /** Largest size of one WebAssembly memory, in bytes; 4 GiB by default. More are opened as needed. */
  readonly arenaBytes?: number;
  /** Turns on V8's experimental WebAssembly flags for the whole process (Node only): "fma" for multiply-add before Node 22, "wide" for 256-bit vectors on Node 24. */
  readonly v8?: "fma" | "wide";
  /** Live bytes beyond which `allocate` throws OutOfMemoryError; no limit by default. */
  readonly memoryLimitBytes?: number;
}

class CpuBackend implements Backend {
  readonly kind = "cpu";
  readonly description: string;
  readonly capabilities: Capabilities;
  readonly kernels: KernelTable;
  readonly #memory: CpuMemory;
  readonly #profiler = new Profiler();
  readonly #engine: WasmEngine | undefined;
  #destroyed = false;

  constructor(options: CpuOptions) {
    const { memoryLimitBytes = Number.POSITIVE_INFINITY, plainBelow = 256 } = options;
    if (options.v8 && !setV8Flags(options.v8)) {
      throw new UnsupportedError("createCpuBackend", `V8 flags for "${options.v8}" cannot be set here; leave out v8`);
    }
    const features = probeWasm();
    if (options.kernels === "wasm" && !features.simd) {
      throw new UnsupportedError("createCpuBackend", 'this engine has no WebAssembly SIMD; leave out kernels or pass kernels: "plain"');
    }
    const fast = options.kernels !== "plain" && features.simd;
    const wanted = features.shared ? (options.threads ?? availableThreads()) : 1;
    const limit = options.arenaBytes ? { limitBytes: options.arenaBytes } : {};
    const source = fast ? new ArenaSource({ shared: features.shared, threads: wanted, ...limit }) : new HeapSource();
    this.#memory = new CpuMemory(source, memoryLimitBytes);
    const chosen = source instanceof ArenaSource ? chooseEngine(features, source, wanted, options.v8 === "wide") : undefined;
    this.#engine = chosen?.engine;
    const threads = this.#engine?.threads ?? 1;
    this.description = `cpu (${chosen ? `WebAssembly SIMD${chosen.detail}, ${threads} thread${threads > 1 ? "s" : ""}` : "plain loops"})`;
    const tier = chosen?.tier ?? "js";
    this.capabilities = {
      tier,
      f16: true,
      threads,
      float32MatmulPrecision: "highest",
      maxBindingBytes: Number.MAX_SAFE_INTEGER,
      ...(chosen?.reason ? { tierReason: chosen.reason } : {}),
    };
    const kernels = this.#engine ? wasmKernels(this.#engine, plainBelow) : plainKernels;
    this.kernels = this.#profiler.wrap(
      kernels,
      (op) => this.#check(op),
      () => this.#engine?.settle(),
    );
  }

  #check(op: string): void {
    if (this.#destroyed) throw new DeviceError(op, "destroyed", "this CPU device was destroyed; create another one");
  }

  allocate(byteLength: number, label: string): DeviceBuffer {
    this.#check("allocate");
    return this.#memory.allocate(byteLength, label);
  }

  release(buffer: DeviceBuffer): void {
    this.#check("release");
    this.#memory.release(this.#memory.check("release", buffer));
  }

  write(buffer: DeviceBuffer, byteOffset: number, data: Uint8Array): void {
    this.#check("write");
    const to = this.#memory.check("write", buffer);
    checkRange("write", to, byteOffset, data.byteLength);
    to.array("u8").set(data, byteOffset);
  }

  async read(buffer: DeviceBuffer, byteOffset: number, byteLength: number): Promise<Uint8Array> {
    this.#check("read");
    const from = this.#memory.check("read", buffer);
    checkRange("read", from, byteOffset, byteLength);
    return new Uint8Array(from.array("u8").subarray(byteOffset, byteOffset + byteLength));
  }

  flush(): void {
    this.#check("flush");
  }

  async idle(): Promise<void> {
    this.#check("idle");
    this.#engine?.settle();
  }

  memory(): MemoryReport {
    this.#check("memory");
    return this.#memory.report();
  }

  resetPeak(): void {
    this.#check("resetPeak");
    this.#memory.resetPeak();
  }

  trim(): void {
    this.#check("trim");
    this.#memory.trim();
  }

  /** WebAssembly memory never shrinks, and what is kept beside it is small. */
  keepWithin(_bytes: number): void {}

  async profile(fn: () => void | Promise<void>, region?: () => string | undefined): Promise<readonly OpTiming[]> {
    this.#check("profile");
    return this.#profiler.run(fn, region);
  }

  destroy(): void {
    this.#destroyed = true;
    this.#engine?.stop();
    this.#memory.clear();
  }
}

function checkRange(op: string, buffer: DeviceBuffer, byteOffset: number, byteLength: number): void {
  if (byteOffset >= 0 && byteLength >= 0 && byteOffset + byteLength <= buffer.byteLength) return;
  throw new DeviceError(
    op,
    "invalid-buffer",
    `bytes ${byteOffset} to ${byteOffset + byteLength} lie outside a buffer of ${buffer.byteLength} bytes`,
  );
}

/** Throws DeviceError for what a program without types, or arithmetic, may pass. */
function checkOptions({ kernels, v8, threads, plainBelow, arenaBytes, memoryLimitBytes }: CpuOptions): void {
  const refuse = (name: string, value: unknown, takes: string): never => {
    throw new DeviceError("cpu", "bad-option", `${name} is ${takes}, got ${value}`);
  };
  if (kernels !== undefined && kernels !== "plain" && kernels !== "wasm") refuse("kernels", kernels, '"plain" or "wasm"');
  if (v8 !== undefined && v8 !== "fma" && v8 !== "wide") refuse("v8", v8, '"fma" or "wide"');
  if (threads !== undefined && !(Number.isInteger(threads) && threads >= 1)) refuse("threads", threads, "a whole number of at least 1");
  for (const [name, value] of Object.entries({ plainBelow, arenaBytes, memoryLimitBytes }))
    if (value !== undefined && !(value >= 0)) refuse(name, value, "a number of at least 0");
}

/** A backend that computes on this machine's CPU. Throws DeviceError for wrong options and UnsupportedError for what this engine lacks. */
export function createCpuBackend(options: CpuOptions = {}): Backend & { readonly kernels: KernelTable } {
  checkOptions(options);
  return new CpuBackend(options);
}
