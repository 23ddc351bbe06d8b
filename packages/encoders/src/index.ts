export * from "./qwen3.ts";
