// The normalizers of tokenizer.json that the three tokenizer kinds use, equal to those of huggingface/tokenizers (Rust).

import { parseCharsmapBase64 } from "./charsmap.ts";
import { TokenizerError } from "./errors.ts";
import { asArray, asFlag, asObject, asString, type JsonObject } from "./json-fields.ts";
import { compilePattern, whiteSpace } from "./pattern.ts";
import { normalizeForm } from "./unicode-forms.ts";

/** A text to text step ahead of splitting. */
export type Normalize = (text: string) => string;

const leadingSpace = new RegExp(`^${whiteSpace}+`, "u");
const trailingSpace = new RegExp(`(?<!${whiteSpace})${whiteSpace}+$`, "u");

/** Lower-cases code point by code point: without the final-sigma rule, the only context rule JavaScript applies. */
function lowerCase(text: string): string {
  return text.split("\u03a3").map(toLower).join("\u03c3");
}

function toLower(text: string): string {
  return text.toLowerCase();
}

function strip(config: JsonObject, path: string): Normalize {
  const left = asFlag(config["strip_left"], `${path}.strip_left`, true);
  const right = asFlag(config["strip_right"], `${path}.strip_right`, true);
  return (text) => {
    const fromLeft = left ? text.replace(leadingSpace, "") : text;
    return right ? fromLeft.replace(trailingSpace, "") : fromLeft;
  };
}

function replace(config: JsonObject, path: string): Normalize {
  const pattern = compilePattern(config["pattern"], `${path}.pattern`);
  const content = asString(config["content"], `${path}.content`);
  return (text) => text.replace(pattern, (match) => (match === "" ? "" : content));
}

function sequence(config: JsonObject, path: string): Normalize {
  const steps = asArray(config["normalizers"], `${path}.normalizers`).map((c, i) => buildNormalizer(c, `${path}.normalizers[${i}]`));
  return (text) => steps.reduce((current, step) => step(current), text);
}

function precompiled(config: JsonObject, path: string): Normalize {
  const map = config["precompiled_charsmap"];
  if (map === null || map === "") return (text) => text;
  const charsmap = parseCharsmapBase64(asString(map, `${path}.precompiled_charsmap`));
  return (text) => charsmap.normalize(text);
}

function prepend(config: JsonObject, path: string): Normalize {
  const prefix = asString(config["prepend"], `${path}.prepend`);
  return (text) => (text === "" ? text : prefix + text);
}

/** Builds the `normalizer` of tokenizer.json (null is the identity); throws TokenizerError for a type not supported. */
export function buildNormalizer(value: unknown, path: string): Normalize {
  if (value === null || value === undefined) return (text) => text;
  const config = asObject(value, path);
  const type = asString(config["type"], `${path}.type`);
  switch (type) {
    case "NFC":
    case "NFD":
    case "NFKC":
    case "NFKD":
      return (text) => normalizeForm(text, type);
    case "Lowercase":
      return lowerCase;
    case "Strip":
      return strip(config, path);
    case "Replace":
      return replace(config, path);
    case "Precompiled":
      return precompiled(config, path);
    case "Prepend":
      return prepend(config, path);
    case "Sequence":
      return sequence(config, path);
    default:
      throw new TokenizerError("tokenizer", `${path}.type is not supported: ${type}`);
  }
}
