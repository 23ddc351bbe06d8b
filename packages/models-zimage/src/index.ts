// @wick/models-zimage: Z-Image transformers and pipelines.
export * from "./configs.ts";
export * from "./names/z-image.ts";
export * from "./z-image.ts";
