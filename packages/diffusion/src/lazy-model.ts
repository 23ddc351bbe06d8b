// A model whose weights come and go: declared from the start, loaded when a stage needs it, released when the next one needs the room.
import { type DTypePolicy, type LoadProgress, load, type Module, namedParameters } from "@wick/nn";
import { type Device, type DType, dtypeInfo, type WeightSource } from "@wick/tensor";

export interface LazyModelOptions<M extends Module> {
  /** For progress and reports: "transformer", "text_encoder", "vae". */
  readonly name: string;
  readonly model: M;
  /** Opens the checkpoint under the model's own names. */
  readonly open: (signal?: AbortSignal) => Promise<WeightSource>;
  readonly dtype?: DType | DTypePolicy | undefined;
  /** Tensors of the checkpoint that the model does not use. */
  readonly allowUnused?: RegExp | undefined;
}

export interface EnsureOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((stage: string, progress: LoadProgress) => void) | undefined;
}

export class LazyModel<M extends Module> {
  readonly name: string;
  readonly model: M;
  readonly #options: LazyModelOptions<M>;
  #loaded = false;
  constructor(options: LazyModelOptions<M>) {
    this.name = options.name;
    this.model = options.model;
    this.#options = options;
  }
  get isLoaded(): boolean {
    return this.#loaded;
  }
  /** Bytes of the weights on the device, from shapes and the chosen dtype ("bf16" where it is left to the checkpoint). */
  get weightBytes(): number {
    const { dtype } = this.#options;
    const { blockBytes, blockSize } = dtypeInfo[typeof dtype === "string" ? dtype : "bf16"];
    let values = 0;
    for (const [, parameter] of namedParameters(this.model)) values += parameter.size;
    return (values * blockBytes) / blockSize;
  }

  /** Loads the weights unless they are there; on failure or abort nothing stays on the device. */
  async ensure(device: Device, { signal, onProgress }: EnsureOptions = {}): Promise<M> {
    if (this.#loaded) return this.model;
    const source = await this.#options.open(signal);
    try {
      await load(this.model, source, device, {
        dtype: this.#options.dtype,
        allowUnused: this.#options.allowUnused,
        signal,
        onProgress: onProgress && ((p) => onProgress(this.name, p)),
      });
      this.#loaded = true;
    } finally {
      await source.close();
    }
    return this.model;
  }

  /** Gives the memory back; `ensure` loads again. */
  release(): void {
    this.model.unload();
    this.#loaded = false;
  }
  [Symbol.dispose](): void {
    this.release();
  }
}
