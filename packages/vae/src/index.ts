// @wick/vae: image autoencoders.
export { Autoencoder, type AutoencoderTraits } from "./autoencoder.ts";
export * from "./autoencoder-kl.ts";
export * from "./autoencoder-tiny.ts";
export * from "./config-json.ts";
export * from "./estimate.ts";
export type { EstimateOptions, ImageSize, MemoryEstimate, RunOptions, Tile } from "./memory.ts";
export * from "./names.ts";
export * from "./names-tiny.ts";
export * from "./preview.ts";
export { type Stage, Staged } from "./stages.ts";
export { diffusersTiles, type TileOptions } from "./tiling.ts";
