// Threads: workers that share the arenas and take tasks from an atomic counter beside the calling thread.
// Workers join a running job when they are awake and are never waited for otherwise, so a slow start or a missing worker cannot hang anything.
import type { Arena } from "./arena.ts";
import { nodeModule } from "./features.ts";

/** Words of the control block. A job is open while `generation` is odd; `active` counts workers inside it. */
const word = {
  generation: 0,
  next: 1,
  active: 2,
  tasks: 3,
  kernel: 4,
  args: 5,
  arena: 6,
  modules: 7,
  failed: 8,
  /** Workers that look for work rather than sleep. */
  awake: 9,
  /** Tasks that each thread has run, for reports. */
  done: 32,
  scratch: 64,
  directory: 128,
} as const;
const maxThreads = 32;
const maxModules = 1000;
const moduleBytesAt = 16_384;
const controlBytes = 2 ** 20;
/**
 * How often an idle worker looks for work before it sleeps, about 0.8 ms: as long as the small kernels between two products take. Waking a
 * worker costs 20 to 100 microseconds, and milliseconds where other processes hold its core.
 */
const workerSpins = 100_000;

/** What a worker runs, as text: Node starts it as a script, browsers from a blob. */
const workerSource = `
const main = ({ control, memories, kernels, thread }) => {
  const c = new Int32Array(control);
  const instances = [];
  const instanceOf = (i) => {
    const found = (instances[i] ??= { exports: {}, table: new WebAssembly.Table({ element: "anyfunc", initial: 1024 }), count: 0 });
    const { table, exports } = found;
    for (const count = Atomics.load(c, ${word.modules}); found.count < count; ) {
      const at = c[${word.directory} + 2 * found.count], length = c[${word.directory} + 1 + 2 * found.count++];
      const module = new WebAssembly.Module(new Uint8Array(control, at, length).slice());
      const own = new WebAssembly.Instance(module, { env: { memory: memories[i], table, ...exports } }).exports;
      if (own.run) table.set(found.count, own.run);
      else Object.assign(exports, own);
    }
    return found;
  };
  Atomics.add(c, ${word.awake}, 1);
  for (let seen = 0; ; ) {
    let g = Atomics.load(c, 0);
    for (let i = 0; i < ${workerSpins} && (g === seen || g % 2 === 0) && g >= 0; i++) g = Atomics.load(c, 0);
    if (g < 0) break;
    if (g === seen || g % 2 === 0) {
      Atomics.sub(c, ${word.awake}, 1);
      Atomics.wait(c, 0, g);
      Atomics.add(c, ${word.awake}, 1);
      continue;
    }
    Atomics.add(c, ${word.active}, 1);
    if (Atomics.load(c, 0) === g) {
      try {
        const kernel = instanceOf(c[${word.arena}]).exports[kernels[c[${word.kernel}]]];
        const tasks = c[${word.tasks}], args = c[${word.args}], scratch = c[${word.scratch} + thread];
        for (let t; (t = Atomics.add(c, ${word.next}, 1)) < tasks; ) {
          kernel(t, args, scratch);
          c[${word.done} + thread]++;
        }
      } catch { Atomics.store(c, ${word.failed}, 1); }
      seen = g;
    }
    if (Atomics.sub(c, ${word.active}, 1) === 1) Atomics.notify(c, ${word.active});
  }
};
if (typeof require === "function") main(require("node:worker_threads").workerData);
else onmessage = ({ data }) => main(data);
`;

interface Handle {
  stop(): void;
}

/** Cores this process may use. */
export function availableThreads(): number {
  const os = nodeModule<{ availableParallelism(): number }>("node:os");
  const cores =
    os?.availableParallelism() ?? (globalThis as { navigator?: { hardwareConcurrency?: number } }).navigator?.hardwareConcurrency ?? 1;
  return Math.min(maxThreads, Math.max(1, cores));
}

interface Shared {
  readonly kernels: readonly string[];
  readonly threads: number;
  readonly arenas: readonly Arena[];
}

