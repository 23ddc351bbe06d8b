// PyTorch checkpoints: written by torch in both formats and all protocols, read back; pickles that reach for more refused.
import { readFileSync } from "node:fs";
import { zipSync } from "fflate";
import { describe, expect, it } from "vitest";
import { openPth } from "../src/loaders/pth.ts";
import { memorySource } from "../src/loaders/source.ts";
import { readTensorBytes } from "../src/loaders/weight-source.ts";
import { readGolden } from "./golden-file.ts";

const expected = readGolden("formats/expected.safetensors");
const file = (name: string): Uint8Array => Uint8Array.from(readFileSync(new URL(`./goldens/formats/${name}`, import.meta.url)));
const files = ["nested-p2.pth", "nested-p3.pth", "nested-p4.pth", "nested-p5.pth", "like-1.6.pth", "legacy.pth"];

describe("openPth", () => {
  it.each(files)("%s: every tensor, also strided and shared ones", async (name) => {
    const weights = await openPth(memorySource(file(name), name), { at: "state_dict" });
    const kinds: string[] = [];
    for (const entry of weights.entries.values()) {
      const bytes = await readTensorBytes(weights, entry.name, { chunkBytes: 10 });
      expect(bytes.length, entry.name).toBe(entry.byteLength);
      expect(bytes, entry.name).toEqual(expected(`pth/${entry.name}`));
      kinds.push(`${entry.name} ${entry.dtype} [${entry.shape}]`);
    }
    expect(kinds.join("\n")).toMatchInlineSnapshot(`
      "layer.weight f32 [4,6]
      layer.transposed f32 [6,4]
      layer.window f32 [2,3]
      layer.shared f32 [3,4]
      layer.expanded f32 [2,3]
      bf16 bf16 [4,6]
      f16 f16 [4,6]
      f64 f32 [4,6]
      i64 i64 [5]
      u8 u8 [5]
      bool u8 [2]
      f8 f8e4m3 [4,6]
      scalar f32 []
      empty f32 [0,2]
      param f32 [2]"
    `);
  });

  it.each(files)("%s: paths and plain values from the top", async (name) => {
    const weights = await openPth(memorySource(file(name), name));
    expect([...weights.entries.keys()].filter((key) => !key.startsWith("state_dict."))).toEqual(["list.0", "list.1.0"]);
    expect(Object.fromEntries(weights.metadata)).toEqual({ epoch: 3, lr: 1e-4, tag: "ünï", none: null, "flags.0": true, "flags.1": false });
  });

  it("names what the top level has when the part asked for is not there", async () => {
    await expect(openPth(memorySource(file("legacy.pth"), "a.pth"), { at: "model" })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: openPth: nothing at "model": a.pth; the top level has epoch, lr, tag, none, flags, state_dict, list]`,
    );
  });
});

const text = (s: string): number[] => [...new TextEncoder().encode(s)];
const unicode = (s: string): number[] => [0x8c, text(s).length, ...text(s)];
const global = (module: string, name: string): number[] => [0x63, ...text(`${module}\n${name}\n`)];
const int = (n: number): number[] => [0x4a, n & 255, (n >> 8) & 255, (n >> 16) & 255, (n >> 24) & 255];
const tuple = (...items: number[][]): number[] => [0x28, ...items.flat(), 0x74];
const call = (callee: number[], ...args: number[][]): number[] => [...callee, ...tuple(...args), 0x52];
const storage = (key: string, elements: number, type = "FloatStorage"): number[] => [
  ...tuple(unicode("storage"), global("torch", type), unicode(key), unicode("cpu"), int(elements)),
  0x51,
];
const view = (base: number[], offset: number, shape: number[], strides: number[]): number[] =>
  call(global("torch._utils", "_rebuild_tensor_v2"), base, int(offset), tuple(...shape.map(int)), tuple(...strides.map(int)));

/** A checkpoint of one pickle over a storage "0" of four floats. */
function archive(pickle: number[], extra: Record<string, Uint8Array> = {}): Uint8Array {
  const entries = { "a/data.pkl": Uint8Array.from([0x80, 2, ...pickle, 0x2e]), "a/data/0": new Uint8Array(16), ...extra };
  return zipSync(entries, { level: 0 });
}

const outcome = (bytes: Uint8Array): Promise<string> =>
  openPth(memorySource(bytes, "bad.pth")).then((w) => `opened ${[...w.entries.keys()]}`, String);

describe("openPth refuses", () => {
  const good = view(storage("0", 4), 0, [2, 2], [2, 1]);

  it("nothing in the file these cases are built from", async () => {
    expect(await outcome(archive([0x7d, ...unicode("w"), ...good, 0x73]))).toBe("opened w");
  });

  it.each<[string, Uint8Array]>([
    ["os.system", archive(call(global("os", "system"), unicode("echo")))],
    ["builtins.eval", archive(call(global("builtins", "eval"), unicode("1")))],
    ["a global by the stack", archive([...unicode("posix"), ...unicode("system"), 0x93])],
    ["constructor as a global", archive(global("Object", "constructor"))],
    ["a call of a dtype", archive(call(global("torch", "float32")))],
    ["a call of text", archive(call(unicode("x")))],
    ["an instance opcode", archive([0x28, 0x69, ...text("os\nsystem\n")])],
    ["an extension code", archive([0x82, 1])],
    ["a view outside of its storage", archive(view(storage("0", 4), 1, [2, 2], [2, 1]))],
    ["a view with huge strides", archive(view(storage("0", 4), 0, [2, 2], [2 ** 30, 1]))],
    ["a negative stride", archive(view(storage("0", 4), 0, [2], [-1]))],
    ["a negative offset", archive(view(storage("0", 4), -1, [2], [1]))],
    ["fewer strides than dimensions", archive(view(storage("0", 4), 0, [2, 2], [1]))],
    ["a view that repeats one value 2^60 times", archive(view(storage("0", 4), 0, [2 ** 30, 2 ** 30], [0, 0]))],
    ["a view that repeats one value 2^40 times", archive(view(storage("0", 4), 0, [2 ** 20, 2 ** 20], [0, 0]))],
    ["a storage that is missing", archive(view(storage("7", 4), 0, [2], [1]))],
    ["a storage path that leaves the archive", archive(view(storage("../data.pkl", 4), 0, [2], [1]))],
    ["a storage longer than its entry", archive(view(storage("0", 2 ** 30), 0, [2], [1]))],
    ["a storage of an unknown type", archive(view(storage("0", 4, "ComplexFloatStorage"), 0, [2], [1]))],
    ["a list that holds itself", archive([0x5d, 0x71, 0, 0x68, 0, 0x61])],
    [
      "lists that double forty times",
      archive([0x5d, ...Array.from({ length: 40 }, (_, i) => [0x71, i, 0x5d, 0x68, i, 0x61, 0x68, i, 0x61]).flat()]),
    ],
    ["a memo that was never stored", archive([0x68, 9])],
    ["an empty stack", archive([0x52])],
    ["a mark on the stack", archive([0x28, 0x61])],
    ["a text of 4 GB", archive([0x58, 255, 255, 255, 255])],
    ["an integer of 2 GB", archive([0x8b, 255, 255, 255, 127])],
    ["a pickle without end", zipSync({ "a/data.pkl": Uint8Array.of(0x80, 2, 0x7d) }, { level: 0 })],
    ["an archive without pickle", zipSync({ "a/b": Uint8Array.of(1) }, { level: 0 })],
    ["big-endian", archive(good, { "a/byteorder": Uint8Array.from(text("big")) })],
    [
      "two tensors of one path",
      archive([0x7d, ...unicode("a.b"), ...good, 0x73, ...unicode("a"), 0x7d, ...unicode("b"), ...good, 0x73, 0x73]),
    ],
    ["text", Uint8Array.from(text("<!doctype html><html></html>"))],
    ["an empty file", new Uint8Array(0)],
    ["a truncated archive", archive(good).slice(0, -30)],
    ["a truncated legacy file", file("legacy.pth").slice(0, -10)],
    ["a legacy file cut inside of its pickle", file("legacy.pth").slice(0, 500)],
  ])("%s", async (_, bytes) => {
    const result = await outcome(bytes);
    expect(result).toMatchSnapshot();
    expect(result).toMatch(/^FormatError: openPth: /);
  });
});
