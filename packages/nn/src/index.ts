// @wick/nn: modules, parameters and layers.
export * from "./activation.ts";
export * from "./attention.ts";
export * from "./block-run.ts";
export * from "./conv.ts";
export * from "./dtype-policy.ts";
export * from "./embedding.ts";
export * from "./linear.ts";
export * from "./load.ts";
export { type AttachedLora, type AttachOptions, attachedLoras, attachLora, detachLora, setLoraScale } from "./lora-attach.ts";
export { type LoraOptions, type LoraWeightSource, withLora } from "./lora-merge.ts";
export { type LoraCoverage, type LoraPlan, planLora } from "./lora-targets.ts";
export * from "./module.ts";
export * from "./norm.ts";
export * from "./parameter.ts";
export * from "./patchify.ts";
export * from "./path-glob.ts";
export * from "./rope.ts";
export * from "./timestep.ts";
