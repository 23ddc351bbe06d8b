// What the tokenizers say to missing, damaged and hostile files and to options that do not fit.

import { describe, expect, it } from "vitest";
import { clipTokenizer, qwenTokenizer, TextTooLongError, TokenizerError, t5Tokenizer } from "../../src/tokenizers/index.ts";
import { readGolden, readGoldenJson } from "./golden.ts";

const spiece = readGolden("t5/spiece.model.gz");
const bpe = {
  added_tokens: [{ id: 3, content: "<|endoftext|>", special: true, normalized: false }],
  normalizer: { type: "NFC" },
  pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, use_regex: true },
  post_processor: null,
  decoder: { type: "ByteLevel" },
  model: { type: "BPE", vocab: { a: 0, b: 1, ab: 2 } as Record<string, unknown>, merges: ["a b"] as unknown },
};

function qwen(change: object) {
  return qwenTokenizer({ "tokenizer.json": JSON.stringify({ ...bpe, ...change }) });
}

describe("tokenizer files", () => {
  it("names the files it needs", () => {
    expect(() => clipTokenizer({})).toThrowErrorMatchingInlineSnapshot(
      `[TokenizerError: clipTokenizer: needs tokenizer.json, or vocab.json and merges.txt: got no files]`,
    );
    expect(() => t5Tokenizer({ "vocab.json": "{}" })).toThrowErrorMatchingInlineSnapshot(
      `[TokenizerError: t5Tokenizer: needs tokenizer.json or spiece.model: got vocab.json]`,
    );
    expect(() => qwenTokenizer({ "vocab.json": "{}" })).toThrowErrorMatchingInlineSnapshot(
      `[TokenizerError: qwenTokenizer: needs tokenizer.json, or vocab.json and merges.txt: got vocab.json]`,
    );
    expect(() => qwenTokenizer({ "vocab.json": "{}", "merges.txt": "" })).toThrowErrorMatchingInlineSnapshot(
      `[TokenizerError: qwenTokenizer: vocab.json and merges.txt hold no special tokens: pass tokenizer_config.json with them]`,
    );
  });

  it("refuses what is no tokenizer.json", () => {
    expect(() => t5Tokenizer({ "tokenizer.json": '{"model": {' })).toThrow(TokenizerError);
    expect(() => t5Tokenizer({ "tokenizer.json": "[]" })).toThrowErrorMatchingInlineSnapshot(
      `[TokenizerError: tokenizer: tokenizer.json must be an object: got []]`,
    );
    expect(() => t5Tokenizer({ "tokenizer.json": "{}" })).toThrowErrorMatchingInlineSnapshot(
      `[TokenizerError: tokenizer: tokenizer.json: model must be an object: got nothing]`,
    );
    expect(() => t5Tokenizer({ "tokenizer.json": Uint8Array.of(0xff, 0xfe) })).toThrowErrorMatchingInlineSnapshot(
      `[TokenizerError: tokenizer: tokenizer.json is not UTF-8 text; download the file again]`,
    );
    expect(() => t5Tokenizer({ "tokenizer.json": JSON.stringify(bpe) })).toThrowErrorMatchingInlineSnapshot(
      `[TokenizerError: t5Tokenizer: this file's model is BPE, t5Tokenizer needs Unigram; is it the tokenizer of another text encoder?]`,
    );
    expect(() => qwen({ normalizer: { type: "Nmt" } })).toThrowErrorMatchingInlineSnapshot(
      `[TokenizerError: tokenizer: tokenizer.json: normalizer.type is not supported: Nmt]`,
    );
    expect(() =>
      qwen({ pre_tokenizer: { type: "Split", pattern: { Regex: "(" }, behavior: "Isolated" } }),
    ).toThrowErrorMatchingInlineSnapshot(`[TokenizerError: tokenizer: tokenizer.json: pre_tokenizer.pattern.Regex cannot be compiled: (]`);
    expect(() => qwen({ pre_tokenizer: { type: "Digits" } })).toThrowErrorMatchingInlineSnapshot(
      `[TokenizerError: tokenizer: tokenizer.json: pre_tokenizer.type is not supported: Digits]`,
    );
    expect(() => qwen({ post_processor: { type: "RobertaProcessing" } })).toThrowErrorMatchingInlineSnapshot(
      `[TokenizerError: tokenizer: tokenizer.json: post_processor.cls must be an array: got nothing]`,
    );
    expect(() => qwen({ decoder: { type: "WordPiece" } })).toThrowErrorMatchingInlineSnapshot(
      `[TokenizerError: tokenizer: tokenizer.json: decoder.type is not supported: WordPiece]`,
    );
    expect(() => qwen({ added_tokens: [{ id: -1, content: "x" }] })).toThrowErrorMatchingInlineSnapshot(
      `[TokenizerError: tokenizer: tokenizer.json: added_tokens[0].id must be a token id: got -1]`,
    );
    expect(() => qwen({ added_tokens: [] })).toThrowErrorMatchingInlineSnapshot(
      `[TokenizerError: qwenTokenizer: the pad token is not in the vocabulary: "<|endoftext|>"]`,
    );
  });

  it("refuses a malformed vocabulary", () => {
    expect(() => qwen({ model: { ...bpe.model, vocab: { a: 1.5 } } })).toThrowErrorMatchingInlineSnapshot(
      `[TokenizerError: tokenizer: tokenizer.json: model.vocab["a"] must be a token id: got 1.5]`,
    );
    expect(() => qwen({ model: { ...bpe.model, merges: ["a c"] } })).toThrowErrorMatchingInlineSnapshot(
      `[TokenizerError: tokenizer: tokenizer.json: model.merges[0] uses a token the vocabulary lacks: "c"]`,
    );
    expect(() => qwen({ model: { ...bpe.model, merges: ["a b c"] } })).toThrowErrorMatchingInlineSnapshot(
      `[TokenizerError: tokenizer: tokenizer.json: model.merges[0] must be a pair of tokens: got "a b c"]`,
    );
    expect(() => qwen({ model: { ...bpe.model, merges: 7 } })).toThrowErrorMatchingInlineSnapshot(
      `[TokenizerError: tokenizer: tokenizer.json: model.merges must be an array: got 7]`,
    );
    expect(() => qwen({ model: { type: "WordLevel" } })).toThrowErrorMatchingInlineSnapshot(
      `[TokenizerError: tokenizer: tokenizer.json: model.type is not supported: WordLevel; BPE and Unigram are]`,
    );
    const unigram = (model: object) => t5Tokenizer({ "tokenizer.json": JSON.stringify({ model: { type: "Unigram", ...model } }) });
    expect(() => unigram({ vocab: [["a", 0]], unk_id: 1 })).toThrowErrorMatchingInlineSnapshot(
      `[TokenizerError: tokenizer: tokenizer.json: model.unk_id lies outside the vocabulary: 1 of 1]`,
    );
    expect(() => unigram({ vocab: [["a"]], unk_id: 0 })).toThrowErrorMatchingInlineSnapshot(
      `[TokenizerError: tokenizer: tokenizer.json: model.vocab[0][1] must be a number: got nothing]`,
    );
    expect(() => unigram({ vocab: [["a", 0]] })).toThrowErrorMatchingInlineSnapshot(
      `[TokenizerError: tokenizer: tokenizer.json: model.unk_id must be a token id: got nothing]`,
    );
  });

  it("does not mistake prototype names for tokens", () => {
    const tokenizer = qwen({ model: { type: "BPE", vocab: { ...bpe.model.vocab, constructor: 4 }, merges: ["a b"] } });
    expect(tokenizer.idOf("constructor")).toBe(4);
    expect(tokenizer.idOf("toString")).toBeUndefined();
    expect([...tokenizer.encode("ab").ids]).toEqual([2]);
  });
});

