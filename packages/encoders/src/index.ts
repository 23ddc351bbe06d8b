// @wick/encoders: text encoders and their tokenizers.
export * from "./clip.ts";
export * from "./clip-config.ts";
export type { ConfigJson } from "./config-reader.ts";
export * from "./names.ts";
export * from "./prompt-encoders.ts";
export * from "./qwen3.ts";
export * from "./qwen3-config.ts";
export * from "./siglip.ts";
export * from "./siglip-config.ts";
export * from "./siglip-pictures.ts";
export * from "./t5.ts";
export * from "./t5-config.ts";
export type { TokenIds } from "./token-ids.ts";
export * from "./tokenizers/index.ts";
