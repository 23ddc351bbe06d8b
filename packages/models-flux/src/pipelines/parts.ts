// The parts that a FLUX.1 pipeline runs: text encoders, pictures to tokens, the transformer, the autoencoder.
import type { EnsureOptions, LazyModel, ModelBytes, SharedParts } from "@wick/diffusion";
import type { BlockDriver, Module } from "@wick/nn";
import type { Device, Tensor } from "@wick/tensor";
import type { AutoencoderKl } from "@wick/vae";
import type { ReduxPrior } from "../redux.ts";
import type { FluxDefaults, FluxVariant } from "../variants.ts";
import type { TransformerStage } from "./transformer-stage.ts";

/** A tokenizer with its text encoder; @wick/encoders has T5PromptEncoder and ClipPromptEncoder. */
export interface TextEncoder {
  /** Throws when the prompt is too long. */
  tokens(prompt: string): unknown;
  /** One prompt → [1, …], owned by the caller. */
  encode(prompt: string, options: BlockDriver & { readonly device: Device }): Promise<Tensor>;
}

/** Weights that come and go; LazyModel is such. What it lacks of the optional part is not planned and does not stream. */
export interface Weights {
  /** True while they are on the device. */
  readonly isLoaded: boolean;
  /** Brings them to the device, unless they are there. */
  ensure(device: Device, options?: EnsureOptions): Promise<unknown>;
  /** Lets them go. */
  release(): void;
  /** Waits until no block is on its way in. */
  settle?(): Promise<void>;
  /** What they take, from the headers of the checkpoint. */
  bytes?(signal?: AbortSignal): Promise<ModelBytes>;
  /** Hooks for runs while blocks stream. */
  driver?(signal?: AbortSignal): Pick<BlockDriver, "before" | "after">;
}

/** What turns a prompt into tensors. */
export interface TextStage {
  /** Prompts to tensors. */
  readonly encoder: TextEncoder;
  /** What it needs on the device. */
  readonly weights: Weights;
  /** The model itself, for those who look inside. */
  readonly network?: Module;
  /** Highest bytes beside the weights while a prompt is encoded; absent: not planned. */
  readonly activationBytes?: (weights: ModelBytes) => number;
}

/** The parts a pipeline runs; `flux()` makes them from files. */
export interface FluxPipelineParts extends SharedParts {
  /** Which release it is. */
  readonly variant: FluxVariant;
  /** Absent: requests must bring embeddings. */
  readonly text:
    | {
        /** Tokens of the prompt. */
        readonly t5: TextStage;
        /** The pooled vector. */
        readonly clip: TextStage;
      }
    | undefined;
  /** Pictures to tokens beside the text's. Absent: requests have no `redux`. */
  readonly redux?: LazyModel<ReduxPrior> | undefined;
  /** The denoiser. */
  readonly transformer: TransformerStage;
  /** Pictures to latents and back. */
  readonly vae: LazyModel<AutoencoderKl>;
  /** What requests leave out. */
  readonly defaults: FluxDefaults;
  /** Compute the modulations of the whole schedule first and let go of their weights, 27 % of the network. Never keeps the transformer loaded. */
  readonly precomputeModulation: boolean;
}
