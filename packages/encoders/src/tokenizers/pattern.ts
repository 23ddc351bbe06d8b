// Regular expressions of tokenizer.json. They are written for Oniguruma; `@huggingface/tokenizers` translates them, and
// what it leaves different (see `whiteSpace`) is spelt out here for our own use.

import { SplitPreTokenizer } from "@huggingface/tokenizers";
import { TokenizerError } from "./errors.ts";
import { asObject, asString } from "./json-fields.ts";

/** Rust's and Oniguruma's `\s` as a class body: JavaScript's own has U+FEFF besides and lacks U+0085. */
export const whiteSpace = "\\p{White_Space}";

const maxPatternLength = 10_000;

function escapeLiteral(text: string): string {
  return text.replace(/[$()*+.?[\\\]^{|}/]/gu, "\\$&");
}

/** Builds a global, unicode RegExp that matches any of the given literals, longest first. */
export function literalPattern(literals: readonly string[]): RegExp {
  const longestFirst = [...literals].sort((a, b) => b.length - a.length);
  return new RegExp(longestFirst.map(escapeLiteral).join("|"), "gu");
}

/** Compiles `{ Regex }` or `{ String }` of tokenizer.json to a global, unicode RegExp; throws TokenizerError naming `path`. */
export function compilePattern(value: unknown, path: string): RegExp {
  const pattern = asObject(value, path);
  if (pattern["String"] !== undefined) return literalPattern([asString(pattern["String"], `${path}.String`)]);
  const source = asString(pattern["Regex"], `${path}.Regex`);
  if (source.length > maxPatternLength) throw new TokenizerError("tokenizer", `${path}.Regex is too long: ${source.length} characters`);
  try {
    const compiled = new SplitPreTokenizer({ type: "Split", pattern: { Regex: source }, behavior: "Isolated", invert: false }).pattern;
    if (compiled) return compiled;
  } catch (cause) {
    throw new TokenizerError("tokenizer", `${path}.Regex cannot be compiled: ${source}`, { cause });
  }
  throw new TokenizerError("tokenizer", `${path}.Regex cannot be compiled: ${source}`);
}
