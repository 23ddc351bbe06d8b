// A model larger than the memory for it: what is not a block stays on the device, and as many blocks as there is room for; the others come
// in before they run, each while its predecessor runs, and leave right after. The numbers are those of the whole model, bit for bit.
import {
  type BlockDriver,
  fillWeights,
  isSearching,
  type LoadOptions,
  type Module,
  type PlannedWeight,
  parameterSites,
  planLoad,
} from "@wick/nn";
import { bytesOf, ConversionThreads, type Device, type WeightSource } from "@wick/tensor";

/** Bytes of the parts of a model. */
export interface BlockBytes {
  /** All weights at once. */
  readonly total: number;
  /** What streaming needs at least: everything that is not a block, and the largest block. */
  readonly least: number;
}

interface Groups {
  readonly resident: readonly PlannedWeight[];
  readonly blocks: ReadonlyMap<Module, readonly PlannedWeight[]>;
}

const bytesOfAll = (weights: readonly PlannedWeight[]): number =>
  weights.reduce((sum, { site, dtype }) => sum + bytesOf(dtype, site.parameter.size), 0);

function groupWeights(planned: readonly PlannedWeight[], blocks: readonly Module[]): Groups {
  const owner = new Map(blocks.flatMap((block) => [...parameterSites(block)].map(({ parameter }) => [parameter, block] as const)));
  const grouped = new Map<Module, PlannedWeight[]>(blocks.map((block) => [block, []]));
  for (const weight of planned) grouped.get(owner.get(weight.site.parameter)!)?.push(weight);
  return { resident: planned.filter(({ site }) => !owner.has(site.parameter)), blocks: grouped };
}

/** What a model takes on the device, whole and streamed. */
export function blockBytes(planned: readonly PlannedWeight[], blocks: readonly Module[]): BlockBytes {
  const groups = groupWeights(planned, blocks);
  const largest = Math.max(0, ...[...groups.blocks.values()].map(bytesOfAll));
  return { total: bytesOfAll(planned), least: bytesOfAll(groups.resident) + largest };
}

/** What may stay on the device, and what comes and goes. */
export interface BlockStreamOptions extends LoadOptions {
  /** The parts of the model that its BlockRun yields. */
  readonly blocks: readonly Module[];
  /** Bytes that the weights on the device may take. */
  readonly budgetBytes: number;
}

/** A block on its way in while another one runs. */
interface Prefetch {
  readonly block: Module;
  readonly stop: AbortController;
  /** Never rejects: see `failed`. */
  readonly done: Promise<void>;
  failed: boolean;
}

/** Blocks of a model that come in just before they run, the next one while its predecessor runs, and leave right after. */
export class BlockStream {
  readonly #device: Device;
  readonly #source: WeightSource;
  readonly #waiting: ReadonlyMap<Module, readonly PlannedWeight[]>;
  readonly #roomBytes: number;
  /** Blocks are quantized every time they come in. */
  readonly #threads: ConversionThreads | undefined;
  /** What ran after a block the last time; the order of the model where nothing is known yet. */
  readonly #successor = new Map<Module, Module>();
  #last: Module | undefined;
  #next: Prefetch | undefined;
  private constructor(device: Device, source: WeightSource, { waiting, roomBytes }: Shares, threads: ConversionThreads | undefined) {
    this.#device = device;
    this.#source = source;
    this.#waiting = waiting;
    this.#roomBytes = roomBytes;
    this.#threads = threads;
    const order = [...waiting.keys()];
    for (const [i, block] of order.entries()) this.#successor.set(block, order[(i + 1) % order.length]!);
  }

  /** Loads what stays; on failure or abort nothing does. The source is read until the caller closes it, after `close`. */
  static async open(model: Module, source: WeightSource, device: Device, options: BlockStreamOptions): Promise<BlockStream> {
    const planned = planLoad(model, source, options);
    const { resident, blocks } = groupWeights(planned, options.blocks);
    model.unload();
    const threads = planned.some(isSearching) ? new ConversionThreads(options.threads) : undefined;
    const shares = whatStays(blocks, options.budgetBytes - bytesOfAll(resident));
    try {
      await fillWeights([...resident, ...shares.kept], source, device, { ...options, threads });
    } catch (error) {
      threads?.close();
      model.unload();
      throw error;
    }
    return new BlockStream(device, source, shares, threads);
  }

