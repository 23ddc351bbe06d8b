// safetensors: files written by the Python library read back byte for byte, and malformed ones refused by name.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { openSafetensors, openSafetensorsIndex } from "../src/loaders/safetensors.ts";
import { type ByteSource, fileSource, memorySource } from "../src/loaders/source.ts";
import { readTensorBytes, type WeightSource } from "../src/loaders/weight-source.ts";
import { readGolden } from "./golden-file.ts";

const folder = new URL("./goldens/formats/", import.meta.url);
const expected = readGolden("formats/expected.safetensors");
const path = (file: string): string => fileURLToPath(new URL(file, folder));

describe("openSafetensors", () => {
  it("reads every dtype, converting those that tensors do not have", async () => {
    const weights = await openSafetensors(await fileSource(path("all.safetensors")));
    expect(weights.metadata.get("note")).toBe("ünï");
    const kinds: Record<string, string> = {};
    for (const entry of weights.entries.values()) {
      const bytes = await readTensorBytes(weights, entry.name, { chunkBytes: 9 });
      expect(bytes.length).toBe(entry.byteLength);
      expect(bytes).toEqual(expected(`st/${entry.name}`));
      kinds[entry.name] = `${entry.storedDtype} ${entry.dtype} [${entry.shape}]`;
    }
    await weights.close();
    expect(kinds).toMatchInlineSnapshot(`
      {
        "a.bf16": "BF16 bf16 [3,5]",
        "a.bool": "BOOL u8 [3]",
        "a.f16": "F16 f16 [3,5]",
        "a.f32": "F32 f32 [3,5]",
        "a.f64": "F64 f32 [3,5]",
        "a.f8e4m3": "F8_E4M3 f8e4m3 [3,5]",
        "a.f8e5m2": "F8_E5M2 f8e5m2 [3,5]",
        "a.i16": "I16 i32 [2]",
        "a.i32": "I32 i32 [3]",
        "a.i64": "I64 i64 [3]",
        "a.i8": "I8 i32 [3]",
        "a.u16": "U16 u32 [2]",
        "a.u32": "U32 u32 [2]",
        "a.u8": "U8 u8 [2]",
        "empty": "F32 f32 [0,4]",
        "naïve.重み": "F32 f32 [2,2]",
        "scalar": "F32 f32 []",
      }
    `);
  });

  it("reads shards by their index", async () => {
    const index = memorySource(readFileSync(path("m.safetensors.index.json")), "m.safetensors.index.json");
    const weights = await openSafetensorsIndex(index, (file) => fileSource(path(file)));
    expect([...weights.entries.keys()].sort()).toEqual(["w.0", "w.1", "w.2"]);
    const w2 = await readTensorBytes(weights, "w.2");
    expect([...new Float32Array(w2.buffer)]).toEqual([2, 2, 2, 2, 2, 2]);
    await weights.close();
  });

  it("suggests near names for a tensor that is not there", async () => {
    const weights = await openSafetensors(memorySource(file({ "block.weight": tensor("U8", [2], 0, 2) }, 2), "a.safetensors"));
    await expect(readTensorBytes(weights, "blok.weight")).rejects.toThrowErrorMatchingInlineSnapshot(
      `[WeightsError: stream: no tensor blok.weight in this checkpoint (1 tensors); it has block.weight]`,
    );
  });
});

const tensor = (dtype: string, shape: unknown, begin: number, end: number): object => ({ dtype, shape, data_offsets: [begin, end] });

function file(header: object | string, dataBytes: number, headerLength?: bigint): Uint8Array {
  const text = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const bytes = new Uint8Array(8 + text.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, headerLength ?? BigInt(text.length), true);
  bytes.set(text, 8);
  return bytes;
}

const refuse = async (bytes: Uint8Array): Promise<unknown> =>
  openSafetensors(memorySource(bytes, "bad.safetensors")).then(
    () => "opened",
    (error: unknown) => String(error),
  );

