// The CPU backend: kernels run when they are recorded, so flush and idle have nothing to wait for.
import { DeviceError, UnsupportedError } from "../../errors.ts";
import type { KernelTable } from "../../ops/table.ts";
import type { Backend, Capabilities, DeviceBuffer, MemoryReport, OpTiming } from "../backend.ts";
import { plainKernels } from "./kernels/plain.ts";
import { CpuMemory, HeapSource } from "./memory.ts";
import { Profiler } from "./profile.ts";
import { ArenaSource } from "./wasm/arena.ts";
import { WasmEngine } from "./wasm/engine.ts";
import { probeWasm } from "./wasm/features.ts";
import { wasmKernels } from "./wasm/kernels.ts";

/** Options of `createCpuBackend`. */
export interface CpuOptions {
  /** "wasm" (default where available): generated SIMD kernels with the plain loops as fallback; "plain": only the loops. */
  readonly kernels?: "plain" | "wasm";
  /** Outputs of fewer elements use the plain loops, whose fixed cost is smaller (default 256). */
  readonly plainBelow?: number;
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
  #destroyed = false;

  constructor(options: CpuOptions) {
    const { memoryLimitBytes = Number.POSITIVE_INFINITY, plainBelow = 256 } = options;
    const features = probeWasm();
    if (options.kernels === "wasm" && !features.simd) {
      throw new UnsupportedError("createCpuBackend", 'this engine has no WebAssembly SIMD; leave out kernels or pass kernels: "plain"');
    }
    const fast = options.kernels !== "plain" && features.simd;
    const source = fast ? new ArenaSource(features.shared) : new HeapSource();
    this.#memory = new CpuMemory(source, memoryLimitBytes);
    const tier = fast ? (features.fma ? "wasm-fma" : "wasm") : "js";
    this.description = fast ? `cpu (WebAssembly SIMD${features.fma ? " with relaxed multiply-add" : ""})` : "cpu (plain loops)";
    this.capabilities = { tier, f16: true, threads: 1, maxBindingBytes: Number.MAX_SAFE_INTEGER };
    const flavour = { fma: features.fma, tileRows: 6, tileVectors: 2, shared: features.shared };
    const kernels = source instanceof ArenaSource ? wasmKernels(new WasmEngine(flavour, source), plainBelow) : plainKernels;
    this.kernels = this.#profiler.wrap(kernels, (op) => this.#check(op));
  }

  #check(op: string): void {
    if (this.#destroyed) throw new DeviceError(op, "this CPU device was destroyed; create another one");
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

  async profile(fn: () => void | Promise<void>): Promise<readonly OpTiming[]> {
    this.#check("profile");
    return this.#profiler.run(fn);
  }

  destroy(): void {
    this.#destroyed = true;
    this.#memory.clear();
  }
}

function checkRange(op: string, buffer: DeviceBuffer, byteOffset: number, byteLength: number): void {
  if (byteOffset >= 0 && byteLength >= 0 && byteOffset + byteLength <= buffer.byteLength) return;
  throw new DeviceError(op, `bytes ${byteOffset} to ${byteOffset + byteLength} lie outside a buffer of ${buffer.byteLength} bytes`);
}

/** A backend that computes on this machine's CPU; throws nothing and starts nothing until it is used. */
export function createCpuBackend(options: CpuOptions = {}): Backend {
  return new CpuBackend(options);
}