  /** Blocks that come and go. */
  get streamedBlocks(): number {
    return this.#waiting.size;
  }

  /** Hooks for runBlocksAsync; `signal` also stops a block on its way in. */
  driver(signal?: AbortSignal): Required<Pick<BlockDriver, "before" | "after">> {
    return {
      before: (block) => this.#bringIn(block, signal),
      after: (block) => this.#letGo(block, signal),
    };
  }

  /** Waits until the memory of all that comes and goes is back: after the last run, or when one failed, maybe before a block was let go. */
  async settle(): Promise<void> {
    await this.#stopNext();
    for (const block of this.#waiting.keys()) this.#unload(block);
  }

  async #stopNext(): Promise<void> {
    const next = this.#next;
    this.#next = undefined;
    next?.stop.abort();
    await next?.done;
    if (next) this.#unload(next.block);
  }

  /** `settle`, for good. */
  async close(): Promise<void> {
    await this.settle();
    this.#threads?.close();
  }

  async #bringIn(block: Module, signal: AbortSignal | undefined): Promise<void> {
    if (!this.#waiting.has(block)) return;
    if (this.#last) this.#successor.set(this.#last, block);
    this.#last = block;
    const next = this.#next;
    if (next?.block === block) {
      await next.done;
      this.#next = undefined;
      // A genuine failure comes again here; an abort of an earlier run does not.
      if (next.failed) await this.#fill(block, signal);
    } else {
      await this.#stopNext();
      await this.#fill(block, signal);
    }
    this.#prefetch(this.#successor.get(block)!, block, signal);
  }

  /** Weights of a block, all or none. */
  async #fill(block: Module, signal: AbortSignal | undefined): Promise<void> {
    try {
      await fillWeights(this.#waiting.get(block)!, this.#source, this.#device, { threads: this.#threads, signal });
    } catch (error) {
      this.#unload(block);
      throw error;
    }
  }

  /** Begins to bring `block` in while `running` runs, if there is room for both. */
  #prefetch(block: Module, running: Module, signal: AbortSignal | undefined): void {
    const bytes = (b: Module) => bytesOfAll(this.#waiting.get(b)!);
    if (block === running || bytes(block) + bytes(running) > this.#roomBytes) return;
    const stop = new AbortController();
    const either = signal ? AbortSignal.any([signal, stop.signal]) : stop.signal;
    const next: Prefetch = {
      block,
      stop,
      failed: false,
      done: this.#fill(block, either).catch(() => {
        next.failed = true;
      }),
    };
    this.#next = next;
  }

  async #letGo(block: Module, signal: AbortSignal | undefined): Promise<void> {
    if (!this.#waiting.has(block)) return;
    // What was recorded still reads the weights.
    await this.#device.idle(signal);
    this.#unload(block);
  }

  /** Only what streams: adapters beside the weights stay. */
  #unload(block: Module): void {
    for (const { site } of this.#waiting.get(block) ?? []) site.parameter.unload();
  }
}

interface Shares {
  readonly kept: readonly PlannedWeight[];
  readonly waiting: Groups["blocks"];
  /** What is left for blocks that come and go. */
  readonly roomBytes: number;
}

/** The first blocks stay, as many as leave room for the two largest of the others: one runs, one comes in. If that is too much, for one. */
function whatStays(blocks: Groups["blocks"], roomBytes: number): Shares {
  const all = [...blocks].map(([block, weights]) => ({ block, weights, bytes: bytesOfAll(weights) }));
  const keptBytes = (count: number) => all.slice(0, count).reduce((sum, { bytes }) => sum + bytes, 0);
  const most = (atOnce: number): number => {
    const largest = (from: number) =>
      all
        .slice(from)
        .sort((a, b) => b.bytes - a.bytes)
        .slice(0, atOnce);
    const needs = (count: number) => keptBytes(count) + largest(count).reduce((sum, { bytes }) => sum + bytes, 0);
    let count = all.length;
    while (count >= 0 && needs(count) > roomBytes) count--;
    return count;
  };
  const two = most(2);
  const count = two >= 0 ? two : Math.max(0, most(1));
  return {
    kept: all.slice(0, count).flatMap(({ weights }) => weights),
    waiting: new Map(all.slice(count).map(({ block, weights }) => [block, weights])),
    roomBytes: roomBytes - keptBytes(count),
  };
}
