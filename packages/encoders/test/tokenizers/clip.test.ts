// CLIP's tokenizer on the released merges, against transformers' CLIPTokenizer.

import { describe, expect, it } from "vitest";
import { clipTokenizer } from "../../src/tokenizers/index.ts";
import {
  clipFiles,
  differingDecodes,
  differingShapes,
  differingStrings,
  readGoldenJson,
  shownCases,
  strings,
  type TokenizerGolden,
} from "./golden.ts";

const golden = readGoldenJson<TokenizerGolden>("clip/golden.json.gz");
const tokenizer = clipTokenizer(clipFiles());

describe("clipTokenizer", () => {
  it("gives the reference's ids for every hard string", () => {
    expect(strings.length).toBeGreaterThan(5000);
    expect(golden.crc).toHaveLength(strings.length);
    for (const [text, ids] of shownCases(golden)) expect([...tokenizer.encode(text).ids], JSON.stringify(text)).toEqual(ids);
    expect(differingStrings(tokenizer, golden)).toEqual([]);
  });

  it("cuts and pads to 77 as the reference does", () => {
    expect(golden.shaped.map((shape) => shape.maxLength)).toEqual([77]);
    for (const shape of golden.shaped) expect(differingShapes(tokenizer, shape)).toEqual([]);
  });

  it("decodes to the reference's text", () => {
    expect(differingDecodes(tokenizer, golden)).toEqual([]);
  });

  it("gives the ids users reported for CLIP-L", () => {
    // huggingface/transformers.js#74
    expect([...tokenizer.encode("this is a test string of text").ids]).toEqual([49406, 589, 533, 320, 1628, 9696, 539, 4160, 49407]);
    expect(tokenizer.vocabSize).toBe(49408);
    expect(tokenizer.padTokenId).toBe(49407);
    expect(tokenizer.modelMaxLength).toBe(77);
  });

  it("keeps the end token last when it cuts, and says how much it cut", () => {
    const cut = tokenizer.encode("a ".repeat(100), { maxLength: 77, pad: true });
    expect([cut.ids[0], cut.ids[76], cut.ids.length, cut.length, cut.truncated]).toEqual([49406, 49407, 77, 77, 25]);
    expect([...tokenizer.encode("", { maxLength: 5, pad: true }).ids]).toEqual([49406, 49407, 49407, 49407, 49407]);
    expect([...tokenizer.encode("a cat", { specialTokens: false }).ids]).toEqual([320, 2368]);
  });

  it("reads the matching rules of special tokens where older configurations keep them", () => {
    const files = clipFiles();
    const rules = (normalized: boolean) => ({
      "tokenizer_config.json": JSON.stringify({ bos_token: { content: "<|startoftext|>", normalized } }),
    });
    const text = "<|STARTOFTEXT|>";
    expect([...clipTokenizer({ ...files, ...rules(true) }).encode(text).ids]).toEqual([49406, 49406, 49407]);
    expect(clipTokenizer({ ...files, ...rules(false) }).encode(text).ids.length).toBeGreaterThan(3);
  });
});
