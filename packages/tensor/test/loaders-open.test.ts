// Formats are told apart by content; files that are no checkpoint are named for what they seem to be; scaled f8 opens as plain weights.
import { readFileSync } from "node:fs";
import { fileURLToPath, pathToFileURL } from "node:url";
import { describe, expect, it } from "vitest";
import { openWeights } from "../src/loaders/open.ts";
import { memorySink } from "../src/loaders/sink.ts";
import { memorySource, SourceError } from "../src/loaders/source.ts";
import { readTensorBytes, type WeightSource } from "../src/loaders/weight-source.ts";
import { writeSafetensors } from "../src/loaders/write.ts";

const path = (name: string): string => fileURLToPath(new URL(`./goldens/formats/${name}`, import.meta.url));
const bytes = (name: string): Uint8Array => Uint8Array.from(readFileSync(path(name)));
const text = (s: string): Uint8Array => new TextEncoder().encode(s);

describe("openWeights", () => {
  it.each<[string, number]>([
    ["all.safetensors", 17],
    ["all.gguf", 20],
    ["stored.npz", 19],
    ["one.npy", 1],
    ["nested-p2.pth", 17],
    ["legacy.pth", 17],
    ["m.safetensors.index.json", 3],
  ])("%s by path, by file address, and from memory under another name", async (name, count) => {
    for (const file of [path(name), pathToFileURL(path(name)), pathToFileURL(path(name)).href]) {
      const weights = await openWeights(file);
      expect(weights.entries.size).toBe(count);
      await weights.close();
    }
    if (name.endsWith(".json")) return;
    for (const file of [memorySource(bytes(name), "x.bin"), new Blob([bytes(name) as Uint8Array<ArrayBuffer>])]) {
      expect((await openWeights(file)).entries.size).toBe(count);
    }
  });

  it("takes shards as a list", async () => {
    const weights = await openWeights([path("m-00001-of-00002.safetensors"), path("m-00002-of-00002.safetensors")]);
    expect(weights.entries.size).toBe(3);
    await weights.close();
  });

  it.each<[string, Uint8Array]>([
    ["nothing", text("")],
    ["a web page", text("\n<!DOCTYPE html><html><body>Sign in</body></html>")],
    ["a Git LFS pointer", text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")],
    ["a bare pickle", Uint8Array.of(0x80, 4, 0x95, 1, 2)],
    ["gzip", Uint8Array.of(0x1f, 0x8b, 8, 0)],
    ["noise", Uint8Array.of(9, 9, 9, 9, 9, 9, 9, 9, 9, 9)],
    ["an index without its folder", text('{"weight_map": {}}')],
  ])("names %s", async (_, content) => {
    expect(await openWeights(memorySource(content, "model.safetensors")).then(() => "opened", String)).toMatchSnapshot();
  });

  it("names missing files, folders and empty lists", async () => {
    await expect(openWeights("no-such-file.safetensors")).rejects.toThrowErrorMatchingInlineSnapshot(
      `[SourceError: openFile: cannot open no-such-file.safetensors]`,
    );
    await expect(openWeights(fileURLToPath(new URL(".", import.meta.url)))).rejects.toThrow(SourceError);
    await expect(openWeights([])).rejects.toThrowErrorMatchingInlineSnapshot(`[FormatError: openWeights: no files were given]`);
  });

  it("stops reading when aborted", async () => {
    const abort = new AbortController();
    const weights = await openWeights(path("all.safetensors"));
    const pieces = weights.stream("a.f32", { chunkBytes: 4, signal: abort.signal })[Symbol.asyncIterator]();
    await pieces.next();
    abort.abort(new Error("enough"));
    await expect(pieces.next().then(() => pieces.next())).rejects.toThrow("enough");
    await weights.close();
    await expect(openWeights(path("all.safetensors"), { signal: abort.signal })).rejects.toThrow("enough");
  });
});

const f32 = (...values: number[]): Uint8Array => new Uint8Array(Float32Array.from(values).buffer);

interface Plain {
  readonly name: string;
  readonly dtype: "f8e4m3" | "f8e5m2" | "f32" | "u8" | "bf16";
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

async function scaledFile(tensors: readonly Plain[], options = {}, metadata: Record<string, string> = {}): Promise<WeightSource> {
  const sink = memorySink();
  await writeSafetensors(
    sink,
    tensors.map((t) => ({ ...t, bytes: () => [t.data] })),
    metadata,
  );
  return openWeights(memorySource(sink.bytes(), "scaled.safetensors"), options);
}

describe("scaled f8 checkpoints", () => {
  // 1, 2, 0.5 and -1 in e4m3.
  const weight: Plain = { name: "l.weight", dtype: "f8e4m3", shape: [2, 2], data: Uint8Array.of(0x38, 0x40, 0x30, 0xb8) };
  const marker: Plain = { name: "scaled_fp8", dtype: "f8e4m3", shape: [2], data: new Uint8Array(2) };
  const scale: Plain = { name: "l.scale_weight", dtype: "f32", shape: [], data: f32(0.3) };
  const input: Plain = { name: "l.scale_input", dtype: "f32", shape: [], data: f32(1) };
  const bias: Plain = { name: "l.bias", dtype: "bf16", shape: [1], data: Uint8Array.of(0x80, 0x3f) };
  const describeJson = (format: string): Plain => ({
    name: "l.comfy_quant",
    dtype: "u8",
    shape: [text(`{"format":"${format}"}`).length],
    data: text(`{"format":"${format}"}`),
  });

  it("opens the older spelling as bf16", async () => {
    const weights = await scaledFile([weight, marker, scale, input, bias]);
    expect([...weights.entries.values()].map((e) => `${e.name} ${e.dtype} ${e.byteLength}`).sort()).toEqual([
      "l.bias bf16 2",
      "l.weight bf16 8",
    ]);
    const bits = new Uint16Array((await readTensorBytes(weights, "l.weight", { chunkBytes: 2 })).buffer);
    expect([...bits]).toEqual([0x3e9a, 0x3f1a, 0x3e1a, 0xbe9a]);
  });

  it("opens the newer spelling as f32 when asked", async () => {
    const weights = await scaledFile([weight, { ...scale, name: "l.weight_scale" }, describeJson("float8_e4m3fn")], { scaledF8: "f32" });
    const values = new Float32Array((await readTensorBytes(weights, "l.weight")).buffer);
    expect([...values]).toEqual([0.3, 0.6, 0.15, -0.3].map(Math.fround));
    expect([...weights.entries.keys()]).toEqual(["l.weight"]);
  });

  it("leaves the file alone when asked, and files without scales always", async () => {
    expect([...(await scaledFile([weight, marker, scale], { scaledF8: "raw" })).entries.keys()].sort()).toEqual([
      "l.scale_weight",
      "l.weight",
      "scaled_fp8",
    ]);
    expect((await scaledFile([weight])).entries.get("l.weight")?.dtype).toBe("f8e4m3");
  });

  it("refuses what it cannot undo", async () => {
    await expect(scaledFile([weight, describeJson("nvfp4")])).rejects.toThrowErrorMatchingInlineSnapshot(
      `[UnsupportedError: openWeights: quantization "nvfp4": l; use a bf16, f8 or GGUF version of this checkpoint]`,
    );
    await expect(scaledFile([weight, { ...scale, shape: [2], data: f32(1, 2) }])).rejects.toThrowErrorMatchingInlineSnapshot(
      `[UnsupportedError: openWeights: only one f32 scale per weight is supported: l.scale_weight is f32 [2]]`,
    );
    await expect(scaledFile([weight], {}, { _quantization_metadata: "{" })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: openWeights: the description of a quantization is not JSON: _quantization_metadata]`,
    );
    const layers = JSON.stringify({ layers: { l: { format: "mxfp8" } } });
    await expect(scaledFile([weight], {}, { _quantization_metadata: layers })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[UnsupportedError: openWeights: quantization "mxfp8": l; use a bf16, f8 or GGUF version of this checkpoint]`,
    );
    const broken = await scaledFile([weight, { ...scale, data: f32(Number.NaN) }]);
    await expect(readTensorBytes(broken, "l.weight")).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: openWeights: the scale of l.weight is NaN: scaled.safetensors]`,
    );
  });
});
