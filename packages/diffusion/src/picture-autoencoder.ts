// The autoencoder as a pipeline sees it: halves that run block by block, and what they take of a device.
import type { BlockRun, Module } from "@wick/nn";
import { OutOfMemoryError, type Tensor } from "@wick/tensor";
import type { ModelBytes } from "./lazy-model.ts";
import type { StageNeeds } from "./memory-plan.ts";
import type { PictureSize } from "./pictures.ts";

/** The autoencoders of @wick/vae are such. */
export interface PictureAutoencoder extends Module {
  /** Pixels per latent pixel. */
  readonly factor: number;
  /** Sizes. */
  readonly config: {
    /** Channels of its latents. */
    readonly latentChannels: number;
  };
  /** model latents [b, c, h, w] → pixels [b, 3, H, W] in -1…1 */
  runDecode(latents: Tensor, options: Room): BlockRun<Tensor>;
  /** pixels [b, 3, H, W] → model latents: the mean of their distribution, or a sample with `noise`. */
  runEncode(pixels: Tensor, options: Room & { readonly noise?: Tensor | undefined }): BlockRun<Tensor>;
  /** Bytes of a run, from shapes alone. Throws OutOfMemoryError when no tiles fit. */
  estimate(
    half: "encode" | "decode",
    size: PictureSize,
    options: Room & { readonly tile?: Tiles },
  ): {
    /** Highest sum of everything but the weights. */
    readonly activationBytes: number;
  };
}

/** What a run may take beside the weights; without it the picture is cut only when the device must. */
export interface Room {
  /** Bytes beside the weights. */
  readonly budgetBytes?: number | undefined;
}

interface Tiles {
  readonly size: number;
  readonly overlap: number;
}

/** A run of the autoencoder in a memory plan. */
export interface AutoencoderRun {
  /** The encoder or the decoder. */
  readonly half: "encode" | "decode";
  /** The autoencoder itself. */
  readonly vae: PictureAutoencoder;
  /** Of its weights. */
  readonly weights: ModelBytes;
  /** Of the picture. */
  readonly size: PictureSize;
  /** Other tensors at that time: latents, embeddings. */
  readonly besideBytes: number;
  /** Weights of other parts that are kept. */
  readonly otherBytes: number;
  /** The limit, if there is one. */
  readonly maxGpuBytes: number | undefined;
}

/** Needs of encoding or decoding one picture; automatic tiles shrink to what is left of the limit. */
export function autoencoderNeeds(run: AutoencoderRun): StageNeeds {
  const { half, weights, besideBytes, otherBytes } = run;
  return {
    stage: half === "encode" ? "encodePicture" : "decode",
    weights,
    activationBytes: activationsOf(run) + besideBytes + otherBytes,
    alternatives: ["a smaller picture"],
  };
}

/** Those of the smallest tiles when none fit: planMemory refuses them. */
function activationsOf({ half, vae, weights, size, besideBytes, otherBytes, maxGpuBytes }: AutoencoderRun): number {
  const budgetBytes = maxGpuBytes === undefined ? undefined : maxGpuBytes - weights.total - besideBytes - otherBytes;
  try {
    return vae.estimate(half, size, { budgetBytes }).activationBytes;
  } catch (error) {
    if (!(error instanceof OutOfMemoryError)) throw error;
    return vae.estimate(half, size, { tile: { size: 16 * vae.factor, overlap: 0.25 } }).activationBytes;
  }
}
