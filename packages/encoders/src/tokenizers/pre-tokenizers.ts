// The pre-tokenizers of tokenizer.json that the three tokenizer kinds use, equal to those of huggingface/tokenizers (Rust).
// They cut normalised text into the pieces the model sees.

import { toByteCharacters } from "./byte-characters.ts";
import { TokenizerError } from "./errors.ts";
import { asArray, asFlag, asObject, asString, type JsonObject } from "./json-fields.ts";
import { compilePattern, whiteSpace } from "./pattern.ts";

/** A stretch of normalised text; `atStart` tells whether it opens the original text (Metaspace's `first` asks). */
export interface Piece {
  readonly text: string;
  readonly atStart: boolean;
}

/** Cuts one piece into smaller ones. */
export type PreTokenize = (piece: Piece) => Piece[];

const gpt2Words = new RegExp(
  `'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^${whiteSpace}\\p{L}\\p{N}]+|${whiteSpace}+(?!\\P{White_Space})|${whiteSpace}+`,
  "gu",
);
const spaces = new RegExp(`${whiteSpace}+`, "gu");

/** Cuts a text at the ends of every match; `keep` selects the matches, the rest or both. */
function cut(piece: Piece, pattern: RegExp, keep: { matches: boolean; rest: boolean }): Piece[] {
  const pieces: Piece[] = [];
  let done = 0;
  const take = (end: number, wanted: boolean) => {
    if (wanted && end > done) pieces.push({ text: piece.text.slice(done, end), atStart: piece.atStart && done === 0 });
    done = end;
  };
  for (const match of piece.text.matchAll(pattern)) {
    if (match[0] === "") continue;
    take(match.index, keep.rest);
    take(match.index + match[0].length, keep.matches);
  }
  take(piece.text.length, keep.rest);
  return pieces;
}

function split(config: JsonObject, path: string): PreTokenize {
  const pattern = compilePattern(config["pattern"], `${path}.pattern`);
  const invert = asFlag(config["invert"], `${path}.invert`, false);
  const behavior = asString(config["behavior"], `${path}.behavior`);
  if (behavior === "Isolated") return (piece) => cut(piece, pattern, { matches: true, rest: true });
  if (behavior === "Removed") return (piece) => cut(piece, pattern, { matches: invert, rest: !invert });
  throw new TokenizerError("tokenizer", `${path}.behavior is not supported: ${behavior}`);
}

function byteLevel(config: JsonObject, path: string): PreTokenize {
  const prefixSpace = asFlag(config["add_prefix_space"], `${path}.add_prefix_space`, true);
  const useWords = asFlag(config["use_regex"], `${path}.use_regex`, true);
  return ({ text, atStart }) => {
    const whole = { text: prefixSpace && !text.startsWith(" ") ? ` ${text}` : text, atStart };
    const words = useWords ? cut(whole, gpt2Words, { matches: true, rest: true }) : [whole];
    return words.map((word) => ({ text: toByteCharacters(word.text), atStart: word.atStart }));
  };
}

function prependScheme(config: JsonObject, path: string): string {
  const scheme = config["prepend_scheme"];
  if (scheme !== undefined && scheme !== null) return asString(scheme, `${path}.prepend_scheme`);
  return asFlag(config["add_prefix_space"], `${path}.add_prefix_space`, true) ? "always" : "never";
}

function metaspace(config: JsonObject, path: string): PreTokenize {
  const mark = asString(config["replacement"], `${path}.replacement`);
  const scheme = prependScheme(config, path);
  if (!["always", "first", "never"].includes(scheme)) {
    throw new TokenizerError("tokenizer", `${path}.prepend_scheme is not supported: ${scheme}`);
  }
  const splits = asFlag(config["split"], `${path}.split`, true);
  return (piece) => {
    const marked = piece.text.replaceAll(" ", mark);
    const prepends = !marked.startsWith(mark) && (scheme === "always" || (scheme === "first" && piece.atStart));
    const text = prepends ? mark + marked : marked;
    if (!splits) return [{ text, atStart: piece.atStart }];
    return splitBefore(text, mark).map((part, i) => ({ text: part, atStart: piece.atStart && i === 0 }));
  };
}

function splitBefore(text: string, mark: string): string[] {
  const parts: string[] = [];
  let start = 0;
  for (let at = text.indexOf(mark, 1); at > 0; at = text.indexOf(mark, at + mark.length)) {
    parts.push(text.slice(start, at));
    start = at;
  }
  parts.push(text.slice(start));
  return parts;
}

function sequence(config: JsonObject, path: string): PreTokenize {
  const list = asArray(config["pretokenizers"], `${path}.pretokenizers`);
  const steps = list.map((step, i) => buildPreTokenizer(step, `${path}.pretokenizers[${i}]`));
  return (piece) => steps.reduce((pieces, step) => pieces.flatMap(step), [piece]);
}

/** Builds the `pre_tokenizer` of tokenizer.json (null keeps the text whole); throws TokenizerError for a type not supported. */
export function buildPreTokenizer(value: unknown, path: string): PreTokenize {
  if (value === null || value === undefined) return (piece) => [piece];
  const config = asObject(value, path);
  const type = asString(config["type"], `${path}.type`);
  switch (type) {
    case "Split":
      return split(config, path);
    case "ByteLevel":
      return byteLevel(config, path);
    case "Metaspace":
      return metaspace(config, path);
    case "WhitespaceSplit":
      return (piece) => cut(piece, spaces, { matches: false, rest: true });
    case "Sequence":
      return sequence(config, path);
    default:
      throw new TokenizerError("tokenizer", `${path}.type is not supported: ${type}`);
  }
}
