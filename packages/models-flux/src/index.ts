// @wick/models-flux: FLUX.1 transformers and pipelines.
export * from "./configs.ts";
export * from "./flux1.ts";
export * from "./names/flux1.ts";
export * from "./names/flux1-lora.ts";
