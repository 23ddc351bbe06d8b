// What kernels are handed: device memory, and how a tensor lies in it.
import type { DType } from "./dtype.ts";
import type { Layout } from "./layout.ts";

/** A piece of device memory; only the backend that made it looks inside. */
export interface DeviceBuffer {
  /** As asked for; what is allocated may be more. */
  readonly byteLength: number;
}

/** Operand of a kernel: memory, element format and how to walk it. Quantized views are contiguous rows, or their transpose. */
export interface View {
  /** The memory. */
  readonly buffer: DeviceBuffer;
  /** Format of the elements. */
  readonly dtype: DType;
  /** How the elements lie in it. */
  readonly layout: Layout;
}
