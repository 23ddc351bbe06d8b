// Text to token ids and back: the pipeline of a tokenizer.json (added tokens, normalizer, pre-tokenizer, model, special
// frame), then truncation and right padding as transformers does them.

import { type AddedToken, AddedVocabulary, parseAddedToken, parseAddedTokens } from "./added-tokens.ts";
import { buildDecoder, type Decode } from "./decoders.ts";
import { TextTooLongError, TokenizerError } from "./errors.ts";
import { asObject, type JsonObject } from "./json-fields.ts";
import { buildModel, type TokenModel } from "./models.ts";
import { buildNormalizer } from "./normalizers.ts";
import { whiteSpace } from "./pattern.ts";
import { buildPreTokenizer, type PreTokenize } from "./pre-tokenizers.ts";
import { parseSpecialFrame, type SpecialFrame } from "./special-frame.ts";

/** How to shape the ids of one text. */
export interface EncodeOptions {
  /** Most tokens, special ones included. Without it nothing is cut and nothing limits the text. */
  readonly maxLength?: number;
  /** Fill up to maxLength (or, without it, to the tokenizer's own `modelMaxLength`) with the pad token on the right. Default false. */
  readonly pad?: boolean;
  /** Cut the end of a longer text, special tokens kept; false throws TextTooLongError instead. Default true. */
  readonly truncate?: boolean;
  /** Put the special tokens around the text. Default true. */
  readonly specialTokens?: boolean;
}

/** Options of a batch: `pad: "longest"` fills up to the longest text of the batch. */
export interface EncodeBatchOptions extends Omit<EncodeOptions, "pad"> {
  /** As for one text, or "longest": up to the longest of the batch. */
  readonly pad?: boolean | "longest";
}

/** The ids of one text. */
export interface Encoding {
  /** Token ids [l], pads included. */
  readonly ids: Int32Array;
  /** 1 for tokens, 0 for pads [l]. */
  readonly mask: Uint8Array;
  /** Tokens that are no pads. */
  readonly length: number;
  /** Tokens cut off by maxLength; more than 0 means that the end of the text is lost. */
  readonly truncated: number;
}

/** The ids of several texts of one padded length, row after row. */
export interface BatchEncoding {
  /** Token ids [b, l]. */
  readonly ids: Int32Array;
  /** 1 for tokens, 0 for pads [b, l]. */
  readonly mask: Uint8Array;
  /** [b, l]. */
  readonly shape: readonly [number, number];
  /** Tokens that are no pads, by row [b]. */
  readonly lengths: readonly number[];
  /** Tokens cut off by maxLength, by row [b]. */
  readonly truncated: readonly number[];
}

/** What a tokenizer kind sets where the files are silent. */
export interface TokenizerDefaults {
  readonly kind: string;
  readonly modelType: TokenModel["kind"];
  readonly padToken: string;
}

/** Python's `str.isspace`, which `str.strip` goes by: Unicode white space and four separators more. */
const pythonSpace = `[${whiteSpace}\\x1c-\\x1f]`;
const outerSpace = new RegExp(`^${pythonSpace}+|(?<!${pythonSpace})${pythonSpace}+$`, "gu");
const loneSurrogates = /\p{Surrogate}/gu;

function tokenText(value: unknown, path: string): string | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === "string") return value;
  const content = asObject(value, path)["content"];
  return typeof content === "string" ? content : undefined;
}

/** Added tokens of tokenizer.json, joined with those only tokenizer_config.json declares. */
function allAddedTokens(json: JsonObject, config: JsonObject): AddedToken[] {
  const tokens = parseAddedTokens(json["added_tokens"], "tokenizer.json: added_tokens");
  const known = new Set(tokens.map((token) => token.content));
  const path = "tokenizer_config.json: added_tokens_decoder";
  for (const [id, value] of Object.entries(asObject(config["added_tokens_decoder"] ?? {}, path))) {
    const token = parseAddedToken(value, Number(id), `${path}[${JSON.stringify(id)}]`);
    if (!known.has(token.content)) tokens.push(token);
  }
  return tokens;
}

