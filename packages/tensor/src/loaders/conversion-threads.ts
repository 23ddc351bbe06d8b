// Threads that quantize weights while they stream: each takes pieces by message, runs the generated code in a memory of its own and sends
// bytes back, so that pages that may not share memory have them too. Nothing waits for a thread that has not said that it is ready.
import { DeviceError } from "../errors.ts";
import type { Conversion } from "../quant/wasm/run.ts";
import { probeWasm } from "../wasm/features.ts";
import { availableThreads, startThread, type Thread } from "../wasm/threads.ts";

/** Values from which starting threads pays: some 50 ms of the slower searches. */
const worthwhileValues = 2 ** 21;

/** The script, as text; see `startThread`. It answers each job with its bytes, or with none where values do not fit. */
const script = `
const main = (_, onMessage, send) => {
  const kernels = new Map();
  onMessage(({ job, conversion, key, input, count, outBytes }) => {
    if (conversion) {
      const memory = new WebAssembly.Memory({ initial: conversion.pages, maximum: conversion.pages });
      const { convert } = new WebAssembly.Instance(new WebAssembly.Module(conversion.bytes), { env: { memory } }).exports;
      kernels.set(key, { ...conversion, memory, convert });
    }
    const { memory, convert, inputAt, outputAt } = kernels.get(key);
    new Uint8Array(memory.buffer).set(input, inputAt);
    const out = convert(count, outputAt) === 0 ? memory.buffer.slice(outputAt, outputAt + outBytes) : undefined;
    send({ job, out }, out ? [out] : []);
  });
  send({});
};
`;

/** A message of the script: the answer to a job, or, the first time, that it is ready. */
interface Answer {
  readonly job?: number;
  readonly out?: ArrayBuffer;
}

type Done = (out: Uint8Array | undefined) => void;

/** A thread with the jobs it has and the conversions it knows. */
interface Worker {
  readonly thread: Thread;
  readonly jobs: Map<number, { readonly done: Done; readonly failed: (error: Error) => void }>;
  readonly known: Set<string>;
  isReady: boolean;
}

/** Threads that quantize; they start with the first piece that is worth it, and `close` ends them. One set serves one load after the other. */
export class ConversionThreads {
  /** Threads beside the calling one. */
  readonly threads: number;
  readonly #workers: Worker[] = [];
  readonly #buffers: Uint8Array[] = [];
  readonly #isShared: boolean;
  #seenValues = 0;
  #jobs = 0;
  #started = false;
  #closed = false;

  /** `threads` beside the calling one: by default one for every core, none on a single core. */
  constructor(threads?: number) {
    const cores = availableThreads();
    this.threads = Math.max(0, threads ?? (cores > 1 ? cores : 0));
    this.#isShared = probeWasm().shared;
  }

  /** Threads that take jobs now. */
  get ready(): number {
    return this.#workers.filter((w) => w.isReady).length;
  }

  /** Whether threads were asked for that have not answered yet. */
  get isStarting(): boolean {
    return this.#workers.some((w) => !w.isReady);
  }

  /** Jobs a caller should keep waiting: each thread has one and finds the next. */
  get depth(): number {
    return this.threads > 0 ? this.threads + 2 : 0;
  }

  /** A buffer for a job's input, of `length` bytes. */
  takeBuffer(length: number): Uint8Array {
    const at = this.#buffers.findIndex((b) => b.length === length);
    if (at >= 0) return this.#buffers.splice(at, 1)[0]!;
    return new Uint8Array(this.#isShared ? new SharedArrayBuffer(length) : new ArrayBuffer(length));
  }

  /** Takes a buffer back whose job is done. */
  giveBuffer(buffer: Uint8Array): void {
    this.#buffers.push(buffer);
    if (this.#buffers.length > 2 * this.depth) this.#buffers.shift();
  }

  /**
   * The bytes of `count` converted values. Undefined, at once or when it is done, where the calling thread should do it: no thread is ready, one
   * has ended, or values do not fit. Rejects with DeviceError when the threads are closed meanwhile.
   */
  convert(conversion: Conversion, input: Uint8Array, count: number, outBytes: number): Promise<Uint8Array | undefined> | undefined {
    this.#seenValues += count;
    if (this.#seenValues < worthwhileValues || this.#closed) return undefined;
    if (!this.#started) this.#start();
    const idle = this.#workers.filter((w) => w.isReady).sort((a, b) => a.jobs.size - b.jobs.size)[0];
    if (!idle) return undefined;
    const { key, bytes, inputAt, outputAt, pages } = conversion;
    const first = idle.known.has(key) ? {} : { conversion: { bytes, inputAt, outputAt, pages } };
    idle.known.add(key);
    const job = this.#jobs++;
    return new Promise((done, failed) => {
      if (idle.jobs.size === 0) idle.thread.hold(true);
      idle.jobs.set(job, { done, failed });
      idle.thread.send({ job, key, input, count, outBytes, ...first });
    });
  }

  #start(): void {
    this.#started = true;
    for (let i = 0; i < this.threads; i++) {
      try {
        this.#workers.push(this.#startOne());
      } catch {
        // No threads here, for instance because a page's policy forbids their scripts: the calling thread does everything.
        return;
      }
    }
  }

  #startOne(): Worker {
    const onMessage = (message: unknown) => this.#take(worker, message as Answer);
    const thread = startThread(script, {}, { onError: () => this.#drop(worker), onMessage });
    const worker: Worker = { thread, jobs: new Map(), known: new Set(), isReady: false };
    return worker;
  }

  #take(worker: Worker, { job, out }: Answer): void {
    if (job === undefined) {
      worker.isReady = true;
      return;
    }
    const waiting = worker.jobs.get(job);
    worker.jobs.delete(job);
    if (worker.jobs.size === 0) worker.thread.hold(false);
    waiting?.done(out && new Uint8Array(out));
  }

  /** A thread that ended: its jobs go back to the caller. */
  #drop(worker: Worker): void {
    const at = this.#workers.indexOf(worker);
    if (at < 0) return;
    this.#workers.splice(at, 1);
    worker.thread.stop();
    for (const { done } of worker.jobs.values()) done(undefined);
    worker.jobs.clear();
  }

  /** Ends the threads. */
  close(): void {
    this.#closed = true;
    for (const { thread, jobs } of this.#workers.splice(0)) {
      thread.stop();
      for (const { failed } of jobs.values())
        failed(new DeviceError("convert", "destroyed", "the threads were closed while weights stream through them"));
      jobs.clear();
    }
    this.#buffers.length = 0;
  }

  /** The same as `close()`, for `using`. */
  [Symbol.dispose](): void {
    this.close();
  }
}
