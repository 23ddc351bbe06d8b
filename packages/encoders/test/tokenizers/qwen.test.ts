// Qwen3's tokenizer, cut down to part of its merges, and its chat template, against tokenizers and transformers.

import { describe, expect, it } from "vitest";
import { qwenTokenizer } from "../../src/tokenizers/index.ts";
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

const golden = readGoldenJson<TokenizerGolden>("qwen/golden.json.gz");
const json = readGolden("qwen/tokenizer.json.gz");
const config = readGolden("qwen/tokenizer_config.json");
const tokenizer = qwenTokenizer({ "tokenizer.json": json, "tokenizer_config.json": config });

describe("qwenTokenizer", () => {
  it("gives the reference's ids for every hard string", () => {
    expect(strings.length).toBeGreaterThan(5000);
    expect(golden.crc).toHaveLength(strings.length);
    for (const [text, ids] of shownCases(golden)) expect([...tokenizer.encode(text).ids], JSON.stringify(text)).toEqual(ids);
    expect(differingStrings(tokenizer, golden)).toEqual([]);
  });

  it("gives the same ids from vocab.json and merges.txt", () => {
    const { model } = readGoldenJson<{ model: { vocab: object; merges: string[] } }>("qwen/tokenizer.json.gz");
    const merges = ["#version: 0.2", ...model.merges, ""].join("\n");
    const rebuilt = qwenTokenizer({ "vocab.json": JSON.stringify(model.vocab), "merges.txt": merges, "tokenizer_config.json": config });
    expect(differingStrings(rebuilt, golden)).toEqual([]);
  });

  it("cuts and pads to 512 as the reference does", () => {
    expect(golden.shaped.map((shape) => shape.maxLength)).toEqual([512]);
    for (const shape of golden.shaped) expect(differingShapes(tokenizer, shape)).toEqual([]);
  });

  it("decodes to the reference's text", () => {
    expect(differingDecodes(tokenizer, golden)).toEqual([]);
  });

  it("renders and encodes Qwen3's chat template as the reference does", () => {
    expect(golden.chats!.length).toBeGreaterThan(20);
    for (const { prompt, enableThinking, text, ids } of golden.chats!) {
      expect(tokenizer.renderChat([{ role: "user", content: prompt }], { enableThinking })).toBe(text);
      expect([...tokenizer.encodePrompt(prompt, { enableThinking, maxLength: 512 }).ids]).toEqual(ids);
    }
  });

  it("gives Z-Image's and FLUX.2 klein's prompt ids of the released tokenizer", () => {
    const fox = [151644, 872, 198, 32, 2518, 38835, 304, 279, 11794, 151645, 198, 151644, 77091, 198];
    expect([...tokenizer.encodePrompt("A red fox in the snow", { maxLength: 512 }).ids]).toEqual(fox);
    expect(tokenizer.encodePrompt("").length).toBe(8);
    const klein = tokenizer.encodePrompt("A red fox in the snow", { enableThinking: false, maxLength: 20, pad: true });
    expect([...klein.ids]).toEqual([...fox, 151667, 271, 151668, 271, 151643, 151643]);
    expect([...klein.mask]).toEqual([...new Array(18).fill(1), 0, 0]);
    expect([...tokenizer.encodePrompt("\nuser").ids].slice(0, 3)).toEqual([151644, 872, 271]);
  });

  it("takes the template from chat_template.jinja and from a named list", () => {
    const template = "{% for m in messages %}[{{ m.content }}]{% endfor %}";
    const messages = [{ role: "user", content: "x" }];
    expect(qwenTokenizer({ "tokenizer.json": json, "chat_template.jinja": template }).renderChat(messages)).toBe("[x]");
    const named = JSON.stringify({ chat_template: [{ name: "default", template }] });
    expect(qwenTokenizer({ "tokenizer.json": json, "tokenizer_config.json": named }).renderChat(messages)).toBe("[x]");
  });

  it("pads a batch to its longest row", () => {
    const batch = tokenizer.encodeBatch(["a", "a cat"], { pad: "longest" });
    expect(batch.shape).toEqual([2, 2]);
    expect([...batch.ids]).toEqual([64, 151643, 64, 8251]);
    expect([...batch.mask]).toEqual([1, 0, 1, 1]);
    expect(batch.lengths).toEqual([1, 2]);
    expect(tokenizer.encodeBatch([], { pad: "longest" }).shape).toEqual([0, 0]);
    expect(tokenizer.encodeBatch(["a", "a cat"], { pad: true, maxLength: 3 }).shape).toEqual([2, 3]);
  });

  it("reads lone surrogates as U+FFFD", () => {
    expect([...tokenizer.encode("a\ud800b\udc00").ids]).toEqual([...tokenizer.encode("a\ufffdb\ufffd").ids]);
  });
});
