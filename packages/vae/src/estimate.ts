// How much memory an autoencoder run takes, before any weight is there.
import { AutoencoderKl, type AutoencoderKlConfig } from "./autoencoder-kl.ts";
import { AutoencoderTiny, type AutoencoderTinyConfig } from "./autoencoder-tiny.ts";
import type { EstimateOptions, ImageSize, MemoryEstimate } from "./memory.ts";

/** Either kind of autoencoder. */
export type AutoencoderConfig = AutoencoderKlConfig | AutoencoderTinyConfig;

const declared = (config: AutoencoderConfig) => ("groups" in config ? new AutoencoderKl(config) : new AutoencoderTiny(config));

/**
 * Memory of decoding latents to an image of `size` pixels. With `tile: "auto"` it follows the plan that `decode` makes on a device of
 * `maxTensorBytes` with `budgetBytes`. Throws ShapeError for sides that are not multiples of the factor, OutOfMemoryError when no tiles fit.
 */
export function estimateDecodeBytes(config: AutoencoderConfig, size: ImageSize, options?: EstimateOptions): MemoryEstimate {
  return declared(config).estimate("decode", size, options);
}

/** Memory of encoding an image of `size` pixels; as `estimateDecodeBytes`. */
export function estimateEncodeBytes(config: AutoencoderConfig, size: ImageSize, options?: EstimateOptions): MemoryEstimate {
  return declared(config).estimate("encode", size, options);
}
