// A device that only holds bytes: for tests of loading, which need no kernels but exact accounts of memory and injected failures.
import { type Backend, Device, type DeviceBuffer, OutOfMemoryError } from "@wick/tensor";

interface Held extends DeviceBuffer {
  readonly bytes: Uint8Array;
}

export interface MemoryDeviceOptions {
  /** Allocations beyond this many live bytes throw OutOfMemoryError. */
  readonly limitBytes?: number;
}

/** A device whose kernels do not exist. */
export function memoryDevice({ limitBytes = Infinity }: MemoryDeviceOptions = {}): Device {
  let live = 0;
  const unused = (): never => {
    throw new Error("a memory device has no kernels");
  };
  const backend: Backend = {
    kind: "cpu",
    description: "memory",
    capabilities: { tier: "memory", float32MatmulPrecision: "highest", f16: true, threads: 1, maxBindingBytes: Infinity },
    kernels: new Proxy({} as Backend["kernels"], { get: unused }),
    allocate(byteLength, label): Held {
      if (live + byteLength > limitBytes) throw new OutOfMemoryError("allocate", `no room for ${byteLength} bytes: ${label}`);
      live += byteLength;
      return { byteLength, bytes: new Uint8Array(byteLength) };
    },
    release(buffer) {
      live -= buffer.byteLength;
    },
    write(buffer, byteOffset, data) {
      (buffer as Held).bytes.set(data, byteOffset);
    },
    read: async (buffer, byteOffset, byteLength) => (buffer as Held).bytes.slice(byteOffset, byteOffset + byteLength),
    flush() {},
    idle: async () => {},
    memory: () => ({ liveBytes: live, pooledBytes: 0, peakBytes: live, byLabel: [] }),
    resetPeak() {},
    trim() {},
    keepWithin() {},
    profile: unused,
    destroy() {},
  };
  return new Device(backend);
}
