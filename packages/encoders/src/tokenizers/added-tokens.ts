// Added tokens: strings such as <|im_start|> that are cut out of a text before (or, when `normalized`, after) normalisation.
// Equal to AddedVocabulary of huggingface/tokenizers (tokenizers/src/tokenizer/added_vocabulary.rs).

import { asArray, asFlag, asObject, asString, asTokenId, type JsonObject } from "./json-fields.ts";
import type { Normalize } from "./normalizers.ts";
import { literalPattern, whiteSpace } from "./pattern.ts";

/** One added token with its matching rules. */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly special: boolean;
  readonly normalized: boolean;
  readonly singleWord: boolean;
  readonly lstrip: boolean;
  readonly rstrip: boolean;
}

/** A stretch of text, or the id of the added token that stood there. `atStart` tells whether it opens the original text. */
export type Section = { readonly text: string; readonly atStart: boolean } | { readonly id: number };

const endsInSpace = new RegExp(`(?<!${whiteSpace})${whiteSpace}+$`, "u");
const startsInSpace = new RegExp(`^${whiteSpace}+`, "u");
const wordCharacter = "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]";
const endsInWord = new RegExp(`${wordCharacter}$`, "u");
const startsInWord = new RegExp(`^${wordCharacter}`, "u");

/** Reads one added token of tokenizer.json or tokenizer_config.json; throws TokenizerError naming `path`. */
export function parseAddedToken(value: unknown, id: unknown, path: string): AddedToken {
  const fields: JsonObject = asObject(value, path);
  const special = asFlag(fields["special"], `${path}.special`, false);
  return {
    id: asTokenId(id, `${path}.id`),
    content: asString(fields["content"], `${path}.content`),
    special,
    normalized: asFlag(fields["normalized"], `${path}.normalized`, !special),
    singleWord: asFlag(fields["single_word"], `${path}.single_word`, false),
    lstrip: asFlag(fields["lstrip"], `${path}.lstrip`, false),
    rstrip: asFlag(fields["rstrip"], `${path}.rstrip`, false),
  };
}

/** Reads the `added_tokens` array of tokenizer.json. */
export function parseAddedTokens(value: unknown, path: string): AddedToken[] {
  if (value === undefined || value === null) return [];
  return asArray(value, path).map((token, i) => parseAddedToken(token, asObject(token, `${path}[${i}]`)["id"], `${path}[${i}]`));
}

/** Finds one set of added tokens in a text, leftmost and longest first. */
class Splitter {
  readonly #pattern: RegExp | undefined;
  readonly #tokens = new Map<string, AddedToken>();

  constructor(entries: readonly (readonly [string, AddedToken])[]) {
    for (const [content, token] of entries) if (content !== "") this.#tokens.set(content, token);
    if (this.#tokens.size > 0) this.#pattern = literalPattern([...this.#tokens.keys()]);
  }

  split(text: string, atStart: boolean): Section[] {
    if (!this.#pattern) return [{ text, atStart }];
    const sections: Section[] = [];
    let done = 0;
    for (const match of text.matchAll(this.#pattern)) {
      const token = this.#tokens.get(match[0])!;
      const found = matchedRange(text, match.index, match.index + match[0].length, token);
      if (!found) continue;
      if (found.start > done) sections.push({ text: text.slice(done, found.start), atStart: atStart && done === 0 });
      sections.push({ id: token.id });
      done = found.end;
    }
    if (done < text.length) sections.push({ text: text.slice(done), atStart: atStart && done === 0 });
    return sections;
  }
}

function matchedRange(text: string, start: number, end: number, token: AddedToken): { start: number; end: number } | undefined {
  if (!token.singleWord && !token.lstrip && !token.rstrip) return { start, end };
  const before = text.slice(0, start);
  const after = text.slice(end);
  if (token.singleWord && (endsInWord.test(before) || startsInWord.test(after))) return undefined;
  return {
    start: token.lstrip ? start - (endsInSpace.exec(before)?.[0].length ?? 0) : start,
    end: token.rstrip ? end + (startsInSpace.exec(after)?.[0].length ?? 0) : end,
  };
}

/** Splits texts at added tokens and normalises what lies between. */
export class AddedVocabulary {
  readonly #normalize: Normalize;
  readonly #raw: Splitter;
  readonly #normalized: Splitter;

  constructor(tokens: readonly AddedToken[], normalize: Normalize) {
    this.#normalize = normalize;
    this.#raw = new Splitter(tokens.filter((t) => !t.normalized).map((t) => [t.content, t]));
    this.#normalized = new Splitter(tokens.filter((t) => t.normalized).map((t) => [normalize(t.content), t]));
  }

  /** Returns the text as token ids and normalised, non-empty stretches between them. */
  split(text: string): Section[] {
    return this.#raw.split(text, true).flatMap((section) => {
      if ("id" in section || section.text === "") return "id" in section ? [section] : [];
      const sections = this.#normalized.split(this.#normalize(section.text), section.atStart);
      return sections.filter((s) => "id" in s || s.text !== "");
    });
  }
}
