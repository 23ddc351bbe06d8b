// A piece of GPU memory, the loan of it that a tensor holds, and what is known of its contents.
import { DeviceError } from "../../errors.ts";
import type { DeviceBuffer } from "../../view.ts";

/** A GPUBuffer with what the recorder needs to know about it. */
export interface Store {
  readonly id: number;
  readonly gpu: GPUBuffer;
  readonly sizeBytes: number;
  /** Number of the submission that last used it; equal to the recorder's current one while its use is only recorded. */
  epoch: number;
  /** Grows with every recorded write. */
  version: number;
  /** What is known of its contents. */
  derived: DerivedOfStore | undefined;
  /** The driver could not allocate it after all; it must not be handed out again. */
  failed: boolean;
}

/** What `allocate` hands out: a loan of a store. */
export class GpuBuffer implements DeviceBuffer {
  readonly byteLength: number;
  readonly label: string;
  store: Store | undefined;
  constructor(byteLength: number, label: string, store: Store) {
    this.byteLength = byteLength;
    this.label = label;
    this.store = store;
  }
}

/** The store behind a buffer; throws DeviceError after its release. */
export function storeOf(buffer: DeviceBuffer): Store {
  const store = (buffer as GpuBuffer).store;
  if (!store)
    throw new DeviceError(
      "webgpu",
      "invalid-buffer",
      `buffer "${(buffer as GpuBuffer).label ?? "?"}" was released or belongs to another backend`,
    );
  return store;
}

/** Words derived from part of a store's contents. */
export interface Derived {
  readonly buffer: GpuBuffer;
  /** Their computation has been recorded. */
  isKnown: boolean;
}

/** Everything derived from one store, by what it says of which part, and the store's version that it holds for. */
export interface DerivedOfStore {
  readonly version: number;
  readonly byKey: Map<string, Derived>;
}
