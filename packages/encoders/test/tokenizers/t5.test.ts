// T5's tokenizer on a T5-shaped SentencePiece model with the nmt_nfkc character map, against tokenizers and transformers.

import { describe, expect, it } from "vitest";
import { t5Tokenizer } from "../../src/tokenizers/index.ts";
import { parseSentencePiece } from "../../src/tokenizers/sentence-piece.ts";
import {
  differingDecodes,
  differingShapes,
  differingStrings,
  readGolden,
  readGoldenJson,
  shownCases,
  strings,
  type TokenizerGolden,
} from "./golden.ts";

const model = readGolden("t5/spiece.model.gz");
const current = readGoldenJson<TokenizerGolden>("t5/golden-current.json.gz");
const released = readGoldenJson<TokenizerGolden>("t5/golden-released.json.gz");
const fromModel = t5Tokenizer({ "spiece.model": model });

/** tokenizer.json with the steps of FLUX.1's tokenizer_2/tokenizer.json. */
function releasedJson(): string {
  const { pieces, charsmap } = parseSentencePiece(model);
  const sentinels = Array.from({ length: 100 }, (_, i): [string, number] => [`<extra_id_${99 - i}>`, 0]);
  const vocab = [...pieces.map(({ text, score }): [string, number] => [text, score]), ...sentinels];
  const special = (id: number) => ({ id, content: vocab[id]![0], special: true, normalized: false });
  return JSON.stringify({
    added_tokens: [0, 1, 2, ...sentinels.map((_, i) => pieces.length + i)].map(special),
    normalizer: {
      type: "Sequence",
      normalizers: [
        { type: "Precompiled", precompiled_charsmap: Buffer.from(charsmap).toString("base64") },
        { type: "Strip", strip_left: false, strip_right: true },
        { type: "Replace", pattern: { Regex: " {2,}" }, content: "\u2581" },
      ],
    },
    pre_tokenizer: { type: "Metaspace", replacement: "\u2581", add_prefix_space: true, prepend_scheme: "first" },
    post_processor: {
      type: "TemplateProcessing",
      single: [{ Sequence: { id: "A", type_id: 0 } }, { SpecialToken: { id: "</s>", type_id: 0 } }],
      special_tokens: { "</s>": { id: "</s>", ids: [1], tokens: ["</s>"] } },
    },
    decoder: { type: "Metaspace", replacement: "\u2581", add_prefix_space: true, prepend_scheme: "always" },
    model: { type: "Unigram", unk_id: 2, vocab, byte_fallback: false },
  });
}

const fromJson = t5Tokenizer({ "tokenizer.json": releasedJson() });

describe("t5Tokenizer", () => {
  it("gives the reference's ids for every hard string from tokenizer.json", () => {
    expect(strings.length).toBeGreaterThan(5000);
    expect(released.crc).toHaveLength(strings.length);
    for (const [text, ids] of shownCases(released)) expect([...fromJson.encode(text).ids], JSON.stringify(text)).toEqual(ids);
    expect(differingStrings(fromJson, released)).toEqual([]);
  });

  it("gives the reference's ids for every hard string from spiece.model", () => {
    for (const [text, ids] of shownCases(current)) expect([...fromModel.encode(text).ids], JSON.stringify(text)).toEqual(ids);
    expect(differingStrings(fromModel, current)).toEqual([]);
  });

  it("cuts and pads to 256 and 512 as the reference does", () => {
    expect(released.shaped.map((shape) => shape.maxLength)).toEqual([256, 512]);
    for (const shape of released.shaped) expect(differingShapes(fromJson, shape)).toEqual([]);
  });

  it("decodes to the reference's text", () => {
    expect(differingDecodes(fromJson, released)).toEqual([]);
    expect(differingDecodes(fromModel, current)).toEqual([]);
  });

  it("matches added tokens by the rules they carry", () => {
    type Cases = { rules: Record<string, object>; cases: { text: string; ids: number[] }[] };
    const { rules, cases } = readGoldenJson<Cases>("t5/added-tokens.json.gz");
    const json = JSON.parse(releasedJson()) as { added_tokens: { content: string }[] };
    for (const token of json.added_tokens) Object.assign(token, rules[token.content]);
    const tokenizer = t5Tokenizer({ "tokenizer.json": JSON.stringify(json) });
    expect(cases.length).toBeGreaterThan(70);
    for (const { text, ids } of cases) expect([...tokenizer.encode(text).ids], JSON.stringify(text)).toEqual(ids);
  });

  it("ends every row with the end token and pads with 0", () => {
    const cut = fromModel.encode("a photo ".repeat(400), { maxLength: 256, pad: true });
    expect([cut.ids.length, cut.ids[255], cut.length]).toEqual([256, 1, 256]);
    expect(cut.truncated).toBeGreaterThan(0);
    expect([...fromModel.encode("", { maxLength: 4, pad: true }).ids]).toEqual([1, 0, 0, 0]);
    expect([...fromModel.encode("", { maxLength: 4, pad: true }).mask]).toEqual([1, 0, 0, 0]);
  });
});
