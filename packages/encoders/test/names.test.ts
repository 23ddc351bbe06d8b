// Names and shapes of the released text encoders in all layouts, against inventories of the reference classes.
import { compareWeights, load, type Module, namedParameters } from "@wick/nn";
import { cpu, invert, type NameFamily, type NameRules, remap, renameAll, translate } from "@wick/tensor";
import { inventorySource, readInventory, sortedShapes } from "@wick/testing/inventory";
import { describe, expect, test } from "vitest";
import {
  ClipTextEncoder,
  clipFromOpenAi,
  clipL,
  clipNames,
  Qwen3,
  qwen3_4b,
  qwen3FromGguf,
  qwen3Names,
  SiglipVision,
  siglipNames,
  siglipSo400m,
  T5Encoder,
  t5FromGguf,
  t5Names,
  t5Xxl,
} from "../src/index.ts";

interface Released {
  readonly inventory: string;
  readonly count: number;
  readonly parameters: number;
  readonly names: NameFamily;
  /** What the released names have before ours. */
  readonly prefix: string;
  /** In all-in-one files, before the released names. */
  readonly outer: string;
  readonly build: () => Module;
  readonly otherRules: NameRules;
  readonly other: string;
}

const released: readonly Released[] = [
  {
    inventory: "t5-xxl",
    count: 219,
    parameters: 4_762_310_656,
    names: t5Names,
    prefix: "",
    outer: "text_encoders.t5xxl.transformer.",
    build: () => new T5Encoder(t5Xxl),
    otherRules: t5FromGguf,
    other: "gguf",
  },
  {
    inventory: "clip-l",
    count: 196,
    parameters: 123_060_480,
    names: clipNames,
    prefix: "text_model.",
    outer: "text_encoders.clip_l.transformer.",
    build: () => new ClipTextEncoder(clipL),
    otherRules: clipFromOpenAi,
    other: "openai",
  },
  {
    inventory: "qwen3-4b",
    count: 398,
    parameters: 4_022_468_096,
    names: qwen3Names,
    prefix: "model.",
    outer: "text_encoders.qwen3_4b.transformer.",
    build: () => new Qwen3(qwen3_4b),
    otherRules: qwen3FromGguf,
    other: "gguf",
  },
];

const complete = { missing: [], unused: [], misshapen: [] };

describe.each(released)("$inventory", ({ inventory, count, parameters, names, prefix, outer, build, otherRules, other }) => {
  const theirs = readInventory(inventory);
  const bare = renameAll(inventorySource(theirs), (name) => name.slice(prefix.length));

  test("the module tree is the checkpoint", () => {
    const ours = [...namedParameters(build())];
    expect(ours.length).toBe(count);
    expect(ours.reduce((sum, [, p]) => sum + p.size, 0)).toBe(parameters);
    const shapes = ours.map(([name, p]): [string, readonly number[]] => [prefix + name, p.shape]);
    expect(sortedShapes(shapes)).toEqual(sortedShapes(Object.entries(theirs)));
  });

  test("with the released prefix, without it, and inside an all-in-one file", () => {
    const whole = inventorySource({ ...rename(theirs, (n) => outer + n), "vae.decoder.conv_in.weight": [1] });
    for (const source of [inventorySource(theirs), bare, whole]) {
      const found = translate(source, names);
      expect(found.dialect).toBe("transformers");
      expect(compareWeights(build(), found)).toEqual(complete);
    }
  });

  test(`the ${other} layout`, () => {
    const found = translate(remap(bare, invert(otherRules)), names);
    expect(found.dialect).toBe(other);
    expect(compareWeights(build(), found)).toEqual(complete);
  });

  test("another model's checkpoint is refused with its names", () => {
    const stranger = inventorySource({ "double_blocks.0.img_mod.lin.weight": [4, 4] });
    expect(() => translate(stranger, names)).toThrow(
      /not a .* checkpoint in a known layout .*: it has double_blocks\.0\.img_mod\.lin\.weight/,
    );
  });
});

const rename = (shapes: Record<string, readonly number[]>, to: (name: string) => string): Record<string, readonly number[]> =>
  Object.fromEntries(Object.entries(shapes).map(([name, shape]) => [to(name), shape]));

test("T5's embedding may have either name, or both", () => {
  const { "shared.weight": table, ...rest } = readInventory("t5-xxl");
  const tied = { "encoder.embed_tokens.weight": table! };
  for (const shapes of [
    { ...rest, ...tied },
    { ...rest, ...tied, "shared.weight": table! },
  ]) {
    expect(compareWeights(new T5Encoder(t5Xxl), translate(inventorySource(shapes), t5Names))).toEqual(complete);
  }
  expect(compareWeights(new T5Encoder(t5Xxl), inventorySource(rest)).missing).toEqual(["shared.weight"]);
});

