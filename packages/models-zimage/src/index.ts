// @wick/models-zimage: Z-Image transformers and pipelines.
export * from "./configs.ts";
export * from "./configs-json.ts";
export * from "./names/z-image.ts";
export * from "./pipelines/open.ts";
export type { ZImageParts as ZImagePipelineParts } from "./pipelines/parts.ts";
export type { ZImageCaptions, ZImageDefaults, ZImageJob, ZImageRequest } from "./pipelines/request.ts";
export { ZImagePipeline, type ZImagePlan, type ZImageStep } from "./pipelines/z-image-pipeline.ts";
export * from "./z-image.ts";