describe("spiece.model", () => {
  it("is refused cut short at any byte, or damaged", () => {
    expect(() => t5Tokenizer({ "spiece.model": spiece.subarray(0, 1000) })).toThrowErrorMatchingInlineSnapshot(
      `[TokenizerError: spiece.model: the protobuf breaks off or is malformed: byte 985 of 1000; download the file again]`,
    );
    for (let size = 0; size < 400; size++) {
      try {
        t5Tokenizer({ "spiece.model": spiece.subarray(0, size) }).encode("a");
      } catch (error) {
        expect(error, `${size} bytes`).toBeInstanceOf(TokenizerError);
      }
    }
    expect(() => t5Tokenizer({ "spiece.model": new Uint8Array(0) })).toThrowErrorMatchingInlineSnapshot(
      `[TokenizerError: spiece.model: no piece is marked unknown among 0; this is no SentencePiece model]`,
    );
    expect(() => t5Tokenizer({ "spiece.model": new Uint8Array(64).fill(0xff) })).toThrowErrorMatchingInlineSnapshot(
      `[TokenizerError: spiece.model: the protobuf breaks off or is malformed: byte 10 of 64; download the file again]`,
    );
    expect(() => t5Tokenizer({ "spiece.model": "text" })).toThrowErrorMatchingInlineSnapshot(
      `[TokenizerError: tokenizer: spiece.model is binary: got a string; pass its bytes]`,
    );
    // trainer_spec.model_type = 2 (BPE)
    expect(() => t5Tokenizer({ "spiece.model": Uint8Array.of(0x12, 2, 0x18, 2) })).toThrowErrorMatchingInlineSnapshot(
      `[TokenizerError: spiece.model: model type 2 is not supported; a T5 tokenizer is unigram (1)]`,
    );
  });

  it("is refused with pieces whose rules T5 does not have", () => {
    // <unk> (type 2) and a piece "x" marked user-defined (type 4)
    const pieces = [0x0a, 9, 0x0a, 5, ...Buffer.from("<unk>"), 0x18, 2, 0x0a, 5, 0x0a, 1, 0x78, 0x18, 4];
    expect(() => t5Tokenizer({ "spiece.model": Uint8Array.from(pieces) })).toThrowErrorMatchingInlineSnapshot(
      `[TokenizerError: t5Tokenizer: spiece.model has pieces T5 does not use: userDefined piece "x"; load the repository's tokenizer.json instead]`,
    );
  });

  it("refuses a character map that points outside itself", () => {
    const withMap = (bytes: number[]) => {
      const map = Buffer.from(bytes).toString("base64");
      const vocab = [
        ["<pad>", 0],
        ["</s>", 0],
        ["<unk>", 0],
      ];
      const json = { normalizer: { type: "Precompiled", precompiled_charsmap: map }, model: { type: "Unigram", vocab, unk_id: 2 } };
      return t5Tokenizer({ "tokenizer.json": JSON.stringify(json) });
    };
    expect(() => withMap([1])).toThrowErrorMatchingInlineSnapshot(
      `[TokenizerError: charsmap: the trie does not fit the data: 0 of 1 bytes; the file is damaged]`,
    );
    expect(() => withMap([8, 0, 0, 0, 1, 2])).toThrowErrorMatchingInlineSnapshot(
      `[TokenizerError: charsmap: the trie does not fit the data: 8 of 6 bytes; the file is damaged]`,
    );
    expect(() => withMap([4, 0, 0, 0, 0, 0xff, 0xff, 0x7f]).encode("a")).toThrowErrorMatchingInlineSnapshot(
      `[TokenizerError: charsmap: the trie points outside itself: unit 536870753 of 1; the file is damaged]`,
    );
  });
});

