// Prompts through tokenizer and model: shapes, padding, aborts, weight streaming and accounts of memory. The numbers of the models
// themselves are compared with transformers elsewhere.
import { load, type Module, namedParameters } from "@wick/nn";
import { cpu, type Device, memorySource, openSafetensors, stripPrefix, type Tensor, type WeightSource } from "@wick/tensor";
import { messageOf, relativeL2 } from "@wick/testing";
import { expect, test } from "vitest";
import {
  ClipPromptEncoder,
  ClipTextEncoder,
  clipL,
  clipTokenizer,
  Qwen3,
  QwenPromptEncoder,
  qwen3_4b,
  qwenTokenizer,
  T5Encoder,
  T5PromptEncoder,
  TextTooLongError,
  t5Tokenizer,
  t5Xxl,
} from "../src/index.ts";
import { clipFiles, readGolden } from "./tokenizers/golden.ts";

/** Small numbers from a generator of its own for every parameter of `model`; norm weights are 1. */
async function someWeights(model: Module): Promise<WeightSource> {
  const header: Record<string, unknown> = {};
  const parts: Float32Array[] = [];
  let at = 0;
  for (const [name, p] of namedParameters(model)) {
    let state = 12345 + parts.length;
    const draw = () => {
      state = (Math.imul(state, 1664525) + 1013904223) | 0;
      return p.rank === 1 && name.endsWith("weight") ? 1 : state / 2 ** 33;
    };
    parts.push(Float32Array.from({ length: p.size }, draw));
    header[name] = { dtype: "F32", shape: p.shape, data_offsets: [at, at + 4 * p.size] };
    at += 4 * p.size;
  }
  const text = new TextEncoder().encode(JSON.stringify(header));
  const file = new Uint8Array(8 + text.length + at);
  new DataView(file.buffer).setBigUint64(0, BigInt(text.length), true);
  file.set(text, 8);
  let to = 8 + text.length;
  for (const part of parts) {
    file.set(new Uint8Array(part.buffer), to);
    to += part.byteLength;
  }
  return await openSafetensors(memorySource(file, "some.safetensors"));
}

async function loaded<M extends Module>(model: M, device: Device): Promise<M> {
  await load(model, await someWeights(model), device);
  return model;
}

async function values(tensor: Tensor): Promise<Float32Array> {
  const out = (await tensor.toArray()) as Float32Array;
  tensor.dispose();
  return out;
}

const qwen = qwenTokenizer({
  "tokenizer.json": readGolden("qwen/tokenizer.json.gz"),
  "tokenizer_config.json": readGolden("qwen/tokenizer_config.json"),
});
const t5 = t5Tokenizer({ "spiece.model": readGolden("t5/spiece.model.gz") });
const clip = clipTokenizer(clipFiles());

const small = { width: 16, ffnWidth: 24, layers: 3, heads: 2, headWidth: 8 };
const qwenModel = () => new Qwen3({ ...qwen3_4b, ...small, kvHeads: 1 }, { layers: 2 });
const t5Model = () => new T5Encoder({ ...t5Xxl, ...small });
const clipModel = () => new ClipTextEncoder({ ...clipL, width: 16, ffnWidth: 24, layers: 3, heads: 2 });

test("Qwen gives each prompt its own tokens' states, in a batch as alone", async () => {
  using device = cpu();
  using model = await loaded(qwenModel(), device);
  const encoder = new QwenPromptEncoder(qwen, model);
  const resting = device.liveBytes;
  const prompts = ["a red apple", "a lighthouse in fog on a cliff by the sea"];
  const lengths = prompts.map((p) => qwen.encodePrompt(p).length);
  expect(lengths[0]).toBeLessThan(lengths[1]!);
  const both = await encoder.encode(prompts);
  expect(both.map((t) => t.shape)).toEqual(lengths.map((l) => [l, 16]));
  for (const [i, prompt] of prompts.entries()) {
    const [alone] = await encoder.encode(prompt);
    const direct = model.forward(device, [encoder.tokens(prompt).ids]);
    const expected = await values(direct);
    expect(relativeL2(await values(alone!), expected)).toBe(0);
    expect(relativeL2(await values(both[i]!), expected)).toBeLessThan(1e-6);
  }
  expect(device.liveBytes).toBe(resting);
});

