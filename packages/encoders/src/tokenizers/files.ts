// The tokenizer files of a model repository, as loaded by the caller.

import { TokenizerError } from "./errors.ts";
import { type JsonObject, parseJsonObject } from "./json-fields.ts";

/** Names of the files the tokenizers read. */
export type TokenizerFileName =
  | "tokenizer.json"
  | "tokenizer_config.json"
  | "vocab.json"
  | "merges.txt"
  | "spiece.model"
  | "chat_template.jinja";

/** Contents by file name: text, or bytes as read from disk or network. Files a repository does not have are left out. */
export type TokenizerFiles = { readonly [name in TokenizerFileName]?: string | Uint8Array | undefined };

/** Returns a file as text, or undefined when it is absent; throws TokenizerError when it is not UTF-8. */
export function textFile(files: TokenizerFiles, name: TokenizerFileName): string | undefined {
  const content = files[name];
  if (content === undefined || typeof content === "string") return content;
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(content);
  } catch (cause) {
    throw new TokenizerError("tokenizer", `${name} is not UTF-8 text; download the file again`, { cause });
  }
}

/** Returns a file as a JSON object, or undefined when it is absent; throws TokenizerError when it is malformed. */
export function jsonFile(files: TokenizerFiles, name: TokenizerFileName): JsonObject | undefined {
  const text = textFile(files, name);
  return text === undefined ? undefined : parseJsonObject(name, text);
}

/** Returns a binary file, or undefined when it is absent; throws TokenizerError when it was given as text. */
export function binaryFile(files: TokenizerFiles, name: TokenizerFileName): Uint8Array | undefined {
  const content = files[name];
  if (typeof content === "string") throw new TokenizerError("tokenizer", `${name} is binary: got a string; pass its bytes`);
  return content;
}

/** Returns the lines of merges.txt as "left right" strings, without the version header and blank lines. */
export function parseMergesText(text: string): string[] {
  return text.split(/\r?\n/).filter((line, i) => line !== "" && !(i === 0 && line.startsWith("#version")));
}

/** Names the files that are present, for error messages. */
export function presentFiles(files: TokenizerFiles): string {
  const names = Object.keys(files).filter((name) => files[name as TokenizerFileName] !== undefined);
  return names.length === 0 ? "no files" : names.join(", ");
}
