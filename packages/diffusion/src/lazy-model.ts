// A model whose weights come and go: declared from the start, loaded when a stage needs it, released when the next one needs the room.
import {
  type BlockDriver,
  type DTypePolicy,
  estimateBytes,
  type LoadOptions,
  type LoadProgress,
  load,
  type Module,
  planLoad,
  policyFor,
} from "@wick/nn";
import type { Device, DType, WeightSource } from "@wick/tensor";
import { type BlockBytes, BlockStream, blockBytes } from "./block-stream.ts";

/** Opens a checkpoint under a model's own names; with `headersOnly` no bytes of tensors will be read, so none need to be fetched. */
export type OpenWeights = (
  signal?: AbortSignal,
  options?: {
    /** Names, shapes and dtypes are all that is wanted. */
    readonly headersOnly?: boolean;
  },
) => Promise<WeightSource>;

/** A model and where its weights come from. */
export interface LazyModelOptions<M extends Module> {
  /** For progress and reports: "transformer", "text_encoder", "vae". */
  readonly name: string;
  /** Declared, without weights. */
  readonly model: M;
  /** Opens the checkpoint under the model's own names. */
  readonly open: OpenWeights;
  /** Format on the device; as stored by default. */
  readonly dtype?: DType | DTypePolicy | undefined;
  /** Tensors of the checkpoint that the model does not use. */
  readonly allowUnused?: RegExp | undefined;
  /** The parts that its BlockRuns yield: they can stream. */
  readonly blocks?: readonly Module[] | undefined;
}

/** What `make` makes of an opened checkpoint, which is closed when that fails. */
export async function derivedWeights(
  source: WeightSource,
  make: (source: WeightSource) => WeightSource | Promise<WeightSource>,
): Promise<WeightSource> {
  try {
    return await make(source);
  } catch (error) {
    await source.close();
    throw error;
  }
}

/** How weights are brought in. */
export interface EnsureOptions {
  /** Stops loading. */
  readonly signal?: AbortSignal | undefined;
  /** Called after each weight with the model's name; of a model that streams, for those that stay. */
  readonly onProgress?: ((stage: string, progress: LoadProgress) => void) | undefined;
  /** Stream the blocks within this many bytes of weights; default: load everything. */
  readonly streamBytes?: number | undefined;
}

/** What a checkpoint becomes on the device, known from its headers. */
export interface ModelBytes extends BlockBytes {
  /** Of the checkpoint, by parameter path. */
  readonly stored: (path: string) => DType;
}

/** A model whose weights come when a stage needs them and go when it is done. */
export class LazyModel<M extends Module> {
  /** For progress and reports. */
  readonly name: string;
  /** The model itself. */
  readonly model: M;
  readonly #options: LazyModelOptions<M>;
  #loaded = false;
  #stream: { readonly blocks: BlockStream; readonly source: WeightSource; readonly bytes: number } | undefined;
  #closing: Promise<void> = Promise.resolve();
  #bytes: ModelBytes | undefined;
  constructor(options: LazyModelOptions<M>) {
    this.name = options.name;
    this.model = options.model;
    this.#options = options;
  }
  /** True while its weights, or what stays of them, are on a device. */
  get isLoaded(): boolean {
    return this.#loaded;
  }
  /** Bytes of the weights on the device, from shapes and the chosen dtype ("bf16" where it is left to the checkpoint). */
  get weightBytes(): number {
    return estimateBytes(this.model, this.#options.dtype);
  }
  /** Decides the dtype of every weight. */
  get policy(): DTypePolicy {
    return policyFor(this.model, this.#options.dtype);
  }

  /** Bytes whole and streamed, from the checkpoint's headers; throws CheckpointMismatchError as `ensure` would. */
  async bytes(signal?: AbortSignal): Promise<ModelBytes> {
    if (this.#bytes) return this.#bytes;
    const source = await this.#options.open(signal, { headersOnly: true });
    try {
      const planned = planLoad(this.model, source, this.#options);
      const stored = new Map(planned.map(({ site, entry }) => [site.path, entry.dtype]));
      this.#bytes = { ...blockBytes(planned, this.#options.blocks ?? []), stored: (path) => stored.get(path) ?? "bf16" };
      return this.#bytes;
    } finally {
      await source.close();
    }
  }

  /** Loads the weights unless they are there, or begins to stream them; on failure or abort nothing stays on the device. */
  async ensure(device: Device, options: EnsureOptions = {}): Promise<M> {
    if (this.#loaded && this.#stream?.bytes === options.streamBytes) return this.model;
    this.release();
    await this.#closing;
    // Weights that an earlier stage released are of other sizes, and stay allocated in the driver until the GPU has run what reads them.
    const { signal, onProgress, streamBytes } = options;
    device.trim();
    await device.idle(signal);
    const { dtype, allowUnused } = this.#options;
    const how: LoadOptions = { dtype, allowUnused, signal, onProgress: onProgress && ((p) => onProgress(this.name, p)) };
    const source = await this.#options.open(signal);
    try {
      if (streamBytes !== undefined) await this.#beginStream(device, source, streamBytes, how);
      else await load(this.model, source, device, how);
      this.#loaded = true;
      return this.model;
    } finally {
      if (!this.#stream) await source.close();
    }
  }

  /** Hooks that runs of the model need while it streams; none otherwise. */
  driver(signal?: AbortSignal): Pick<BlockDriver, "before" | "after"> {
    return this.#stream?.blocks.driver(signal) ?? {};
  }
  /** Blocks that come and go; 0 when everything is loaded. */
  get streamedBlocks(): number {
    return this.#stream?.blocks.streamedBlocks ?? 0;
  }

  /** Waits until no block is on its way in: after the last run of a model that streams, and when a run failed. */
  async settle(): Promise<void> {
    await this.#stream?.blocks.settle();
  }

  /** Gives the memory back, that of a block on its way in a little later unless `settle` was awaited; `ensure` loads again. */
  release(): void {
    this.model.unload();
    this.#loaded = false;
    if (this.#stream) this.#closing = closeStream(this.#stream);
    this.#stream = undefined;
  }
  /** The same as `release()`, for `using`. */
  [Symbol.dispose](): void {
    this.release();
  }

  async #beginStream(device: Device, source: WeightSource, bytes: number, how: LoadOptions): Promise<void> {
    const { blocks = [] } = this.#options;
    this.#stream = { blocks: await BlockStream.open(this.model, source, device, { ...how, blocks, budgetBytes: bytes }), source, bytes };
  }
}

async function closeStream({ blocks, source }: { blocks: BlockStream; source: WeightSource }): Promise<void> {
  await blocks.close();
  await source.close();
}