test("T5 pads to its length, and pads attend", async () => {
  using device = cpu();
  using model = await loaded(t5Model(), device);
  const resting = device.liveBytes;
  const encoder = new T5PromptEncoder(t5, model, { maxLength: 32 });
  const both = await encoder.encode(["a red apple", "the language"]);
  expect(both.shape).toEqual([2, 32, 16]);
  const direct = model.forward(device, [t5.encode("a red apple", { maxLength: 32, pad: true }).ids]);
  const [all, expected] = [await values(both), await values(direct)];
  expect(relativeL2(all.subarray(0, expected.length), expected)).toBeLessThan(1e-6);
  const shorter = await values(await new T5PromptEncoder(t5, model, { maxLength: 16 }).encode("a red apple"));
  expect(relativeL2(shorter, expected.subarray(0, shorter.length))).toBeGreaterThan(1e-3);
  expect(device.liveBytes).toBe(resting);
});

test("T5 without a limit pads to a minimum and keeps long prompts whole", async () => {
  using device = cpu();
  using model = await loaded(t5Model(), device);
  const encoder = new T5PromptEncoder(t5, model, { maxLength: Infinity, padTo: 8 });
  const long = "the language of the reference and the language of the library";
  const length = t5.encode(long).length;
  expect(length).toBeGreaterThan(8);
  for (const [prompts, shape] of [
    ["the", [1, 8, 16]],
    [
      ["the", long],
      [2, length, 16],
    ],
  ] as const) {
    const states = await encoder.encode(prompts);
    expect(states.shape).toEqual(shape);
    states.dispose();
  }
  expect(() => new T5PromptEncoder(t5, model, { maxLength: Infinity })).toThrowErrorMatchingInlineSnapshot(
    `[ShapeError: T5PromptEncoder: padTo is a whole number of tokens: got Infinity; give it when maxLength is Infinity]`,
  );
});

test("CLIP pools at the first end token, and cuts long prompts", async () => {
  using device = cpu();
  using model = await loaded(clipModel(), device);
  const resting = device.liveBytes;
  const encoder = new ClipPromptEncoder(clip, model);
  const long = "word ".repeat(100);
  const prompts = ["a red apple", long];
  const pooled = await encoder.encode(prompts);
  expect(pooled.shape).toEqual([2, 16]);
  const all = await values(pooled);
  for (const [i, prompt] of prompts.entries()) {
    const ids = clip.encode(prompt, { maxLength: 77 }).ids;
    expect(ids.at(-1)).toBe(49_407);
    // The end is the last token here: what follows cannot matter to a causal model.
    const { hidden, pooled: unused } = model.forward(device, [ids]);
    unused.dispose();
    const states = await values(hidden);
    expect(relativeL2(all.subarray(16 * i, 16 * (i + 1)), states.subarray(-16))).toBeLessThan(1e-6);
  }
  expect(encoder.tokens(long).truncated).toBeGreaterThan(0);
  await expect(encoder.encode(long, { truncate: false })).rejects.toBeInstanceOf(TextTooLongError);
  expect(device.liveBytes).toBe(resting);
});

test("too long prompts are refused unless they may be cut", async () => {
  using device = cpu();
  using q = await loaded(qwenModel(), device);
  using t = await loaded(t5Model(), device);
  const long = "the language of the reference";
  const qwenEncoder = new QwenPromptEncoder(qwen, q, { maxLength: 10 });
  await expect(qwenEncoder.encode(long)).rejects.toThrowErrorMatchingInlineSnapshot(
    `[TextTooLongError: qwenTokenizer.encode: the text has 13 tokens, the limit is 10; shorten it, raise maxLength or allow truncate]`,
  );
  const t5Encoder = new T5PromptEncoder(t5, t, { maxLength: 4 });
  await expect(t5Encoder.encode(long)).rejects.toThrowErrorMatchingInlineSnapshot(
    `[TextTooLongError: t5Tokenizer.encode: the text has 6 tokens, the limit is 4; shorten it, raise maxLength or allow truncate]`,
  );
  const [cut] = await qwenEncoder.encode(long, { truncate: true });
  expect(cut!.shape).toEqual([10, 16]);
  const states = await t5Encoder.encode(long, { truncate: true });
  expect(states.shape).toEqual([1, 4, 16]);
  for (const tensor of [cut!, states]) tensor.dispose();
});

