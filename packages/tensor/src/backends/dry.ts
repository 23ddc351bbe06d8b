// A backend that computes nothing and holds nothing: shapes, dtypes and lifetimes are real, values are not. A forward pass on it tells how much
// memory the pass takes, in milliseconds and before any weight is read.
import { Device } from "../device.ts";
import { UnsupportedError } from "../errors.ts";
import type { KernelTable } from "../ops/table.ts";
import type { DeviceBuffer } from "../view.ts";
import type { Backend, Capabilities, MemoryReport, OpTiming } from "./backend.ts";

const nothing = (): void => {};

class DryBackend implements Backend {
  readonly kind = "cpu";
  readonly description = "dry run (no values)";
  readonly capabilities: Capabilities = {
    tier: "js",
    float32MatmulPrecision: "highest",
    f16: true,
    threads: 1,
    maxBindingBytes: Number.MAX_SAFE_INTEGER,
  };
  readonly kernels = new Proxy({}, { get: () => nothing }) as KernelTable;
  #live = 0;
  #peak = 0;
  largestBytes = 0;

  allocate(byteLength: number): DeviceBuffer {
    this.#live += byteLength;
    this.#peak = Math.max(this.#peak, this.#live);
    this.largestBytes = Math.max(this.largestBytes, byteLength);
    return { byteLength };
  }
  release(buffer: DeviceBuffer): void {
    this.#live -= buffer.byteLength;
  }
  write(): void {}
  async read(): Promise<Uint8Array> {
    throw new UnsupportedError("read", "a dry run has no values; compute on another device");
  }
  flush(): void {}
  async idle(): Promise<void> {}
  memory(): MemoryReport {
    return { liveBytes: this.#live, pooledBytes: 0, peakBytes: this.#peak, byLabel: [] };
  }
  resetPeak(): void {
    this.#peak = this.#live;
    this.largestBytes = 0;
  }
  trim(): void {}
  keepWithin(): void {}
  async profile(): Promise<readonly OpTiming[]> {
    throw new UnsupportedError("profile", "a dry run takes no time; profile on another device");
  }
  destroy(): void {}
}

/** A device without values, and what was asked of it. */
export interface DryRun {
  /** Everything works on it but reading values, which rejects with UnsupportedError. */
  readonly device: Device;
  /** Bytes of the largest tensor made since the last `device.resetPeak()`; it bounds the bindings that the run needs. */
  readonly largestTensorBytes: number;
}

/** A device that counts bytes (`device.liveBytes`, `device.peakBytes`) and does nothing else. */
export function dryRun(): DryRun {
  const backend = new DryBackend();
  return {
    device: new Device(backend),
    get largestTensorBytes() {
      return backend.largestBytes;
    },
  };
}
