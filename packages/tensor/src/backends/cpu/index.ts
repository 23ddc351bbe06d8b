// The CPU backend: kernels run when they are recorded, so flush and idle have nothing to wait for.
import { DeviceError } from "../../errors.ts";
import type { KernelTable } from "../../ops/table.ts";
import type { Backend, Capabilities, DeviceBuffer, MemoryReport, OpTiming } from "../backend.ts";
import { plainKernels } from "./kernels/plain.ts";
import { CpuMemory, HeapSource } from "./memory.ts";
import { Profiler } from "./profile.ts";

/** Options of `createCpuBackend`. */
export interface CpuOptions {
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

  constructor({ memoryLimitBytes = Number.POSITIVE_INFINITY }: CpuOptions) {
    this.description = "cpu (plain loops)";
    this.capabilities = { tier: "js", f16: true, threads: 1, maxBindingBytes: Number.MAX_SAFE_INTEGER };
    this.#memory = new CpuMemory(new HeapSource(), memoryLimitBytes);
    this.kernels = this.#profiler.wrap(plainKernels, (op) => this.#check(op));
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