test("an abort between blocks stops the run and releases everything", async () => {
  using device = cpu();
  using q = await loaded(qwenModel(), device);
  using t = await loaded(t5Model(), device);
  using c = await loaded(clipModel(), device);
  const resting = device.liveBytes;
  const encoders = [new QwenPromptEncoder(qwen, q), new T5PromptEncoder(t5, t, { maxLength: 16 }), new ClipPromptEncoder(clip, c)];
  for (const encoder of encoders) {
    const controller = new AbortController();
    const ran: number[] = [];
    const after = (_: Module, index: number) => {
      ran.push(index);
      if (index === 0) controller.abort(new Error("enough"));
    };
    await expect(encoder.encode("a red apple", { signal: controller.signal, after })).rejects.toThrow("enough");
    expect(ran).toEqual([0]);
    expect(device.liveBytes).toBe(resting);
  }
});

test("blocks may be brought in and let go one by one", async () => {
  using device = cpu();
  using whole = await loaded(t5Model(), device);
  const encode = (model: T5Encoder, options = {}) => new T5PromptEncoder(t5, model, { maxLength: 16 }).encode("a red apple", options);
  const expected = await values(await encode(whole));
  using model = t5Model();
  const source = await someWeights(model);
  await load(model.shared, stripPrefix(source, "shared."), device);
  await load(model.encoder.final_layer_norm, stripPrefix(source, "encoder.final_layer_norm."), device);
  const resting = device.liveBytes;
  let peak = 0;
  const states = await encode(model, {
    before: async (block: Module, index: number) => {
      await load(block, stripPrefix(source, `encoder.block.${index}.`), device);
      peak = Math.max(peak, device.liveBytes - resting);
    },
    after: (block: Module) => block.unload(),
  });
  expect(await values(states)).toEqual(expected);
  expect(device.liveBytes).toBe(resting);
  const blockBytes = [...namedParameters(model.encoder.block[0]!)].reduce((sum, [, p]) => sum + 4 * p.size, 0);
  expect(peak).toBeLessThan(2 * blockBytes);
});

test("tokens that cannot be encoded are refused on the host", async () => {
  using device = cpu();
  using q = await loaded(qwenModel(), device);
  using c = await loaded(clipModel(), device);
  const resting = device.liveBytes;
  const refusals = [
    () => q.forward(device, []),
    () => q.forward(device, [[1, 2], [3]]),
    () => q.forward(device, [[1, 151_936]]),
    () => q.forward(device, [[1, -1]]),
    () => q.forward(device, [[1, 2]], { layer: 3 }),
    () => q.forward(device, [[1, 2]], { lengths: [3] }),
    () => c.forward(device, [new Int32Array(78)]),
    () => new ClipTextEncoder({ ...clipL, endToken: 5 }).forward(device, [[1, 2]]),
  ];
  expect(refusals.map(messageOf)).toMatchInlineSnapshot(`
    [
      "ShapeError: Qwen3: there are no tokens to encode",
      "ShapeError: Qwen3: token lists of a batch have equal lengths: 2 and 1; pad them",
      "ShapeError: Qwen3: token id 151936 is not in the vocabulary of 151936; is it the tokenizer of another model?",
      "ShapeError: Qwen3: token id -1 is not in the vocabulary of 151936; is it the tokenizer of another model?",
      "ShapeError: Qwen3: there is no hidden state 3: 2 layers were built",
      "ShapeError: Qwen3: lengths are one per text, from 1 to 2: got [3] for 1 texts",
      "ShapeError: ClipTextEncoder: a text has at most 77 tokens, got 78; truncate it",
      "ShapeError: ClipTextEncoder: a text has no end token 5, whose place is pooled; add it when tokenizing",
    ]
  `);
  await expect(new QwenPromptEncoder(qwen, q).encode([])).rejects.toThrow("there are no prompts to encode");
  expect(device.liveBytes).toBe(resting);
});

test("an encoder whose weights were not loaded says so", async () => {
  await expect(new T5PromptEncoder(t5, t5Model()).encode("a")).rejects.toThrow(/has no data yet; call load/);
});
