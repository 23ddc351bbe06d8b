export * from "./qwen3.ts";
export * from "./tokenizers/index.ts";
