// @wick/diffusion: sigmas, solvers, guidance, noise and the denoise loop.
export { type BlockBytes, BlockStream, type BlockStreamOptions, blockBytes } from "./block-stream.ts";
export * from "./denoise.ts";
export * from "./guidance.ts";
export * from "./image-pipeline.ts";
export * from "./latents.ts";
export * from "./lazy-model.ts";
export * from "./memory-plan.ts";
export * from "./noise.ts";
export * from "./picture-autoencoder.ts";
export * from "./pictures.ts";
export * from "./request.ts";
export * from "./scheduler-config.ts";
export * from "./sigmas.ts";
export * from "./solvers.ts";
export { resultOf, type StepRun, stepRun } from "./step-run.ts";
