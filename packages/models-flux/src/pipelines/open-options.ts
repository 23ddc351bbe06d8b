// What a program says to open a FLUX.1 pipeline.
import type { ResidencyOptions } from "@wick/diffusion";
import type { ByteProgress, ModelFiles } from "@wick/hub";
import type { DTypePolicy } from "@wick/nn";
import type { DType, WeightSource } from "@wick/tensor";
import type { AutoencoderKlConfig } from "@wick/vae";
import type { Flux, FluxConfig } from "../flux1.ts";
import type { FluxDefaults, FluxVariant } from "../variants.ts";

/** Where a FLUX.1 model lies and how it is loaded. */
export interface OpenFluxOptions extends ResidencyOptions {
  /** A repository or folder, in diffusers layout or with the authors' single file. */
  readonly files: ModelFiles;
  /** Where parts come from that `files` lacks: text encoders and tokenizers, the VAE. A repository in diffusers layout. */
  readonly companions?: ModelFiles | undefined;
  /** The transformer's single file, a path or glob in `files`; default `transformer/`, or the one such file in the root. */
  readonly transformer?: string | undefined;
  /** A release by name, or a variant of your own; default by what the files say. */
  readonly variant?: string | FluxVariant | undefined;
  /** Format of the transformer's weights on the device; default as stored. */
  readonly dtype?: DType | DTypePolicy | undefined;
  /** Format of the weights of the text encoders and of Redux; default as stored. */
  readonly textEncoderDType?: DType | DTypePolicy | undefined;
  /** What reads the pictures of `redux` in requests: a repository or folder such as black-forest-labs/FLUX.1-Redux-dev. */
  readonly redux?: ModelFiles | undefined;
  /** false: no text encoders; requests bring embeddings. */
  readonly text?: boolean | undefined;
  /**
   * Changes the transformer's weights under our names on their way in, e.g. `(source) => withLora(source, lora)`. A control adapter widens dev:
   * name the `variant` that it makes, "depth-dev" or "canny-dev".
   */
  readonly decorate?: ((source: WeightSource, model: Flux) => WeightSource | Promise<WeightSource>) | undefined;
  /** Network of a VAE that is a single file; default FLUX.1's. */
  readonly vaeConfig?: AutoencoderKlConfig | undefined;
  /** Makes the network: a variant, such as `(config) => new Flux(config, { attention })`. Called again for memory plans. */
  readonly model?: ((config: FluxConfig) => Flux) | undefined;
  /** Compute modulations first and let their weights (27 %) go before the rest is loaded. */
  readonly precomputeModulation?: boolean | undefined;
  /** What requests leave out. */
  readonly defaults?: Partial<FluxDefaults> | undefined;
  /** Stops opening. */
  readonly signal?: AbortSignal | undefined;
  /** Bytes of files on their way. */
  readonly onDownload?: ((progress: ByteProgress) => void) | undefined;
}
