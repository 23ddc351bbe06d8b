// Bytes in and out of the GPU: chunked writes whose staging memory is really freed, reads through pooled mappable buffers.
import { DeviceError } from "../../errors.ts";
import type { Recorder } from "./encoder.ts";
import type { Store } from "./store.ts";

const uploadChunkBytes = 32 << 20;

/** Copies whole 4-byte words into a buffer after everything recorded so far. */
export function uploadWords(device: GPUDevice, recorder: Recorder, store: Store, byteOffset: number, data: Uint8Array): void {
  // writeBuffer runs at submission time: recorded users of the buffer must go first.
  if (store.epoch === recorder.epoch) recorder.submit();
  store.version++;
  for (let at = 0; at < data.byteLength; at += uploadChunkBytes) {
    const size = Math.min(uploadChunkBytes, data.byteLength - at);
    device.queue.writeBuffer(store.gpu, byteOffset + at, data as Uint8Array<ArrayBuffer>, at, size);
    // Without a submission Dawn never releases the staging copies.
    if (data.byteLength > 1 << 20) device.queue.submit([]);
  }
}

/** Pooled MAP_READ buffers and the reads in flight. */
export class Readback {
  private readonly device: GPUDevice;
  private readonly free: GPUBuffer[] = [];
  private readonly pending = new Set<(e: Error) => void>();

  constructor(device: GPUDevice) {
    this.device = device;
  }

  /** Submits what is recorded and resolves with a copy of the bytes. */
  async read(recorder: Recorder, store: Store, byteOffset: number, byteLength: number): Promise<Uint8Array> {
    const start = byteOffset - (byteOffset % 4);
    const size = Math.ceil((byteOffset + byteLength - start) / 4) * 4;
    const staging = this.staging(size);
    recorder.copy(store, start, staging, 0, size);
    recorder.submit();
    await this.guarded(staging.mapAsync(1, 0, size));
    const bytes = new Uint8Array(staging.getMappedRange(0, size)).slice(byteOffset - start, byteOffset - start + byteLength);
    staging.unmap();
    this.recycle(staging);
    return bytes;
  }

  /** A promise that also rejects when the device is lost. */
  guarded<T>(work: Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.pending.add(reject);
      const done = (): boolean => this.pending.delete(reject);
      work.then(
        (value) => {
          done();
          resolve(value);
        },
        (cause) => {
          done();
          reject(new DeviceError("read", "lost", "the device was lost or destroyed before the read finished", { cause }));
        },
      );
    });
  }

  rejectAll(error: DeviceError): void {
    for (const reject of this.pending) reject(error);
    this.pending.clear();
  }

  private staging(size: number): GPUBuffer {
    const i = this.free.findIndex((b) => b.size >= size && b.size <= Math.max(size * 4, 65536));
    if (i >= 0) return this.free.splice(i, 1)[0]!;
    const rounded = Math.max(65536, 2 ** Math.ceil(Math.log2(size)));
    return this.device.createBuffer({ label: "readback", size: size > 64 << 20 ? size : rounded, usage: 0x01 | 0x08 });
  }

  private recycle(buffer: GPUBuffer): void {
    if (this.free.length < 4 && buffer.size <= 64 << 20) this.free.push(buffer);
    else buffer.destroy();
  }

  trim(): void {
    for (const b of this.free.splice(0)) b.destroy();
  }
}
