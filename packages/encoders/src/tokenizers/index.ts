// Tokenizers of the three text encoders: CLIP, T5 and Qwen.

export { clipTokenizer } from "./clip.ts";
export { TextTooLongError, TokenizerError } from "./errors.ts";
export type { TokenizerFileName, TokenizerFiles } from "./files.ts";
export { type ChatMessage, type ChatOptions, QwenTokenizer, qwenTokenizer } from "./qwen.ts";
export { t5Tokenizer } from "./t5.ts";
export { type BatchEncoding, type EncodeBatchOptions, type EncodeOptions, type Encoding, Tokenizer } from "./tokenizer.ts";
