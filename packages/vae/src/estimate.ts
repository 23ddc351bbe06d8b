// How much memory an autoencoder run takes, before any weight is there.
import { AutoencoderKl, type AutoencoderKlConfig } from "./autoencoder-kl.ts";
import type { EstimateOptions, ImageSize, MemoryEstimate } from "./memory.ts";

/**
 * Memory of decoding latents to an image of `size` pixels. With `tile: "auto"` it follows the plan that `decode` makes on a device of
 * `maxBindingBytes` with `budgetBytes`. Throws ShapeError for sides that are not multiples of the factor, OutOfMemoryError when no tiles fit.
 */
export function estimateDecodeBytes(config: AutoencoderKlConfig, size: ImageSize, options?: EstimateOptions): MemoryEstimate {
  return AutoencoderKl.estimate("decode", config, size, options);
}

/** Memory of encoding an image of `size` pixels; as `estimateDecodeBytes`. */
export function estimateEncodeBytes(config: AutoencoderKlConfig, size: ImageSize, options?: EstimateOptions): MemoryEstimate {
  return AutoencoderKl.estimate("encode", config, size, options);
}
