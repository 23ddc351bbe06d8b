// NumPy arrays: .npy and .npz, stored and deflated, written by NumPy; malformed ones and bombs refused.
import { readFileSync } from "node:fs";
import { zipSync } from "fflate";
import { describe, expect, it } from "vitest";
import { openNpy, openNpz } from "../src/loaders/npy.ts";
import { memorySource } from "../src/loaders/source.ts";
import { readTensorBytes } from "../src/loaders/weight-source.ts";
import { readGolden } from "./golden-file.ts";

const expected = readGolden("formats/expected.safetensors");
const file = (name: string): Uint8Array => Uint8Array.from(readFileSync(new URL(`./goldens/formats/${name}`, import.meta.url)));

describe("openNpz", () => {
  it.each(["stored.npz", "deflated.npz"])("%s: every dtype, order and byte order", async (name) => {
    const weights = await openNpz(memorySource(file(name), name));
    const kinds: string[] = [];
    for (const entry of weights.entries.values()) {
      const bytes = await readTensorBytes(weights, entry.name, { chunkBytes: 9 });
      expect(bytes, entry.name).toEqual(expected(`np/${entry.name}`));
      kinds.push(`${entry.name} ${entry.storedDtype} ${entry.dtype} [${entry.shape}]`);
    }
    expect(kinds.join("\n")).toMatchInlineSnapshot(`
      "f4 <f4 f32 [3,4]
      f8 <f8 f32 [3,4]
      f2 <f2 f16 [3,4]
      i1 |i1 i32 [2]
      i2 <i2 i32 [2]
      i4 <i4 i32 [1,2]
      i8 <i8 i64 [2]
      u1 |u1 u8 [2]
      u2 <u2 u32 [1]
      u4 <u4 u32 [1]
      u8 <u8 i64 [1]
      b1 |b1 u8 [2]
      be_f4 >f4 f32 [3,4]
      be_i4 >i4 i32 [2]
      be_f8 >f8 f32 [3,4]
      fortran <f4 f32 [3,4]
      fortran3 <f4 f32 [2,3,4]
      zero_d <f4 f32 []
      empty <f4 f32 [0,3]"
    `);
  });
});

describe("openNpy", () => {
  it("reads one array", async () => {
    const weights = await openNpy(memorySource(file("one.npy"), "one.npy"));
    expect([...weights.entries.values()].map((e) => `${e.name} ${e.dtype} [${e.shape}]`)).toEqual(["arr_0 f32 [3,4]"]);
    expect(await readTensorBytes(weights, "arr_0")).toEqual(expected("np/f4"));
  });
});

function npy(header: string, dataBytes = 0, version = 1): Uint8Array {
  const text = new TextEncoder().encode(header);
  const bytes = new Uint8Array(10 + text.length + dataBytes);
  bytes.set([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, version, 0, text.length & 255, text.length >> 8]);
  bytes.set(text, 10);
  return bytes;
}

const header = (descr: string, shape: string, order = "False"): string =>
  `{'descr': ${descr}, 'fortran_order': ${order}, 'shape': (${shape}), }\n`;
const f4 = "'<f4'";

describe("openNpy refuses", () => {
  it.each<[string, Uint8Array]>([
    ["pickled objects", npy(header("'|O'", "1,"), 8)],
    ["structures", npy(header("[('a', '<f4')]", "1,"), 4)],
    ["complex numbers", npy(header("'<c8'", "1,"), 8)],
    ["text", npy(header("'<U3'", "1,"), 12)],
    ["a property of objects as dtype", npy(header("'<constructor'", "1,"), 12)],
    ["a shape that overflows", npy(header(f4, "4294967296, 4294967296"), 4)],
    ["a dimension of 30 digits", npy(header(f4, "123456789012345678901234567890"), 4)],
    ["too little data", npy(header(f4, "3,"), 11)],
    ["too much data", npy(header(f4, "3,"), 13)],
    ["a negative dimension", npy(header(f4, "-3,"), 12)],
    ["code in the header", npy("{'descr': '<f4', 'fortran_order': False, 'shape': __import__('os')}", 4)],
    ["no header", npy("", 4)],
    ["a header longer than the file", npy(header(f4, "3,")).slice(0, 40)],
    ["version 9", npy(header(f4, "1,"), 4, 9)],
    ["another magic number", new Uint8Array(100)],
    ["an empty file", new Uint8Array(0)],
  ])("%s", async (_, bytes) => {
    const result = await openNpy(memorySource(bytes, "bad.npy")).then(() => "opened", String);
    expect(result).toMatchSnapshot();
    expect(result).toMatch(/^FormatError: openNpy: /);
  });
});