test("what old and combined CLIP files have beyond the text tower is left out", () => {
  const more = {
    "text_model.embeddings.position_ids": [1, 77],
    "vision_model.class_embedding": [1024],
    logit_scale: [],
    text_projection: [768, 768],
  };
  const shapes = { ...readInventory("clip-l"), ...more };
  expect(compareWeights(new ClipTextEncoder(clipL), translate(inventorySource(shapes), clipNames))).toEqual(complete);
  const { "text_model.embeddings.position_ids": positions, ...bare } = rename(shapes, (n) => n);
  const prefixless = rename({ ...readInventory("clip-l"), "text_model.embeddings.position_ids": positions! }, (n) => n.slice(11));
  expect(Object.keys(bare).length).toBe(199);
  expect(compareWeights(new ClipTextEncoder(clipL), translate(inventorySource(prefixless), clipNames))).toEqual(complete);
});

describe("siglip-so400m", () => {
  const theirs = readInventory("siglip-so400m");
  const isHead = (name: string) => name.startsWith("vision_model.head.");

  test("the module tree is the checkpoint without the head that pools", () => {
    const ours = [...namedParameters(new SiglipVision(siglipSo400m))];
    expect(ours.length).toBe(448 - 11);
    expect(ours.reduce((sum, [, p]) => sum + p.size, 0)).toBe(412_987_248);
    const shapes = ours.map(([name, p]): [string, readonly number[]] => [`vision_model.${name}`, p.shape]);
    expect(sortedShapes(shapes)).toEqual(sortedShapes(Object.entries(theirs).filter(([name]) => !isHead(name))));
  });

  test("as image_encoder, with the text tower beside it, and without a prefix", () => {
    const both = { ...theirs, "text_model.embeddings.token_embedding.weight": [32_000, 1152], logit_scale: [1], logit_bias: [1] };
    const bare = rename(theirs, (name) => name.slice("vision_model.".length));
    for (const shapes of [theirs, both, bare, rename(theirs, (name) => `image_encoder.${name}`)])
      expect(compareWeights(new SiglipVision(siglipSo400m), translate(inventorySource(shapes), siglipNames))).toEqual(complete);
  });

  test("CLIP's and T5's checkpoints are refused", () => {
    for (const other of ["clip-l", "t5-xxl"])
      expect(() => translate(inventorySource(readInventory(other)), siglipNames)).toThrow(
        /^translate: not a SigLIP vision encoder checkpoint in a known layout \(transformers\): it has /,
      );
  });
});

test("Qwen3 for hidden_states[-2] has neither the last layer nor the norm, and knows what it leaves out", () => {
  const model = new Qwen3(qwen3_4b, { layers: 35 });
  const names = [...namedParameters(model)].map(([name]) => name);
  expect(names.length).toBe(398 - 11 - 1);
  expect(names.filter((n) => n.startsWith("layers.35.") || n === "norm.weight")).toEqual([]);
  const source = translate(inventorySource({ ...readInventory("qwen3-4b"), "lm_head.weight": [151_936, 2560] }), qwen3Names);
  expect(compareWeights(model, source).unused.length).toBe(12);
  expect(compareWeights(model, source, model.unbuilt)).toEqual(complete);
  expect(new Qwen3(qwen3_4b).unbuilt).toEqual([]);
});

test("a config of another size is reported with the first differences, and nothing stays on the device", async () => {
  using device = cpu();
  const wrong = new ClipTextEncoder({ ...clipL, ffnWidth: 2048, layers: 13 });
  const source = translate(inventorySource(readInventory("clip-l")), clipNames);
  await expect(load(wrong, source, device)).rejects.toThrowErrorMatchingInlineSnapshot(`
    [CheckpointMismatchError: load: the checkpoint does not fit ClipTextEncoder: 16 missing, 0 unused, 36 misshapen
      16 missing from the checkpoint:
        encoder.layers.12.self_attn.k_proj.weight
        encoder.layers.12.self_attn.k_proj.bias
        encoder.layers.12.self_attn.v_proj.weight
        encoder.layers.12.self_attn.v_proj.bias
        encoder.layers.12.self_attn.q_proj.weight
        … and 11 more
      36 of another shape:
        encoder.layers.0.mlp.fc1.weight: the model has [2048, 768], the checkpoint [3072, 768]
        encoder.layers.0.mlp.fc1.bias: the model has [2048], the checkpoint [3072]
        encoder.layers.0.mlp.fc2.weight: the model has [768, 2048], the checkpoint [768, 3072]
        encoder.layers.1.mlp.fc1.weight: the model has [2048, 768], the checkpoint [3072, 768]
        encoder.layers.1.mlp.fc1.bias: the model has [2048], the checkpoint [3072]
        … and 31 more]
  `);
  expect(device.liveBytes).toBe(0);
});
