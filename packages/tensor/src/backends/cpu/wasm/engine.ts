// Compiles the generated modules, instantiates them per memory and runs jobs: a kernel over a number of independent tasks.
import type { Arena, ArenaSource } from "./arena.ts";
import { emitAttention } from "./attention-kernel.ts";
import { scratch } from "./blocking.ts";
import { emitReduceColumns } from "./column-kernel.ts";
import { Module } from "./encoder.ts";
import { compileOptimised } from "./features.ts";
import { emitGemm, type Flavour } from "./gemm.ts";
import { emitGemv } from "./gemv-kernel.ts";
import { emitGroupNorm } from "./group-norm-kernel.ts";
import { emitMove, emitSelect } from "./move-kernel.ts";
import { Pool } from "./pool.ts";
import { emitReduce } from "./reduce-kernel.ts";
import { hasAngles, isSupported, type RowSpec, rowKey, rowModule } from "./row-function.ts";
import { emitRowKernels } from "./row-kernels.ts";
import { emitScan } from "./scan-kernel.ts";
import { type WasmExports, type WasmTable, wasm } from "./webassembly.ts";

/** Exported kernels of the core module; all take (task, args, scratch). */
export const kernelNames = [
  "gemm",
  "attention",
  "map",
  "softmax",
  "norm",
  "rope",
  "qkNormRope",
  "groupNorm",
  "gemv",
  "reduce",
  "move",
  "select",
  "scan",
  "reduceColumns",
] as const;
export type KernelName = (typeof kernelNames)[number];

/** Most argument words of a job. */
const maxArgs = 64;
/** How much less work is worth sharing with a worker that is awake. */
const awakeGain = 8;

/** Row functions a device may compile; expressions beyond that run on the plain kernels. */
const maxSlots = 1024;

interface Instance {
  readonly exports: WasmExports;
  readonly table: WasmTable;
  /** Slots already in the table. */
  filled: number;
}

/** Owner of the compiled code of one device. */
export class WasmEngine {
  readonly flavour: Flavour;
  readonly source: ArenaSource;
  readonly #instances = new WeakMap<Arena, Instance>();
  readonly #slots = new Map<string, number>();
  readonly #modules: object[] = [];
  readonly #moduleBytes: Uint8Array[] = [];
  readonly #args = new Int32Array(maxArgs);
  #core: object | undefined;
  #pool: Pool | undefined;
  /** Threads that jobs may use, the calling one included. */
  readonly threads: number;

  constructor(flavour: Flavour, source: ArenaSource, threads: number) {
    this.flavour = flavour;
    this.source = source;
    this.threads = threads;
  }

  /** Binary of the core module. */
  coreBytes(): Uint8Array<ArrayBuffer> {
    const module = new Module(this.flavour.shared);
    const parts = emitGemm(module, this.flavour);
    emitAttention(module, parts, this.flavour);
    emitRowKernels(module, parts, this.flavour);
    emitGroupNorm(module, parts, this.flavour);
    emitGemv(module, parts, this.flavour);
    emitReduce(module, parts, this.flavour);
    emitMove(module);
    emitSelect(module);
    emitScan(module);
    emitReduceColumns(module, parts);
    return module.build();
  }

  /** Compiles the core module ahead of its first use, optimised. */
  prepare(): void {
    this.#core ??= compileOptimised(() => new wasm!.Module(this.coreBytes()));
  }

  #instance(arena: Arena): Instance {
    let found = this.#instances.get(arena);
    if (!found) {
      this.#core ??= new wasm!.Module(this.coreBytes());
      const table = new wasm!.Table({ element: "anyfunc", initial: maxSlots });
      const env = { memory: arena.memory, table };
      found = { exports: new wasm!.Instance(this.#core, { env }).exports, table, filled: 0 };
      this.#instances.set(arena, found);
    }
    for (; found.filled < this.#modules.length; found.filled++) {
      const { run } = new wasm!.Instance(this.#modules[found.filled]!, { env: { memory: arena.memory } }).exports;
      found.table.set(found.filled + 1, run);
    }
    return found;
  }

  /** Table slot of a row function, compiled at first use; undefined when it has no generated form or the table is full. */
  slotOf(spec: RowSpec): number | undefined {
    const key = rowKey(spec);
    const known = this.#slots.get(key);
    if (known !== undefined) return known;
    if (this.#modules.length + 1 >= maxSlots || !isSupported(spec.expr)) return undefined;
    // A kernel's result is gone when a row function finds that it cannot take it.
    if (spec.fromResult && hasAngles(spec.expr)) return undefined;
    const bytes = rowModule(spec, this.flavour.fma, this.flavour.shared);
    this.#modules.push(new wasm!.Module(bytes));
    this.#moduleBytes.push(bytes);
    this.#slots.set(key, this.#modules.length);
    return this.#modules.length;
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
    const { exports } = this.#instance(arena);
    const at = this.#writeWords(arena, scratch.args, args);
    const base = arena.scratchOf(0)!;
    const fn = exports[kernel]!;
    const own = (task: number) => void fn(task, at, base);
    if (threaded && tasks > 1 && this.#poolFor(arena)?.run(arena, kernel, at, tasks, own)) return;
    for (let task = 0; task < tasks; task++) own(task);
  }

  /** The workers, started or restarted when the set of arenas changed; undefined when there are none or they lack a row function. */
  #poolFor(arena: Arena): Pool | undefined {
    if (this.threads < 2) return undefined;
    if (!this.#pool?.arenas.includes(arena)) {
      this.#pool?.stop();
      this.#pool = new Pool({ core: this.#core!, kernels: kernelNames, threads: this.threads, arenas: this.source.arenas });
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