/** Writes `value` of `width` bytes at the first place after `from` where `signature` stands, plus `offset`. */
function patch(bytes: Uint8Array, signature: number, offset: number, value: number, width: 2 | 4 = 4): Uint8Array {
  const copy = bytes.slice();
  const view = new DataView(copy.buffer);
  for (let i = 0; i + 4 <= copy.length; i++) {
    if (view.getUint32(i, true) !== signature) continue;
    if (width === 4) view.setUint32(i + offset, value, true);
    else view.setUint16(i + offset, value, true);
    return copy;
  }
  throw new Error("no such record");
}

const CENTRAL = 0x02014b50;
const END = 0x06054b50;

describe("openNpz refuses", () => {
  const one = { "a.npy": npy(header(f4, "2,"), 8) };
  const stored = zipSync(one, { level: 0 });
  const deflated = zipSync({ "a.npy": npy(header(f4, "1000000,"), 4_000_000) }, { level: 9 });

  it("nothing in the files these cases are built from", async () => {
    expect((await openNpz(memorySource(stored))).entries.size).toBe(1);
    expect((await readTensorBytes(await openNpz(memorySource(deflated)), "a")).length).toBe(4_000_000);
  });

  it.each<[string, Uint8Array]>([
    ["a bomb: a size beyond what deflate can expand", patch(deflated, CENTRAL, 24, 0xf0000000)],
    ["an entry that inflates to more than it says", patch(deflated, CENTRAL, 24, 3_900_000)],
    ["an entry that inflates to less than it says", patch(deflated, CENTRAL, 24, 4_100_000)],
    ["damaged deflate data", deflated.map((b, i) => (i >= 40 && i < 200 ? 0xff : b))],
    ["an encrypted entry", patch(stored, CENTRAL, 8, 1, 2)],
    ["an unknown compression", patch(stored, CENTRAL, 10, 14, 2)],
    ["an entry outside of the file", patch(stored, CENTRAL, 42, 1 << 30)],
    ["stored sizes that differ", patch(stored, CENTRAL, 24, 5)],
    ["a directory outside of the file", patch(stored, END, 16, 1 << 30)],
    ["a directory of 4 GB", patch(stored, END, 12, 0xfffffff0)],
    ["more entries than fit", patch(stored, END, 10, 60000, 2)],
    ["a Zip64 record that is not there", patch(stored, END, 16, 0xffffffff)],
    ["a split archive", patch(stored, END, 4, 1, 2)],
    ["two entries over the same bytes", overlapping(stored)],
    ["something that is no array", zipSync({ "readme.txt": new Uint8Array(5) }, { level: 0 })],
    ["a truncated file", stored.slice(0, -4)],
    ["an empty file", new Uint8Array(0)],
  ])("%s", async (_, bytes) => {
    const open = async (): Promise<string> => {
      const weights = await openNpz(memorySource(bytes, "bad.npz"));
      for (const name of weights.entries.keys()) await readTensorBytes(weights, name);
      return "opened";
    };
    const result = await open().catch(String);
    expect(result).toMatchSnapshot();
    expect(result).toMatch(/^FormatError: openNpz: /);
  });
});

/** An archive whose directory lists its one entry twice, under two names. */
function overlapping(bytes: Uint8Array): Uint8Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const end = bytes.length - 22;
  const start = view.getUint32(end + 16, true);
  const again = bytes.slice(start, end);
  again[46] = 0x62;
  const tail = bytes.slice(end);
  const tailView = new DataView(tail.buffer);
  tailView.setUint16(8, 2, true);
  tailView.setUint16(10, 2, true);
  tailView.setUint32(12, 2 * again.length, true);
  return Uint8Array.from([...bytes.subarray(0, end), ...again, ...tail]);
}