describe("encode", () => {
  const tokenizer = qwen({});

  it("names the limit when a text is too long and may not be cut", () => {
    expect(() => tokenizer.encode("ab ab ab", { maxLength: 2, truncate: false })).toThrow(TextTooLongError);
    expect(() => tokenizer.encode("ababab", { maxLength: 2, truncate: false })).toThrowErrorMatchingInlineSnapshot(
      `[TextTooLongError: qwenTokenizer.encode: the text has 3 tokens, the limit is 2; shorten it, raise maxLength or allow truncate]`,
    );
    expect(tokenizer.encode("ababab", { maxLength: 3, truncate: false }).truncated).toBe(0);
  });

  it("refuses lengths that cannot be", () => {
    expect(() => tokenizer.encode("a", { maxLength: 0 })).toThrowErrorMatchingInlineSnapshot(
      `[TokenizerError: qwenTokenizer.encode: maxLength must be an integer of at least 1: got 0]`,
    );
    expect(() => tokenizer.encode("a", { maxLength: 2.5 })).toThrowErrorMatchingInlineSnapshot(
      `[TokenizerError: qwenTokenizer.encode: maxLength must be an integer of at least 1: got 2.5]`,
    );
    expect(() => tokenizer.encode("a", { pad: true })).toThrowErrorMatchingInlineSnapshot(
      `[TokenizerError: qwenTokenizer.encode: padding needs a length: neither maxLength nor model_max_length is set; pass maxLength]`,
    );
    expect(() => tokenizer.encodeBatch(["a", "aa"])).toThrowErrorMatchingInlineSnapshot(
      `[TokenizerError: qwenTokenizer.encodeBatch: texts differ in length: [1, 2] tokens; set pad to true or "longest"]`,
    );
  });

  it("needs a chat template to render a chat", () => {
    expect(() => tokenizer.encodePrompt("a")).toThrowErrorMatchingInlineSnapshot(
      `[TokenizerError: qwenTokenizer.renderChat: there is no chat template; pass tokenizer_config.json or chat_template.jinja]`,
    );
    const broken = qwenTokenizer({ "tokenizer.json": JSON.stringify(bpe), "chat_template.jinja": "{{ raise_exception('only tools') }}" });
    expect(() => broken.encodePrompt("a")).toThrowErrorMatchingInlineSnapshot(
      `[TokenizerError: qwenTokenizer.renderChat: the chat template fails: only tools]`,
    );
  });

  it("works on 100,000 characters without a break", () => {
    const { model } = readGoldenJson<{ model: object }>("qwen/tokenizer.json.gz");
    const real = qwen({ model, added_tokens: [{ id: 151643, content: "<|endoftext|>", special: true }] });
    const { ids } = real.encode("ab".repeat(50_000));
    expect(real.decode(ids)).toBe("ab".repeat(50_000));
  });
});
