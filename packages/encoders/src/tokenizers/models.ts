// The models of tokenizer.json: byte-pair encoding and unigram, both run by `@huggingface/tokenizers` after a check of the
// vocabulary, which that library takes on trust.

import { BPE, Unigram } from "@huggingface/tokenizers";
import { TokenizerError } from "./errors.ts";
import { asArray, asFlag, asNumber, asObject, asString, asTokenId, isTokenId, type JsonObject } from "./json-fields.ts";

/** A model: pieces of text in, token ids out. */
export interface TokenModel {
  readonly kind: "BPE" | "Unigram";
  /** Token strings by id, without added tokens. */
  readonly tokens: ReadonlyMap<number, string>;
  readonly endOfWordSuffix: string;
  encode(piece: string): number[];
  idOf(token: string): number | undefined;
}

type Merge = [string, string];

function parseVocabulary(value: unknown, path: string): Record<string, number> {
  const vocabulary = asObject(value, path);
  const entries = Object.entries(vocabulary);
  const wrong = entries.find(([, id]) => !isTokenId(id));
  if (wrong) asTokenId(wrong[1], `${path}[${JSON.stringify(wrong[0])}]`);
  return vocabulary as Record<string, number>;
}

function isMerge(parts: unknown): parts is Merge {
  return Array.isArray(parts) && parts.length === 2 && typeof parts[0] === "string" && typeof parts[1] === "string";
}

/** Merges as pairs, each of which the vocabulary holds with its parts. */
function parseMerges(value: unknown, known: ReadonlyMap<string, number>, path: string): Merge[] {
  return asArray(value, path).map((entry, i) => {
    const parts = typeof entry === "string" ? entry.split(" ") : entry;
    if (!isMerge(parts)) throw new TokenizerError("tokenizer", `${path}[${i}] must be a pair of tokens: got ${JSON.stringify(entry)}`);
    const missing = [...parts, parts[0] + parts[1]].find((token) => !known.has(token));
    if (missing === undefined) return parts;
    throw new TokenizerError("tokenizer", `${path}[${i}] uses a token the vocabulary lacks: ${JSON.stringify(missing)}`);
  });
}

function optionalString(value: unknown, path: string): string {
  return value === undefined || value === null ? "" : asString(value, path);
}

function bytePairModel(config: JsonObject, path: string): TokenModel {
  if (optionalString(config["continuing_subword_prefix"], `${path}.continuing_subword_prefix`) !== "") {
    throw new TokenizerError("tokenizer", `${path}.continuing_subword_prefix is not supported`);
  }
  const vocabulary = parseVocabulary(config["vocab"], `${path}.vocab`);
  const ids = new Map(Object.entries(vocabulary));
  const endOfWordSuffix = optionalString(config["end_of_word_suffix"], `${path}.end_of_word_suffix`);
  const unknown = optionalString(config["unk_token"], `${path}.unk_token`);
  const model = new BPE({
    type: "BPE",
    vocab: vocabulary,
    merges: parseMerges(config["merges"], ids, `${path}.merges`),
    byte_fallback: asFlag(config["byte_fallback"], `${path}.byte_fallback`, false),
    ignore_merges: asFlag(config["ignore_merges"], `${path}.ignore_merges`, false),
    fuse_unk: asFlag(config["fuse_unk"], `${path}.fuse_unk`, false),
    ...(endOfWordSuffix === "" ? {} : { end_of_word_suffix: endOfWordSuffix }),
    ...(unknown === "" ? {} : { unk_token: unknown }),
  } as ConstructorParameters<typeof BPE>[0]);
  const tokens = new Map([...ids].map(([token, id]) => [id, token]));
  return {
    kind: "BPE",
    tokens,
    endOfWordSuffix,
    encode: (piece) => model([piece]).map((token) => ids.get(token)!),
    idOf: (token) => ids.get(token),
  };
}

function unigramModel(config: JsonObject, path: string): TokenModel {
  if (asFlag(config["byte_fallback"], `${path}.byte_fallback`, false)) {
    throw new TokenizerError("tokenizer", `${path}.byte_fallback is not supported for Unigram`);
  }
  const vocabulary = asArray(config["vocab"], `${path}.vocab`).map((entry, id): [string, number] => {
    const [token, score] = asArray(entry, `${path}.vocab[${id}]`);
    return [asString(token, `${path}.vocab[${id}][0]`), asNumber(score, `${path}.vocab[${id}][1]`)];
  });
  const unknown = asTokenId(config["unk_id"], `${path}.unk_id`);
  if (unknown >= vocabulary.length) {
    throw new TokenizerError("tokenizer", `${path}.unk_id lies outside the vocabulary: ${unknown} of ${vocabulary.length}`);
  }
  const model = new Unigram({ type: "Unigram", vocab: vocabulary, unk_id: unknown } as ConstructorParameters<typeof Unigram>[0], "");
  const ids = new Map(vocabulary.map(([token], id) => [token, id]));
  return {
    kind: "Unigram",
    tokens: new Map(vocabulary.map(([token], id) => [id, token])),
    endOfWordSuffix: "",
    encode: (piece) => model([piece]).map((token) => ids.get(token) ?? unknown),
    idOf: (token) => ids.get(token),
  };
}

/** Builds the `model` of tokenizer.json; throws TokenizerError when it is malformed or of a type not supported. */
export function buildModel(value: unknown, path: string): TokenModel {
  const config = asObject(value, path);
  // Files of older writers leave the type out; only BPE has merges.
  const type = config["type"] ?? (config["merges"] === undefined ? undefined : "BPE");
  if (type === "BPE") return bytePairModel(config, path);
  if (type === "Unigram") return unigramModel(config, path);
  throw new TokenizerError("tokenizer", `${path}.type is not supported: ${String(type)}; BPE and Unigram are`);
}
