// @wick/models-zimage: Z-Image transformers and pipelines.
export * from "./configs.ts";
export * from "./configs-json.ts";
export * from "./names/z-image.ts";
export * from "./pipelines/open.ts";
export {
  type ZImageDefaults,
  type ZImageParts as ZImagePipelineParts,
  ZImagePipeline,
  type ZImageRequest,
  type ZImageStep,
} from "./pipelines/z-image-pipeline.ts";
export * from "./z-image.ts";