function modelMaxLength(config: JsonObject): number | undefined {
  const value = config["model_max_length"];
  // transformers writes 1e30 for "none".
  return typeof value === "number" && value > 0 && value < 1e9 ? Math.floor(value) : undefined;
}

/** A loaded tokenizer. Make one with `clipTokenizer`, `t5Tokenizer` or `qwenTokenizer`. */
export class Tokenizer {
  /** Distinct tokens, added ones included. */
  readonly vocabSize: number;
  /** The id that fills padded rows. */
  readonly padTokenId: number;
  /** `model_max_length` of tokenizer_config.json, if it sets one. */
  readonly modelMaxLength: number | undefined;
  readonly #kind: string;
  readonly #added: AddedVocabulary;
  readonly #addedIds: ReadonlyMap<string, number>;
  readonly #specialIds: ReadonlySet<number>;
  readonly #tokens: ReadonlyMap<number, string>;
  readonly #preTokenize: PreTokenize;
  readonly #model: TokenModel;
  readonly #frame: SpecialFrame;
  readonly #decode: Decode;

  /** `json` is the content of tokenizer.json, `config` that of tokenizer_config.json ({} when there is none). */
  constructor(json: JsonObject, config: JsonObject, defaults: TokenizerDefaults) {
    this.#kind = defaults.kind;
    this.#model = buildModel(json["model"], "tokenizer.json: model");
    if (this.#model.kind !== defaults.modelType) {
      const found = `this file's model is ${this.#model.kind}, ${defaults.kind} needs ${defaults.modelType}`;
      throw new TokenizerError(defaults.kind, `${found}; is it the tokenizer of another text encoder?`);
    }
    const added = allAddedTokens(json, config);
    this.#added = new AddedVocabulary(added, buildNormalizer(json["normalizer"], "tokenizer.json: normalizer"));
    this.#addedIds = new Map(added.map((token) => [token.content, token.id]));
    this.#specialIds = new Set(added.filter((token) => token.special).map((token) => token.id));
    this.#tokens = new Map([...this.#model.tokens, ...added.map((token) => [token.id, token.content] as const)]);
    this.#preTokenize = buildPreTokenizer(json["pre_tokenizer"], "tokenizer.json: pre_tokenizer");
    this.#frame = parseSpecialFrame(json["post_processor"], "tokenizer.json: post_processor");
    this.#decode = buildDecoder(json["decoder"], "tokenizer.json: decoder");
    this.vocabSize = this.#tokens.size;
    this.modelMaxLength = modelMaxLength(config);
    this.padTokenId = this.#requireToken(tokenText(config["pad_token"], "tokenizer_config.json: pad_token") ?? defaults.padToken);
  }

  #requireToken(token: string): number {
    const id = this.idOf(token);
    if (id === undefined) throw new TokenizerError(this.#kind, `the pad token is not in the vocabulary: ${JSON.stringify(token)}`);
    return id;
  }

  /** Returns the id of a token string, or undefined when the vocabulary lacks it. */
  idOf(token: string): number | undefined {
    return this.#addedIds.get(token) ?? this.#model.idOf(token);
  }

  /** Returns the token string of an id, or undefined when there is none. */
  tokenOf(id: number): string | undefined {
    return this.#tokens.get(id);
  }

