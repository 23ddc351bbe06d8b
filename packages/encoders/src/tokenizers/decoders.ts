// The decoders of tokenizer.json: token strings back to text.

import { fromByteCharacters } from "./byte-characters.ts";
import { TokenizerError } from "./errors.ts";
import { asObject, asString, type JsonObject } from "./json-fields.ts";

/** Joins the strings of consecutive tokens to text. */
export type Decode = (tokens: readonly string[]) => string;

function decodeBytes(tokens: readonly string[]): string {
  const parts = tokens.map(fromByteCharacters);
  const bytes = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
}

function metaspace(config: JsonObject, path: string): Decode {
  const mark = asString(config["replacement"], `${path}.replacement`);
  const dropsFirst = (config["prepend_scheme"] ?? (config["add_prefix_space"] === false ? "never" : "always")) !== "never";
  return (tokens) => tokens.map((token, i) => token.replaceAll(mark, dropsFirst && i === 0 ? "" : " ")).join("");
}

/** Builds the `decoder` of tokenizer.json; throws TokenizerError for a type not supported. */
export function buildDecoder(value: unknown, path: string): Decode {
  if (value === null || value === undefined) return (tokens) => tokens.join(" ");
  const config = asObject(value, path);
  const type = asString(config["type"], `${path}.type`);
  if (type === "ByteLevel") return decodeBytes;
  if (type === "Metaspace") return metaspace(config, path);
  throw new TokenizerError("tokenizer", `${path}.type is not supported: ${type}`);
}
