export * from "./qwen3.ts";
export * from "./qwen3-config.ts";
export * from "./tokenizers/index.ts";
