// SentencePiece's precompiled character map as the `Precompiled` normalizer of huggingface/tokenizers applies it
// (facts: huggingface/spm_precompiled src/lib.rs, tokenizers/src/normalizers/precompiled.rs).
// The blob is: u32 byte size of a Darts double array, the array's u32 units, then NUL-terminated UTF-8 replacements.

import { TokenizerError } from "./errors.ts";

const maxWholeGraphemeBytes = 5;
const encoder = new TextEncoder();

function unitOffset(unit: number): number {
  return (unit >>> 10) << ((unit & 0x200) >>> 6);
}

/** A parsed character map: `normalize` replaces every mapped grapheme or character of a text. */
export class Charsmap {
  readonly #units: Uint32Array;
  readonly #replacements: Uint8Array;
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  readonly #byCharacter = new Map<string, string>();
  #segmenter: Intl.Segmenter | undefined;

  constructor(units: Uint32Array, replacements: Uint8Array) {
    this.#units = units;
    this.#replacements = replacements;
  }

  /** Returns the text with every mapped grapheme (of at most 5 UTF-8 bytes) or else character replaced. */
  normalize(text: string): string {
    let out = "";
    if (/^[^\r\u0080-\uffff]*$/.test(text)) {
      for (const character of text) out += this.#character(character);
      return out;
    }
    this.#segmenter ??= new Intl.Segmenter("en", { granularity: "grapheme" });
    for (const { segment } of this.#segmenter.segment(text)) out += this.#grapheme(segment);
    return out;
  }

  #grapheme(grapheme: string): string {
    // At most 5 bytes is at most 5 UTF-16 units, so longer clusters need no encoding to be ruled out.
    if (grapheme.length > 1 && grapheme.length <= maxWholeGraphemeBytes) {
      const bytes = encoder.encode(grapheme);
      const mapped = bytes.length <= maxWholeGraphemeBytes ? this.#lookUp(bytes) : undefined;
      if (mapped !== undefined) return mapped;
    }
    let out = "";
    for (const character of grapheme) out += this.#character(character);
    return out;
  }

  #character(character: string): string {
    let mapped = this.#byCharacter.get(character);
    if (mapped === undefined) {
      mapped = this.#lookUp(encoder.encode(character)) ?? character;
      this.#byCharacter.set(character, mapped);
    }
    return mapped;
  }

  /** The replacement of the *shortest* key that starts `bytes`: the reference takes the first hit of its prefix search. */
  #lookUp(bytes: Uint8Array): string | undefined {
    let node = unitOffset(this.#unit(0));
    for (const byte of bytes) {
      if (byte === 0) return undefined;
      node = (node ^ byte) >>> 0;
      const unit = this.#unit(node);
      if ((unit & 0x800000ff) !== byte) return undefined;
      node = (node ^ unitOffset(unit)) >>> 0;
      if ((unit >>> 8) & 1) return this.#replacement(this.#unit(node) & 0x7fffffff);
    }
    return undefined;
  }

  #unit(index: number): number {
    const unit = this.#units[index];
    if (unit === undefined) {
      throw new TokenizerError("charsmap", `the trie points outside itself: unit ${index} of ${this.#units.length}; the file is damaged`);
    }
    return unit;
  }

  #replacement(start: number): string {
    const end = this.#replacements.indexOf(0, start);
    if (start >= this.#replacements.length) {
      const size = this.#replacements.length;
      throw new TokenizerError("charsmap", `a replacement lies outside the table: byte ${start} of ${size}; the file is damaged`);
    }
    return this.#decoder.decode(this.#replacements.subarray(start, end < 0 ? undefined : end));
  }
}

/** Parses a precompiled character map from its bytes; throws TokenizerError when sizes do not fit. */
function parseCharsmap(bytes: Uint8Array): Charsmap {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const trieBytes = bytes.length >= 4 ? view.getUint32(0, true) : 0;
  if (trieBytes < 4 || trieBytes % 4 !== 0 || 4 + trieBytes > bytes.length) {
    throw new TokenizerError("charsmap", `the trie does not fit the data: ${trieBytes} of ${bytes.length} bytes; the file is damaged`);
  }
  const units = Uint32Array.from({ length: trieBytes / 4 }, (_, i) => view.getUint32(4 + 4 * i, true));
  return new Charsmap(units, bytes.subarray(4 + trieBytes));
}

/** Parses a character map from the base64 text of tokenizer.json; throws TokenizerError when it is no base64. */
export function parseCharsmapBase64(text: string): Charsmap {
  let binary: string;
  try {
    binary = atob(text);
  } catch (cause) {
    throw new TokenizerError("charsmap", "precompiled_charsmap is not base64; the file is damaged", { cause });
  }
  return parseCharsmap(Uint8Array.from(binary, (character) => character.charCodeAt(0)));
}
