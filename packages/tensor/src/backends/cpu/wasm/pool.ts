// Threads: workers that share the arenas and run a short queue of jobs while the calling thread prepares the next ones. The calling thread helps
// where the queue is full, and where somebody looks at memory. It never waits for a worker that has not taken a task, so a slow
// start or a missing worker cannot hang anything.

import { nodeModule } from "../../../wasm/features.ts";
import { startThread, type Thread } from "../../../wasm/threads.ts";
import type { Arena } from "./arena.ts";
import { queuedJobs } from "./blocking.ts";
import { insideOf, jobWord, numberMask, placeOf, poolScript, spins, word } from "./worker.ts";

const maxModules = 1000;
const moduleBytesAt = 16_384;
const controlBytes = 2 ** 20;

interface Shared {
  readonly kernels: readonly string[];
  readonly threads: number;
  readonly arenas: readonly Arena[];
}

/** A kernel over a number of independent tasks, in one memory. */
export interface Job {
  readonly arena: Arena;
  readonly kernel: string;
  /** Address of its arguments, which stay until it has run. */
  readonly args: number;
  readonly tasks: number;
  /** Runs a task on the calling thread. */
  readonly own: (task: number) => void;
}

/** Workers for one set of arenas. */
export class Pool {
  readonly arenas: readonly Arena[];
  readonly #control: Int32Array<SharedArrayBuffer>;
  readonly #workers: Thread[] = [];
  readonly #kernels: readonly string[];
  readonly #threads: number;
  readonly #jobs: Job[] = [];
  /** Numbers of the oldest job that may not have run and of the next one. */
  #head = 0;
  #tail = 0;
  #moduleBytes = moduleBytesAt;
  #broken = false;

  constructor({ kernels, threads, arenas }: Shared) {
    this.arenas = [...arenas];
    this.#kernels = kernels;
    this.#threads = threads;
    const control = new SharedArrayBuffer(controlBytes);
    this.#control = new Int32Array(control);
    for (let number = 0; number < queuedJobs; number++) this.#control[placeOf(number)] = -1;
    for (let t = 0; t < threads; t++) {
      this.#control[insideOf(t)] = -1;
      // Every arena has its scratch memory in the same place.
      const base = arenas[0]?.scratchOf(t);
      if (base === undefined) this.#broken = true;
      else this.#control[word.scratch + t] = base;
    }
    const data = { control, memories: arenas.map((a) => a.memory), kernels };
    const onError = () => void (this.#broken = true);
    for (let thread = 1; thread < threads; thread++) this.#workers.push(startThread(poolScript, { ...data, thread }, { onError }));
  }

  /** Makes a module known to the workers; false when the directory is full. */
  addModule(bytes: Uint8Array): boolean {
    const c = this.#control;
    const count = c[word.modules]!;
    if (count >= maxModules || this.#moduleBytes + bytes.length > controlBytes) return false;
    new Uint8Array(c.buffer).set(bytes, this.#moduleBytes);
    c[word.directory + 2 * count] = this.#moduleBytes;
    c[word.directory + 2 * count + 1] = bytes.length;
    this.#moduleBytes += bytes.length;
    Atomics.store(c, word.modules, count + 1);
    return true;
  }

  /** Number of modules the workers know. */
  get modules(): number {
    return this.#control[word.modules]!;
  }

  /** Whether a worker would take tasks at once, without being woken. */
  get isAwake(): boolean {
    return this.#control[word.awake]! > 0;
  }

  /** Whether jobs may not have run yet. */
  get isBusy(): boolean {
    return this.#head !== this.#tail;
  }

  /** Tasks that each thread, the caller first, has run so far. */
  get tasksDone(): readonly number[] {
    return [...this.#control.subarray(word.done, word.done + this.#threads)];
  }

  /** Adds a job, which runs after all before it; false (nothing done) when the pool cannot serve it. */
  add(job: Job): boolean {
    const arena = this.arenas.indexOf(job.arena);
    if (this.#broken || arena < 0) return false;
    this.makeRoom();
    const c = this.#control;
    const at = placeOf(this.#tail);
    // First close the job that had this place, then look for workers that came so late that they only find out now.
    Atomics.store(c, at + jobWord.number, -1);
    const before = (this.#tail - queuedJobs) & numberMask;
    for (let thread = 1; thread < this.#threads; thread++) this.#await(insideOf(thread), (job) => job !== before);
    c[at + jobWord.tasks] = job.tasks;
    c[at + jobWord.kernel] = this.#kernels.indexOf(job.kernel);
    c[at + jobWord.args] = job.args;
    c[at + jobWord.arena] = arena;
    Atomics.store(c, at + jobWord.finished, 0);
    Atomics.store(c, at + jobWord.next, 0);
    Atomics.store(c, at + jobWord.number, this.#tail);
    this.#jobs[this.#tail & (queuedJobs - 1)] = job;
    this.#tail = (this.#tail + 1) & numberMask;
    Atomics.store(c, word.tail, this.#tail);
    if (Atomics.load(c, word.awake) < this.#threads - 1) Atomics.notify(c, word.tail);
    return true;
  }

  /** Helps until there is a free place in the queue. */
  makeRoom(): void {
    if (((this.#tail - this.#head) & numberMask) >= queuedJobs) this.#finish();
  }

  /** Helps until all jobs have run. */
  settle(): void {
    while (this.#head !== this.#tail) this.#finish();
  }

  /** Helps with the oldest job until it has run. */
  #finish(): void {
    const c = this.#control;
    const at = placeOf(this.#head);
    const { tasks, own } = this.#jobs[this.#head & (queuedJobs - 1)]!;
    try {
      for (let t = Atomics.add(c, at + jobWord.next, 1); t < tasks; t = Atomics.add(c, at + jobWord.next, 1)) {
        own(t);
        c[word.done]!++;
        Atomics.add(c, at + jobWord.finished, 1);
      }
    } catch (error) {
      this.stop();
      throw error;
    }
    this.#await(at + jobWord.finished, (finished) => finished >= tasks);
    this.#head = (this.#head + 1) & numberMask;
    Atomics.store(c, word.head, this.#head);
    if (!c[word.failed]) return;
    this.stop();
    throw new Error("a worker failed inside a kernel");
  }

  /** Waits until a word has a value that will do, spinning first. A browser's main thread may not sleep; it spins on. */
  #await(at: number, isEnough: (value: number) => boolean): void {
    const c = this.#control;
    for (let looks = 0, value = Atomics.load(c, at); !isEnough(value); value = Atomics.load(c, at)) {
      if (looks++ > spins && nodeModule("node:os")) Atomics.wait(c, at, value, 1);
    }
  }

  /** Ends the workers and forgets what has not run. */
  stop(): void {
    this.#broken = true;
    this.#head = this.#tail;
    Atomics.store(this.#control, word.tail, -1);
    Atomics.notify(this.#control, word.tail);
    for (const worker of this.#workers) worker.stop();
  }
}
