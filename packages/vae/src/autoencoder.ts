// What all image autoencoders share: two halves that run block by block, sizes that are checked, and runs that are cut when they do not fit.
import { type BlockRun, Module } from "@wick/nn";
import { type DType, hold, ShapeError, type Tensor } from "@wick/tensor";
import {
  type EstimateOptions,
  estimateJob,
  type Half,
  type ImageSize,
  type Job,
  type LatentSize,
  latentSizeOf,
  limitsOf,
  type MemoryEstimate,
  type Plan,
  planRun,
  type RunOptions,
} from "./memory.ts";
import type { Staged } from "./stages.ts";
import { checkTiles, decodeGrid, encodeGrid, runCut, type Tiler } from "./tiling.ts";

/** Facts of an autoencoder that tiling and memory plans need. */
export interface AutoencoderTraits {
  /** 3 for RGB. */
  readonly imageChannels: number;
  /** Of the latents. */
  readonly latentChannels: number;
  /** Image rows per latent row. */
  readonly factor: number;
  /** Part of a tile that automatic tiling shares with the next one. */
  readonly overlap: number;
  /** How tiles are run and joined. */
  readonly tiler: Tiler;
  /** The same network without weights. */
  readonly twin: () => Autoencoder;
}

/** What all image autoencoders share: tiles, batches and memory around an encoder and a decoder. */
export abstract class Autoencoder extends Module {
  /** Image to latents, or to their moments. */
  abstract readonly encoder: Staged;
  /** Latents to image. */
  abstract readonly decoder: Staged;
  readonly #traits: AutoencoderTraits;
  readonly #plans = new Map<string, Plan>();
  constructor(traits: AutoencoderTraits) {
    super();
    this.#traits = traits;
  }
  /** Image rows per latent row. */
  get factor(): number {
    return this.#traits.factor;
  }

  /** Memory of a run for images of `size`, without weights or values; see `estimateDecodeBytes`. */
  estimate(half: Half, size: ImageSize, options: EstimateOptions = {}): MemoryEstimate {
    const latentSize = latentSizeOf(half, this.factor, size);
    return estimateJob(this.#job(half, options.batch ?? 1, latentSize, options.dtype ?? "f32"), options);
  }

  /** The encoder on an image [b, 3, h, w], or the decoder on model latents [b, latent, h, w]; throws ShapeError for others. */
  protected *runHalf(half: Half, x: Tensor, { tile = "auto", ...limits }: RunOptions): BlockRun<Tensor> {
    if (typeof tile === "object") checkTiles(half, tile, this.factor);
    const job = this.#job(half, x.dim(0), half === "decode" ? this.#checkLatents(x) : this.checkImage(x), x.dtype);
    return yield* this.#runPlanned(half, x, planRun(job, tile, limitsOf(x.device, limits), this.#plans));
  }

  /** What the decoder takes, from model latents. */
  protected decoderInput(latents: Tensor): Tensor {
    return latents.view_();
  }

  /** The size of an image's latents; throws ShapeError when there are none. */
  protected checkImage(image: Tensor): LatentSize {
    const { imageChannels } = this.#traits;
    if (image.rank !== 4 || image.dim(1) !== imageChannels || image.dim(0) === 0) {
      throw new ShapeError("encode", `an image is [b, ${imageChannels}, h, w]: ${image}`);
    }
    return latentSizeOf("encode", this.factor, { height: image.dim(2), width: image.dim(3) });
  }

  #checkLatents(latents: Tensor): LatentSize {
    const { latentChannels } = this.#traits;
    if (latents.rank !== 4 || latents.dim(1) !== latentChannels || latents.size === 0) {
      throw new ShapeError("decode", `latents are [b, ${latentChannels}, h, w]: ${latents}`);
    }
    return [latents.dim(2), latents.dim(3)];
  }

  *#runPlanned(half: Half, x: Tensor, { tile, oneByOne }: Plan): BlockRun<Tensor> {
    const { factor, tiler } = this.#traits;
    if (half === "encode") {
      return yield* runCut(x, tile && encodeGrid(tile, factor), oneByOne, tiler, (part) => this.encoder.run(part));
    }
    using z = hold(this.decoderInput(x));
    return yield* runCut(z.value, tile && decodeGrid(tile, factor), oneByOne, tiler, (part) => this.decoder.run(part));
  }

  #job(half: Half, batch: number, latentSize: LatentSize, dtype: DType): Job<Autoencoder> {
    const { imageChannels, latentChannels, factor, overlap, twin } = this.#traits;
    const sides = latentSize.map((n) => (half === "decode" ? n : n * factor));
    return {
      half,
      make: twin,
      run: (model, x, plan) => model.#runPlanned(half, x, plan),
      inputShape: [batch, half === "decode" ? latentChannels : imageChannels, ...sides],
      dtype,
      latentSize,
      factor,
      overlap,
    };
  }
}
