// The parts that a Z-Image pipeline runs: tokenizer and text encoder, the transformer, the autoencoder.
import type { LazyModel, SharedParts, Shift } from "@wick/diffusion";
import type { Qwen3, QwenTokenizer } from "@wick/encoders";
import type { AutoencoderKl } from "@wick/vae";
import type { ZImage } from "../z-image.ts";
import type { ZImageDefaults } from "./request.ts";

/** The parts a pipeline runs; `zImage()` makes them from a repository. */
export interface ZImageParts extends SharedParts {
  /** Absent: requests must bring embeddings. */
  readonly text:
    | {
        /** With the chat template. */
        readonly tokenizer: QwenTokenizer;
        /** Prompts to hidden states. */
        readonly encoder: LazyModel<Qwen3>;
      }
    | undefined;
  /** The denoiser. */
  readonly transformer: LazyModel<ZImage>;
  /** Declares another network like `transformer`'s, for memory plans; default a ZImage of the same config. */
  readonly anotherTransformer?: (() => ZImage) | undefined;
  /** Pictures to latents and back. */
  readonly vae: LazyModel<AutoencoderKl>;
  /** Of the noise schedule. */
  readonly shift: Shift;
  /** What requests leave out. */
  readonly defaults: ZImageDefaults;
}
