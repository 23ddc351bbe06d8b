// Compiles the generated modules when they are first used, instantiates them per memory and runs jobs: a kernel over a number of independent tasks.
import type { Arena, ArenaSource } from "./arena.ts";
import { scratch } from "./blocking.ts";
import { builtOn, type KernelName, kernelModule, kernelNames } from "./emitters.ts";
import { compileOptimised } from "./features.ts";
import type { Flavour } from "./gemm.ts";
import { Pool } from "./pool.ts";
import { hasAngles, isSupported, type RowSpec, rowKey, rowModule } from "./row-function.ts";
import { type WasmExports, type WasmTable, wasm } from "./webassembly.ts";

/** Most argument words of a job. */
const maxArgs = 64;
/** How much less work is worth sharing with a worker that is awake. */
const awakeGain = 8;

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
  #pool: Pool | undefined;
  #optimised = false;
  /** Threads that jobs may use, the calling one included. */
  readonly threads: number;

  constructor(flavour: Flavour, source: ArenaSource, threads: number) {
    this.flavour = flavour;
    this.source = source;
    this.threads = threads;
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
    if (this.#modules.length + kernelNames.length >= maxModules - 1 || !isSupported(spec.expr)) return undefined;
    // A kernel's result is gone when a row function finds that it cannot take it.
    if (spec.fromResult && hasAngles(spec.expr)) return undefined;
    const slot = this.#add(rowModule(spec, this.flavour.fma, this.flavour.shared));
    this.#slots.set(key, slot);
    return slot;
  }

  /** Writes words into the table area of an arena's scratch, `at` words in, and gives their address. */
  writeTable(arena: Arena, words: readonly number[], at = 0): number {
    return this.#writeWords(arena, scratch.tables + 4 * at, words);
  }

  #writeWords(arena: Arena, offset: number, words: ArrayLike<number>): number {
    const at = arena.scratchOf(0)! + offset;
    arena.words.set(words, at >> 2);
    return at;
  }

  /** Words for the arguments of the next job, all 0; see `placesOf`. */
  blankArgs(): Int32Array {
    return this.#args.fill(0);
  }

  /** Whether a job of `work` units is worth sharing: from `least` on where a worker must be woken, from far less where one is awake. */
  shares(work: number, least: number): boolean {
    return work >= least || (work * awakeGain >= least && this.#pool?.isAwake === true);
  }

  /** Runs `tasks` tasks of a kernel with arguments in words; `threaded` when the job is long enough to share. */
  run(arena: Arena, kernel: KernelName, args: Int32Array, tasks: number, threaded: boolean): void {
    this.#ready(kernel);
    const { exports } = this.#instancesIn(arena);
    const at = this.#writeWords(arena, scratch.args, args);
    const base = arena.scratchOf(0)!;
    const fn = exports[kernel]!;
    const own = (task: number) => void fn(task, at, base);
    if (threaded && tasks > 1 && this.#poolFor(arena)?.run(arena, kernel, at, tasks, own)) return;
    for (let task = 0; task < tasks; task++) own(task);
  }

  /** The workers, started or restarted when the set of arenas changed; undefined when there are none or they lack a module. */
  #poolFor(arena: Arena): Pool | undefined {
    if (this.threads < 2) return undefined;
    if (!this.#pool?.arenas.includes(arena)) {
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