/** Workers for one set of arenas; they never keep the process alive. */
export class Pool {
  readonly arenas: readonly Arena[];
  readonly #control: Int32Array<SharedArrayBuffer>;
  readonly #handles: Handle[] = [];
  readonly #kernels: readonly string[];
  readonly #threads: number;
  #moduleBytes = moduleBytesAt;
  #broken = false;

  constructor({ kernels, threads, arenas }: Shared) {
    this.arenas = [...arenas];
    this.#kernels = kernels;
    this.#threads = threads;
    const control = new SharedArrayBuffer(controlBytes);
    this.#control = new Int32Array(control);
    const data = { control, memories: arenas.map((a) => a.memory), kernels };
    for (let thread = 1; thread < threads; thread++) this.#handles.push(startWorker({ ...data, thread }, () => void (this.#broken = true)));
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

  /** Tasks that each thread, the caller first, has run so far. */
  get tasksDone(): readonly number[] {
    return [...this.#control.subarray(word.done, word.done + this.#threads)];
  }

  /** Runs a job on the caller and whichever workers join; false (nothing done) when the pool cannot serve it. */
  run(arena: Arena, kernel: string, args: number, tasks: number, own: (task: number) => void): boolean {
    const index = this.arenas.indexOf(arena);
    if (this.#broken || index < 0) return false;
    const c = this.#control;
    for (let t = 0; t < this.#threads; t++) {
      const base = arena.scratchOf(t);
      if (base === undefined) return false;
      c[word.scratch + t] = base;
    }
    c[word.kernel] = this.#kernels.indexOf(kernel);
    c[word.arena] = index;
    c[word.args] = args;
    c[word.tasks] = tasks;
    Atomics.store(c, word.next, 0);
    Atomics.add(c, word.generation, 1);
    Atomics.notify(c, word.generation);
    for (let t = Atomics.add(c, word.next, 1); t < tasks; t = Atomics.add(c, word.next, 1)) {
      own(t);
      c[word.done]!++;
    }
    Atomics.add(c, word.generation, 1);
    this.#join();
    return true;
  }

  #join(): void {
    const c = this.#control;
    for (let spins = 0; ; spins++) {
      const active = Atomics.load(c, word.active);
      if (active === 0) break;
      // A browser's main thread may not sleep; it spins on.
      if (spins > 100_000 && nodeModule("node:os")) Atomics.wait(c, word.active, active, 1);
    }
    if (c[word.failed]) {
      this.#broken = true;
      throw new Error("a worker failed inside a kernel");
    }
  }

  /** Ends the workers. */
  stop(): void {
    Atomics.store(this.#control, word.generation, -1);
    Atomics.notify(this.#control, word.generation);
    for (const handle of this.#handles) handle.stop();
  }
}

interface NodeWorker {
  unref(): void;
  on(event: "error", listener: () => void): void;
  terminate(): Promise<number>;
}

interface WebWorker {
  onerror: (() => void) | null;
  postMessage(data: object): void;
  terminate(): void;
}

function startWorker(data: object, onError: () => void): Handle {
  const threads = nodeModule<{ Worker: new (source: string, options: object) => NodeWorker }>("node:worker_threads");
  if (threads) {
    const worker = new threads.Worker(workerSource, { eval: true, workerData: data, execArgv: [], name: "wick-cpu" });
    worker.on("error", onError);
    worker.unref();
    return { stop: () => void worker.terminate().catch(onError) };
  }
  return startWebWorker(data, onError);
}

function startWebWorker(data: object, onError: () => void): Handle {
  const { Worker: WorkerClass } = globalThis as unknown as { Worker: new (url: string) => WebWorker };
  const url = URL.createObjectURL(new Blob([workerSource], { type: "text/javascript" }));
  const worker = new WorkerClass(url);
  worker.onerror = onError;
  worker.postMessage(data);
  return {
    stop: () => {
      worker.terminate();
      URL.revokeObjectURL(url);
    },
  };
}
