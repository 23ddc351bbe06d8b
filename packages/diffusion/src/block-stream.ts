// A model larger than the memory for it: what is not a block stays on the device, and as many blocks as there is room for; the others come
// in just before they run and leave right after. The numbers are those of the whole model, bit for bit.
import { type BlockDriver, fillWeight, type LoadOptions, type Module, type PlannedWeight, parameterSites, planLoad } from "@wick/nn";
import { bytesOf, type Device, type WeightSource } from "@wick/tensor";

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
export interface BlockStreamOptions extends Pick<LoadOptions, "dtype" | "allowUnused" | "signal"> {
  /** The parts of the model that its BlockRun yields. */
  readonly blocks: readonly Module[];
  /** Bytes that the weights on the device may take. */
  readonly budgetBytes: number;
}

/** Weights of a model whose blocks come to the device when they run and leave after it. */
export class BlockStream {
  readonly #device: Device;
  readonly #source: WeightSource;
  readonly #waiting: ReadonlyMap<Module, readonly PlannedWeight[]>;
  private constructor(device: Device, source: WeightSource, waiting: ReadonlyMap<Module, readonly PlannedWeight[]>) {
    this.#device = device;
    this.#source = source;
    this.#waiting = waiting;
  }

  /** Loads what stays; on failure or abort nothing does. The source is read until the caller closes it. */
  static async open(model: Module, source: WeightSource, device: Device, options: BlockStreamOptions): Promise<BlockStream> {
    const { resident, blocks } = groupWeights(planLoad(model, source, options), options.blocks);
    model.unload();
    const { kept, waiting } = whatStays(blocks, options.budgetBytes - bytesOfAll(resident));
    try {
      for (const weight of [...resident, ...kept]) {
        options.signal?.throwIfAborted();
        await fillWeight(weight, source, device, options.signal);
      }
    } catch (error) {
      model.unload();
      throw error;
    }
    return new BlockStream(device, source, waiting);
  }

  /** Blocks that come and go. */
  get streamedBlocks(): number {
    return this.#waiting.size;
  }

  /** Hooks for runBlocksAsync; `signal` also stops a block on its way in. */
  driver(signal?: AbortSignal): Required<Pick<BlockDriver, "before" | "after">> {
    return {
      before: (block) => this.#bringIn(block, signal),
      after: (block) => this.#letGo(block),
    };
  }

  async #bringIn(block: Module, signal: AbortSignal | undefined): Promise<void> {
    try {
      for (const weight of this.#waiting.get(block) ?? []) {
        signal?.throwIfAborted();
        await fillWeight(weight, this.#source, this.#device, signal);
      }
    } catch (error) {
      this.#unload(block);
      throw error;
    }
  }

  async #letGo(block: Module): Promise<void> {
    if (!this.#waiting.has(block)) return;
    // What was recorded still reads the weights.
    await this.#device.idle();
    this.#unload(block);
  }

  /** Only what streams: adapters beside the weights stay. */
  #unload(block: Module): void {
    for (const { site } of this.#waiting.get(block) ?? []) site.parameter.unload();
  }
}

/** The first blocks stay, as many as leave room for the largest of the others. */
function whatStays(blocks: Groups["blocks"], roomBytes: number): { kept: PlannedWeight[]; waiting: Groups["blocks"] } {
  const all = [...blocks].map(([block, weights]) => ({ block, weights, bytes: bytesOfAll(weights) }));
  let count = all.length;
  const needs = (n: number) =>
    all.slice(0, n).reduce((sum, { bytes }) => sum + bytes, 0) + Math.max(0, ...all.slice(n).map(({ bytes }) => bytes));
  while (count > 0 && needs(count) > roomBytes) count--;
  return {
    kept: all.slice(0, count).flatMap(({ weights }) => weights),
    waiting: new Map(all.slice(count).map(({ block, weights }) => [block, weights])),
  };
}