describe("openSafetensors refuses", () => {
  const good = tensor("F32", [2], 0, 8);
  it.each<[string, Uint8Array]>([
    ["a file of three bytes", new Uint8Array(3)],
    ["a header longer than the file", file({ a: good }, 8, 1n << 20n)],
    ["a header of 2^63 bytes", file({ a: good }, 8, 1n << 63n)],
    ["a header that is not JSON", file("{oops", 8)],
    ["a header that is a list", file("[1]", 8)],
    ["invalid UTF-8", file({ a: good }, 8).map((b, i) => (i === 10 ? 0xff : b))],
    ["truncated data", file({ a: good }, 7)],
    ["data after the last tensor", file({ a: good }, 9)],
    ["overlapping tensors", file({ a: good, b: tensor("F32", [2], 4, 12) }, 12)],
    ["a gap", file({ a: good, b: tensor("F32", [1], 12, 16) }, 16)],
    ["offsets out of range", file({ a: tensor("F32", [2], 1000, 1008) }, 8)],
    ["offsets that do not match the shape", file({ a: tensor("F32", [3], 0, 8) }, 8)],
    ["reversed offsets", file({ a: tensor("F32", [2], 8, 0) }, 8)],
    ["negative offsets", file({ a: tensor("F32", [2], -8, 0) }, 8)],
    ["a dimension of 2^53", file({ a: tensor("F32", [2 ** 53], 0, 8) }, 8)],
    ["dimensions whose product overflows", file({ a: tensor("F32", [2 ** 31, 2 ** 31], 0, 8) }, 8)],
    ["a negative dimension", file({ a: tensor("F32", [-2], 0, 8) }, 8)],
    ["a fractional dimension", file({ a: tensor("F32", [1.5], 0, 6) }, 6)],
    ["an unknown dtype", file({ a: tensor("F4", [2], 0, 8) }, 8)],
    ["a dtype that is a property of objects", file({ a: tensor("constructor", [2], 0, 8) }, 8)],
    ["no offsets", file({ a: { dtype: "F32", shape: [2] } }, 8)],
    ["a null entry", file({ a: null }, 8)],
    ["a repeated name", file(`{"a":${JSON.stringify(good)},"\\u0061":${JSON.stringify(good)}}`, 8)],
    ["metadata that is not text", file({ __metadata__: { a: 1 }, a: good }, 8)],
  ])("%s", async (_, bytes) => {
    expect(await refuse(bytes)).toMatchSnapshot();
  });

  it("two shards with the same tensor, and closes both", async () => {
    const closed: string[] = [];
    const shard = (name: string): ByteSource => ({
      ...memorySource(file({ a: good }, 8), name),
      close: async () => void closed.push(name),
    });
    await expect(openSafetensors([shard("1.safetensors"), shard("2.safetensors")])).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: openSafetensors: two files hold a tensor of the same name: a in 1.safetensors and 2.safetensors]`,
    );
    expect(closed).toEqual(["1.safetensors", "2.safetensors"]);
  });

  const index = (map: unknown): ByteSource =>
    memorySource(new TextEncoder().encode(JSON.stringify({ weight_map: map })), "model.index.json");
  const shard = async (name: string): Promise<ByteSource> => memorySource(file({ a: good }, 8), name);
  const open = (map: unknown): Promise<WeightSource> => openSafetensorsIndex(index(map), shard);

  it("an index that names paths outside of its folder", async () => {
    for (const name of ["../a.safetensors", "/etc/a.safetensors", "..\\a.safetensors", "c:a.safetensors", "x/y.safetensors", "", 7]) {
      await expect(open({ a: name })).rejects.toThrow(/^readShardIndex: not a plain file name: /);
    }
  });

  it("an index that promises what no shard holds", async () => {
    await expect(open({ a: "1.safetensors", b: "1.safetensors" })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: openSafetensorsIndex: 1 tensors of model.index.json are not in their shard: b (1.safetensors)]`,
    );
    await expect(open([])).rejects.toThrowErrorMatchingInlineSnapshot(`[FormatError: readShardIndex: has no weight_map: model.index.json]`);
  });
});