  /** Encodes a text to ids and mask [l]; throws TextTooLongError when it is longer than maxLength and truncate is false. */
  encode(text: string, options: EncodeOptions = {}): Encoding {
    const limit = this.#limit(options);
    const { ids, truncated } = this.#framed(text, limit, options);
    return { ...this.#padded(ids, options.pad ? limit : undefined), truncated };
  }

  /**
   * Encodes texts [b] to ids and mask [b, l], where l is maxLength with `pad: true`, the longest row with `pad: "longest"`;
   * without padding all rows must come out equally long, else TokenizerError is thrown.
   */
  encodeBatch(texts: readonly string[], options: EncodeBatchOptions = {}): BatchEncoding {
    const { pad = false, ...rest } = options;
    const limit = this.#limit({ ...rest, pad: pad === true });
    const framed = texts.map((text) => this.#framed(text, limit, rest));
    const longest = framed.reduce((most, { ids }) => Math.max(most, ids.length), 0);
    if (pad === false && framed.some(({ ids }) => ids.length !== longest)) {
      const lengths = framed.map(({ ids }) => ids.length).join(", ");
      throw new TokenizerError(`${this.#kind}.encodeBatch`, `texts differ in length: [${lengths}] tokens; set pad to true or "longest"`);
    }
    const rowLength = pad === true ? limit! : longest;
    return joinRows(
      framed.map(({ ids, truncated }) => ({ ...this.#padded(ids, rowLength), truncated })),
      rowLength,
    );
  }

  /** Decodes ids to text; ids without a token are left out, special tokens too when `skipSpecialTokens` (default true). */
  decode(ids: ArrayLike<number>, options: { readonly skipSpecialTokens?: boolean } = {}): string {
    const skip = options.skipSpecialTokens ?? true;
    const kept = Array.from(ids).filter((id) => this.#tokens.has(id) && !(skip && this.#specialIds.has(id)));
    const text = this.#decode(kept.map((id) => this.#tokens.get(id)!));
    const suffix = this.#model.endOfWordSuffix;
    return suffix === "" ? text : text.replaceAll(suffix, " ").replace(outerSpace, "");
  }

  #limit(options: EncodeOptions): number | undefined {
    const limit = options.maxLength ?? (options.pad ? this.modelMaxLength : undefined);
    const op = `${this.#kind}.encode`;
    if (limit === undefined && options.pad) {
      throw new TokenizerError(op, "padding needs a length: neither maxLength nor model_max_length is set; pass maxLength");
    }
    const reserved = options.specialTokens === false ? 0 : this.#frame.before.length + this.#frame.after.length;
    if (limit !== undefined && (!Number.isInteger(limit) || limit < reserved || limit < 1)) {
      throw new TokenizerError(op, `maxLength must be an integer of at least ${Math.max(reserved, 1)}: got ${limit}`);
    }
    return limit;
  }

  #framed(text: string, limit: number | undefined, options: EncodeOptions): { ids: number[]; truncated: number } {
    const ids = this.#textIds(text);
    const { before, after } = options.specialTokens === false ? { before: [], after: [] } : this.#frame;
    const total = before.length + ids.length + after.length;
    const truncated = limit === undefined ? 0 : Math.max(0, total - limit);
    if (truncated > 0 && options.truncate === false) throw new TextTooLongError(`${this.#kind}.encode`, total, limit!);
    ids.length -= truncated;
    return { ids: before.concat(ids, after), truncated };
  }

  /** Ids of the text alone. Lone surrogates count as U+FFFD, since UTF-8, which the vocabularies are over, has none. */
  #textIds(text: string): number[] {
    const ids: number[] = [];
    for (const section of this.#added.split(text.replace(loneSurrogates, "\ufffd"))) {
      if ("id" in section) ids.push(section.id);
      else for (const piece of this.#preTokenize(section)) for (const id of this.#model.encode(piece.text)) ids.push(id);
    }
    return ids;
  }

  #padded(ids: readonly number[], length: number = ids.length): Omit<Encoding, "truncated"> {
    const out = new Int32Array(length).fill(this.padTokenId);
    out.set(ids);
    return { ids: out, mask: new Uint8Array(length).fill(1, 0, ids.length), length: ids.length };
  }
}

function joinRows(rows: readonly Encoding[], rowLength: number): BatchEncoding {
  const ids = new Int32Array(rows.length * rowLength);
  const mask = new Uint8Array(rows.length * rowLength);
  rows.forEach((row, i) => {
    ids.set(row.ids, i * rowLength);
    mask.set(row.mask, i * rowLength);
  });
  const shape = [rows.length, rowLength] as const;
  return { ids, mask, shape, lengths: rows.map((row) => row.length), truncated: rows.map((row) => row.truncated) };
}
