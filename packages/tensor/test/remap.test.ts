import { expect, test } from "vitest";
import {
  invert,
  type NameRules,
  readTensorBytes,
  remap,
  renameAll,
  stripPrefix,
  traceName,
  translate,
  WeightsError,
} from "../src/index.ts";
import { blocks, type MemoryTensor, memorySourceOf, ramp } from "./memory-weights.ts";

const floats = async (source: ReturnType<typeof remap>, name: string): Promise<number[]> => [
  ...new Float32Array((await readTensorBytes(source, name)).buffer),
];

const rules: NameRules = {
  "blocks.{i}.qkv.{p}": { cat: ["b.{i}.q.{p}", "b.{i}.k.{p}", "b.{i}.v.{p}"] },
  "blocks.{i}.wide.{p}": { cat: ["b.{i}.small.{p}", "b.{i}.large.{p}"], of: [1, 3] },
  "blocks.{i}.norm.scale": "b.{i}.norm.weight",
  "head.{p}": { swapHalves: "out.{p}" },
  table: { transpose: "table_t" },
  token: { reshape: "token", from: 1, to: 2, ones: "before" },
  "conv.weight": { reshape: "pointwise.weight", from: 2, to: 4, ones: "after" },
};

const theirs: Record<string, MemoryTensor> = {
  "b.0.q.weight": ramp([2, 3]),
  "b.0.k.weight": ramp([2, 3], 100),
  "b.0.v.weight": ramp([2, 3], 200),
  "b.0.q.bias": ramp([2]),
  "b.0.k.bias": ramp([2], 10),
  "b.0.v.bias": ramp([2], 20),
  "b.0.small.weight": ramp([1, 2]),
  "b.0.large.weight": ramp([3, 2], 10),
  "b.0.norm.weight": ramp([4]),
  "out.weight": ramp([4, 2]),
  "out.bias": ramp([4]),
  table_t: ramp([2, 3]),
  token: ramp([3]),
  "pointwise.weight": ramp([2, 2]),
};

for (const seekable of [false, true]) {
  test(`every recipe gives the right values and shapes (${seekable ? "seekable" : "sequential"} source)`, async () => {
    const ours = remap(memorySourceOf(theirs, { pieceBytes: 4, seekable }), rules);
    const shapes = Object.fromEntries([...ours.entries].map(([n, e]) => [n, e.shape]));
    expect(shapes).toEqual({
      "blocks.0.qkv.weight": [6, 3],
      "blocks.0.qkv.bias": [6],
      "blocks.0.wide.weight": [4, 2],
      "blocks.0.norm.scale": [4],
      "head.weight": [4, 2],
      "head.bias": [4],
      table: [3, 2],
      token: [1, 3],
      "conv.weight": [2, 2, 1, 1],
    });
    expect(await floats(ours, "blocks.0.qkv.bias")).toEqual([0, 1, 10, 11, 20, 21]);
    expect((await floats(ours, "blocks.0.qkv.weight")).slice(4, 9)).toEqual([4, 5, 100, 101, 102]);
    expect(await floats(ours, "head.weight")).toEqual([4, 5, 6, 7, 0, 1, 2, 3]);
    expect(await floats(ours, "head.bias")).toEqual([2, 3, 0, 1]);
    expect(await floats(ours, "table")).toEqual([0, 3, 1, 4, 2, 5]);
    expect(await floats(ours, "conv.weight")).toEqual([0, 1, 2, 3]);
    for (const [name, e] of ours.entries) expect((await readTensorBytes(ours, name)).length).toBe(e.byteLength);
  });

  test(`there and back is the identity (${seekable ? "seekable" : "sequential"} source)`, async () => {
    const source = memorySourceOf(theirs, { pieceBytes: 4, seekable });
    const back = remap(remap(source, rules), invert(rules));
    expect([...back.entries.keys()].sort()).toEqual(Object.keys(theirs).sort());
    for (const [name, entry] of source.entries) {
      expect(back.entries.get(name)).toEqual(entry);
      expect(await readTensorBytes(back, name)).toEqual(await readTensorBytes(source, name));
    }
  });
}

test("inverting twice gives rules that do the same", () => {
  const { "blocks.{i}.qkv.{p}": qkv, ...rest } = invert(invert(rules));
  expect(qkv).toEqual({ cat: ["b.{i}.q.{p}", "b.{i}.k.{p}", "b.{i}.v.{p}"] });
  expect(rest["blocks.{i}.wide.{p}"]).toEqual(rules["blocks.{i}.wide.{p}"]);
  expect(() => invert({ q: { split: "qkv", part: 0, of: 3 } })).toThrowErrorMatchingInlineSnapshot(
    `[WeightsError: invert: not every part of a split has a rule: qkv has 3 parts]`,
  );
});

