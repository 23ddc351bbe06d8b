// @wick/models-flux: FLUX.1 transformers and pipelines.
export * from "./configs.ts";
export * from "./configs-json.ts";
export * from "./flux1.ts";
export * from "./modulation-weights.ts";
export * from "./names/flux1.ts";
export * from "./names/flux1-lora.ts";
export * from "./pipelines/flux-pipeline.ts";
export * from "./pipelines/open.ts";
export * from "./pipelines/open-options.ts";
export * from "./pipelines/parts.ts";
export * from "./pipelines/pictures.ts";
export type { Reading } from "./pipelines/reading.ts";
export type { ReduxPicture } from "./pipelines/redux-request.ts";
export * from "./pipelines/request.ts";
export * from "./pipelines/transformer-stage.ts";
export * from "./redux.ts";
export * from "./tokens.ts";
export { type FluxDefaults, type FluxVariant, fluxVariants, type PictureRole, variantOf } from "./variants.ts";
