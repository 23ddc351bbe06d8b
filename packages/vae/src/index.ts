// @wick/vae: image autoencoders.
export * from "./autoencoder-kl.ts";
export * from "./config-json.ts";
export * from "./estimate.ts";
export type { EstimateOptions, ImageSize, MemoryEstimate, RunOptions, Tile } from "./memory.ts";
export * from "./names.ts";
export { diffusersTiles, type TileOptions } from "./tiling.ts";