test("block-quantized rows are joined, cut and swapped as they are", async () => {
  const q = blocks("q4_K", [2, 512], 1);
  const k = blocks("q4_K", [2, 512], 2);
  const source = memorySourceOf({ q, k }, { pieceBytes: 144 });
  const joined = remap(source, { qk: { cat: ["q", "k"] } });
  expect(await readTensorBytes(joined, "qk")).toEqual(Uint8Array.from([...q.bytes, ...k.bytes]));
  const cut = remap(joined, { second: { split: "qk", part: 1, of: 2 } });
  expect(cut.entries.get("second")).toMatchObject({ dtype: "q4_K", shape: [2, 512], byteLength: k.bytes.length });
  expect(await readTensorBytes(cut, "second")).toEqual(k.bytes);
  const swapped = remap(joined, { kq: { swapHalves: "qk" } });
  expect(await readTensorBytes(swapped, "kq")).toEqual(Uint8Array.from([...k.bytes, ...q.bytes]));
  const bias = memorySourceOf({ b: blocks("q8_0", [96]) });
  expect(() => remap(bias, { half: { split: "b", part: 0, of: 2 } })).toThrowErrorMatchingInlineSnapshot(
    `[WeightsError: remap: a cut would divide a block of 32 for half: b q8_0 [96]]`,
  );
});

test("names without a rule pass through, dropped ones vanish, incomplete joins stay apart", () => {
  const source = memorySourceOf({ "b.0.q.weight": ramp([2, 3]), "b.0.k.weight": ramp([2, 3]), stray: ramp([1]), noise: ramp([1]) });
  expect([...remap(source, rules, { drop: ["stray"] }).entries.keys()]).toEqual(["b.0.q.weight", "b.0.k.weight", "noise"]);
});

test("rules that do not fit are refused", () => {
  const of = (tensors: Record<string, MemoryTensor>, table: NameRules) => () => remap(memorySourceOf(tensors), table);
  expect(of({ a: ramp([2, 3]), b: ramp([2, 4]) }, { c: { cat: ["a", "b"] } })).toThrowErrorMatchingInlineSnapshot(
    `[WeightsError: remap: parts of c differ in dtype or width: a f32 [2, 3], b f32 [2, 4]]`,
  );
  expect(of({ a: ramp([2, 32]), b: blocks("q8_0", [2, 32]) }, { c: { cat: ["a", "b"] } })).toThrowErrorMatchingInlineSnapshot(
    `[WeightsError: remap: parts of c differ in dtype or width: a f32 [2, 32], b q8_0 [2, 32]]`,
  );
  expect(of({ a: ramp([5, 2]) }, { b: { swapHalves: "a" } })).toThrowErrorMatchingInlineSnapshot(
    `[WeightsError: remap: the rows do not divide into 2 parts for b: a f32 [5, 2]]`,
  );
  expect(of({ a: ramp([5]) }, { b: { transpose: "a" } })).toThrowErrorMatchingInlineSnapshot(
    `[WeightsError: remap: only matrices of plain formats are transposed, for b: a f32 [5]]`,
  );
  expect(of({ a: ramp([5, 2]) }, { b: { reshape: "a", from: 2, to: 1, ones: "before" } })).toThrowErrorMatchingInlineSnapshot(
    `[WeightsError: remap: cannot see a f32 [5, 2] with 1 dimensions, for b]`,
  );
  expect(of({ a: ramp([1]), b: ramp([1]) }, { b: "a" })).toThrowErrorMatchingInlineSnapshot(
    `[WeightsError: remap: a rule makes a tensor that the checkpoint has too: b in memory]`,
  );
});

test("a prefix is stripped and everything outside of it left out", async () => {
  const source = memorySourceOf({ "model.diffusion_model.a": ramp([2]), "first_stage_model.b": ramp([1]) });
  const inner = stripPrefix(source, "diffusion_model.", "model.diffusion_model.");
  expect([...inner.entries.keys()]).toEqual(["a"]);
  expect(inner.entries.get("a")!.name).toBe("a");
  expect(await floats(inner, "a")).toEqual([0, 1]);
  expect(stripPrefix(inner, "model.diffusion_model.")).toBe(inner);
  expect(() => renameAll(source, () => "same")).toThrow(WeightsError);
});

test("traces say where rows of their tensors go", () => {
  expect(traceName(rules, "b.7.large.weight")).toEqual([{ ours: "blocks.7.wide.weight", ourRows: { start: 1, end: 4, total: 4 } }]);
  expect(traceName(rules, "out.bias")).toEqual([{ ours: "head.bias", swapHalves: true }]);
  expect(traceName(invert(rules), "blocks.2.qkv.bias")).toEqual([
    { ours: "b.2.q.bias", theirRows: { start: 0, end: 1, total: 3 } },
    { ours: "b.2.k.bias", theirRows: { start: 1, end: 2, total: 3 } },
    { ours: "b.2.v.bias", theirRows: { start: 2, end: 3, total: 3 } },
  ]);
  expect(traceName(rules, "unknown")).toEqual([]);
});

test("an unknown layout is refused with what was found", () => {
  const family = { model: "Toy", prefixes: ["m."], dialects: [{ name: "mine", matches: () => false, rules: {} }] };
  expect(() => translate(memorySourceOf({ "m.a": ramp([1]) }), family)).toThrowErrorMatchingInlineSnapshot(
    `[WeightsError: translate: not a Toy checkpoint in a known layout (mine): it has m.a, …]`,
  );
});
