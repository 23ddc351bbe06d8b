// Compiles the generated modules when they are first used, instantiates them per memory and runs jobs: a kernel over a number of independent tasks.

import { compileOptimised } from "../../../wasm/features.ts";
import { type WasmExports, type WasmTable, wasm } from "../../../wasm/webassembly.ts";
import type { Arena, ArenaSource } from "./arena.ts";
import { jobArea, numberArg, queuedJobs, scratch } from "./blocking.ts";
import { builtOn, type KernelName, kernelModule, kernelNames } from "./emitters.ts";
import type { Flavour } from "./flavour.ts";
import { Pool } from "./pool.ts";
import { hasAngles, isSupported, type RowSpec, rowKey, rowModule } from "./row-function.ts";

/** Argument words of a job: a kernel's own, and at last its number. */
const maxArgs = numberArg + 1;
/** How much less work is worth sharing with a worker that is awake. */
const awakeGain = 8;
/** How much more work is waited for: some milliseconds, after which a caller should see progress, abort, or let the event loop turn. */
const waitedGain = 32;

/** Who runs a job: the calling thread alone, all threads while the caller goes on, or all threads while it waits. */
export type Share = "alone" | "queue" | "wait";

/** Modules a device may compile; expressions beyond that run on the plain kernels. */
const maxModules = 1024;

/** The modules in one memory. */
interface Instances {
  /** What the kernels' modules export. */
  readonly exports: WasmExports;
  /** Row functions, by the number of their module. */
  readonly table: WasmTable;
  /** Modules that are here already. */
  count: number;
}

/** Owner of the compiled code of one device. */
export class WasmEngine {
  readonly flavour: Flavour;
  readonly source: ArenaSource;
  readonly #instances = new WeakMap<Arena, Instances>();
  readonly #kernels = new Set<KernelName>();
  readonly #slots = new Map<string, number>();
  readonly #modules: object[] = [];
  readonly #moduleBytes: Uint8Array[] = [];
  readonly #args = new Int32Array(maxArgs);
  /** Jobs described so far, to tell them apart. */
  #jobs = 0;
  /** Jobs that the workers were given. */
  #queued = 0;
  #pool: Pool | undefined;
  #optimised = false;
  /** Threads that jobs may use, the calling one included. */
  readonly threads: number;

  constructor(flavour: Flavour, source: ArenaSource, threads: number) {
    this.flavour = flavour;
    this.source = source;
    this.threads = threads;
    source.settle = () => this.settle();
  }

  /** From here on, kernels are compiled optimised at once, so that what is tested is what will run. */
  optimise(): void {
    this.#optimised = true;
  }

  /** Compiles a kernel unless it is. */
  #ready(name: KernelName): void {
    if (this.#kernels.has(name)) return;
    const base = builtOn[name];
    if (base) this.#ready(base);
    const bytes = kernelModule(name, this.flavour);
    if (this.#optimised) compileOptimised(() => void this.#add(bytes));
    else this.#add(bytes);
    this.#kernels.add(name);
  }

  /** Compiles a module and gives its number, from 1. */
  #add(bytes: Uint8Array): number {
    this.#modules.push(new wasm!.Module(bytes));
    this.#moduleBytes.push(bytes);
    return this.#modules.length;
  }

  #instancesIn(arena: Arena): Instances {
    let found = this.#instances.get(arena);
    if (!found) {
      found = { exports: {}, table: new wasm!.Table({ element: "anyfunc", initial: maxModules }), count: 0 };
      this.#instances.set(arena, found);
    }
    const { table, exports } = found;
    while (found.count < this.#modules.length) {
      const module = this.#modules[found.count++]!;
      const own = new wasm!.Instance(module, { env: { memory: arena.memory, table, ...exports } }).exports;
      if (own["run"]) table.set(found.count, own["run"]);
      else Object.assign(exports, own);
    }
    return found;
  }

  /** Table slot of a row function, compiled at first use; undefined when it has no generated form or the table is full. */
  slotOf(spec: RowSpec): number | undefined {
    const key = rowKey(spec);
    const known = this.#slots.get(key);
    if (known !== undefined) return known;
    if (this.#modules.length + kernelNames.length >= maxModules - 1 || !isSupported(spec)) return undefined;
    // A kernel's result is gone when a row function finds that it cannot take it.
    if (spec.fromResult && hasAngles(spec.expr)) return undefined;
    const slot = this.#add(rowModule(spec, this.flavour.fma, this.flavour.shared));
    this.#slots.set(key, slot);
    return slot;
  }

  /** Writes words into the tables of the next job, `at` words in, and gives their address. */
  writeTable(arena: Arena, words: readonly number[], at = 0): number {
    return this.#writeWords(arena, jobArea.tables + 4 * at, words);
  }

  /** Writes into the area of the next job, in turn: the one before it there has run when the queue has room. */
  #writeWords(arena: Arena, offset: number, words: ArrayLike<number>): number {
    this.#pool?.makeRoom();
    const at = arena.scratchOf(0)! + scratch.jobs + jobArea.bytes * (this.#queued % queuedJobs) + offset;
    arena.words.set(words, at >> 2);
    return at;
  }

  /** Words for the arguments of the next job, all 0 but its number; see `placesOf`. */
  blankArgs(): Int32Array {
    const words = this.#args.fill(0);
    this.#jobs = (this.#jobs + 1) | 0;
    words[numberArg] = this.#jobs;
    return words;
  }

  /** Who should run a job of `work` units: sharing pays from `least` on where a worker must be woken, from far less where one is awake. */
  shares(work: number, least: number): Share {
    if (work >= waitedGain * least) return "wait";
    return work >= least || (work * awakeGain >= least && this.#pool?.isAwake === true) ? "queue" : "alone";
  }

  /** Runs `tasks` tasks of a kernel with arguments in words, at once or after the jobs that wait already. */
  run(arena: Arena, kernel: KernelName, words: Int32Array, tasks: number, share: Share): void {
    this.#ready(kernel);
    const { exports } = this.#instancesIn(arena);
    const args = this.#writeWords(arena, jobArea.args, words);
    const base = arena.scratchOf(0)!;
    const fn = exports[kernel]!;
    const own = (task: number) => void fn(task, args, base);
    if (this.#pool?.isBusy || (share !== "alone" && tasks > 1)) {
      if (this.#poolFor(arena)?.add({ arena, kernel, args, tasks, own })) {
        this.#queued++;
        if (share === "wait") this.settle();
        return;
      }
      this.settle();
    }
    for (let task = 0; task < tasks; task++) own(task);
  }

  /** Waits until all jobs have run. */
  settle(): void {
    this.#pool?.settle();
  }

  /** The workers, started or restarted when the set of arenas changed; undefined when there are none or they lack a module. */
  #poolFor(arena: Arena): Pool | undefined {
    if (this.threads < 2) return undefined;
    if (!this.#pool?.arenas.includes(arena)) {
      this.settle();
      this.#pool?.stop();
      this.#pool = new Pool({ kernels: kernelNames, threads: this.threads, arenas: this.source.arenas });
    }
    const pool = this.#pool;
    while (pool.modules < this.#moduleBytes.length) if (!pool.addModule(this.#moduleBytes[pool.modules]!)) return undefined;
    return pool;
  }

  /** Tasks of shared jobs that each thread, the caller first, has run; empty before the first shared job. */
  get tasksDone(): readonly number[] {
    return this.#pool?.tasksDone ?? [];
  }

  /** Ends the workers. */
  stop(): void {
    this.#pool?.stop();
    this.#pool = undefined;
  }
}
