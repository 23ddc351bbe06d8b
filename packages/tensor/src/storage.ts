// The memory behind tensors: reference-counted, and possibly not computed yet.
// A storage starts either with a buffer or with a pending expression; the expression becomes one kernel when someone needs the bytes.

import type { Device } from "./device.ts";
import type { DType } from "./dtype.ts";
import { bytesOf } from "./dtype.ts";
import { contiguousLayout, type Layout } from "./layout.ts";
import type { ExprNode } from "./ops/expr.ts";
import { type Shape, sizeOf } from "./shape.ts";
import type { DeviceBuffer, View } from "./view.ts";

/** An operand of a pending expression; its storage is retained and already computed. */
export interface PendingInput {
  readonly storage: Storage;
  readonly dtype: DType;
  /** Of the operand itself; broadcasting to the result happens at launch. */
  readonly layout: Layout;
}

/** A deferred `map`: what the fuser grows. */
export interface Pending {
  readonly expr: ExprNode;
  readonly inputs: readonly PendingInput[];
  readonly shape: Shape;
}

export class Storage {
  readonly device: Device;
  readonly dtype: DType;
  readonly byteLength: number;
  readonly label: string;
  #refs = 0;
  #buffer: DeviceBuffer | undefined;
  #pending: Pending | undefined;
  /** How many expressions have taken this pending one in; a second consumer computes it once instead. */
  inlined = 0;

  private constructor(device: Device, dtype: DType, byteLength: number, label: string) {
    this.device = device;
    this.dtype = dtype;
    this.byteLength = byteLength;
    this.label = label;
  }

  /** Allocates now; contents undefined. */
  static allocate(device: Device, shape: Shape, dtype: DType, label: string): Storage {
    const storage = new Storage(device, dtype, bytesOf(dtype, sizeOf(shape)), label);
    storage.#buffer = device.allocate(storage.byteLength, label);
    return storage;
  }

  /** Remembers the expression and retains its operands; nothing is allocated. */
  static defer(device: Device, dtype: DType, pending: Pending, label: string): Storage {
    const storage = new Storage(device, dtype, bytesOf(dtype, sizeOf(pending.shape)), label);
    storage.#pending = pending;
    for (const { storage: s } of pending.inputs) s.retain();
    return storage;
  }

  get pending(): Pending | undefined {
    return this.#pending;
  }

  retain(): void {
    this.#refs++;
  }

  release(): void {
    if (--this.#refs > 0) return;
    if (this.#buffer) this.device.release(this.#buffer, this.byteLength);
    this.#buffer = undefined;
    this.#dropPending();
  }

  /** The computed memory: launches the pending expression if there is one. */
  buffer(): DeviceBuffer {
    const pending = this.#pending;
    if (pending) {
      const buffer = this.device.allocate(this.byteLength, this.label);
      this.#buffer = buffer;
      try {
        const out: View = { buffer, dtype: this.dtype, layout: contiguousLayout(pending.shape) };
        this.device.launchMap(out, pending);
      } catch (error) {
        this.#buffer = undefined;
        this.device.release(buffer, this.byteLength);
        throw error;
      }
      this.#dropPending();
    }
    return this.#buffer!;
  }

  #dropPending(): void {
    const pending = this.#pending;
    this.#pending = undefined;
    if (pending) for (const { storage } of pending.inputs) storage.release();
  }
}
