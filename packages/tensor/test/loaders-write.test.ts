// Writers: what they write is read back by our readers, by @huggingface/gguf and (tools/reference/formats_check.py) by the Python libraries.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gguf } from "@huggingface/gguf";
import { unzipSync } from "fflate";
import { afterAll, describe, expect, it } from "vitest";
import { bytesOf, type DType } from "../src/dtype.ts";
import { openGguf } from "../src/loaders/gguf.ts";
import { openNpz } from "../src/loaders/npy.ts";
import { openWeights } from "../src/loaders/open.ts";
import { openSafetensors } from "../src/loaders/safetensors.ts";
import { memorySink, writeFileAtomically } from "../src/loaders/sink.ts";
import { memorySource } from "../src/loaders/source.ts";
import { readTensorBytes, type WeightSource } from "../src/loaders/weight-source.ts";
import { type WritableTensor, writableTensors, writeGguf, writeNpz, writeSafetensors } from "../src/loaders/write.ts";
import { crc32 } from "../src/loaders/zip-writer.ts";
import { quantizeInto } from "../src/quant/encode.ts";
import { torchCpu } from "../src/random/torch-cpu.ts";

const folder = mkdtempSync(join(tmpdir(), "wick-write-"));
afterAll(() => rmSync(folder, { recursive: true }));
const golden = (name: string): string => fileURLToPath(new URL(`./goldens/formats/${name}`, import.meta.url));

/** A tensor of random bytes (finite values), given in two pieces. */
function tensor(name: string, dtype: DType, shape: readonly number[]): WritableTensor {
  const bytes = new Uint8Array(
    bytesOf(
      dtype,
      shape.reduce((a, b) => a * b, 1),
    ),
  );
  for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 37 + name.length) & 0x3b;
  return { name, dtype, shape, bytes: () => [bytes.subarray(0, bytes.length >> 1), bytes.subarray(bytes.length >> 1)] };
}

const bytesIn = (t: WritableTensor): Uint8Array => Uint8Array.from([...(t.bytes() as Iterable<Uint8Array>)].flatMap((p) => [...p]));

async function expectSame(weights: WeightSource, tensors: readonly WritableTensor[]): Promise<void> {
  expect([...weights.entries.keys()].sort()).toEqual(tensors.map((t) => t.name).sort());
  for (const t of tensors) {
    const entry = weights.entries.get(t.name)!;
    expect([entry.dtype, ...entry.shape], t.name).toEqual([t.dtype, ...t.shape]);
    expect(await readTensorBytes(weights, t.name), t.name).toEqual(bytesIn(t));
  }
}

describe("writeSafetensors", () => {
  const dtypes: DType[] = ["u8", "f8e4m3", "f8e5m2", "bf16", "f16", "f32", "i32", "u32", "i64"];
  const tensors = [...dtypes.map((d) => tensor(`w.${d}`, d, [3, 5])), tensor("scalar", "f32", []), tensor('q"uo\\te', "u8", [0, 2])];

  it("writes every plain dtype, aligned, with notes", async () => {
    const sink = memorySink();
    await writeSafetensors(sink, tensors, { format: "pt", note: "ü" });
    const weights = await openSafetensors(memorySource(sink.bytes(), "a.safetensors"));
    expect(Object.fromEntries(weights.metadata)).toEqual({ format: "pt", note: "ü" });
    await expectSame(weights, tensors);
  });

  it("refuses block formats, repeated names and wrong byte counts", async () => {
    const write = (t: WritableTensor[]): Promise<void> => writeSafetensors(memorySink(), t);
    await expect(write([tensor("a", "q8_0", [32])])).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: writeSafetensors: safetensors has no q8_0: a; write GGUF instead]`,
    );
    await expect(write([tensor("a", "u8", [1]), tensor("a", "u8", [1])])).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: writeSafetensors: two tensors of one name, or a reserved one: a]`,
    );
    await expect(write([{ ...tensor("a", "u8", [5]), shape: [6] }])).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: writeSafetensors: 5 of 6 bytes came for a u8 [6]]`,
    );
    await expect(write([{ ...tensor("a", "u8", [5]), shape: [4] }])).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: writeSafetensors: more than 4 bytes came for a u8 [4]]`,
    );
  });
});

describe("writeGguf", () => {
  const dtypes: DType[] = [
    "f32",
    "f16",
    "bf16",
    "i32",
    "i64",
    "q4_0",
    "q4_1",
    "q5_0",
    "q5_1",
    "q8_0",
    "q2_K",
    "q3_K",
    "q4_K",
    "q5_K",
    "q6_K",
    "iq4_nl",
    "iq4_xs",
  ];
  const tensors = dtypes.map((d) => tensor(`w.${d}`, d, [3, 256]));
  const metadata = {
    "general.architecture": "flux",
    "general.file_type": 7,
    name: "ünï",
    on: true,
    big: 2 ** 40,
    below: -5,
    half: 0.5,
    list: ["a", "b"],
    ints: Int32Array.of(1, -2),
    exact: { type: "u8", value: 200 },
    none: { type: "string", value: [] },
  } as const;

  it("is read by our reader and by @huggingface/gguf", async () => {
    const path = join(folder, "a.gguf");
    await writeFileAtomically(path, (sink) => writeGguf(sink, tensors, metadata));
    await expectSame(await openWeights(path), tensors);
    const theirs = await gguf(path, { allowLocalFile: true });
    expect(theirs.tensorInfos.map((t) => [t.name, ...t.shape.map(Number)])).toEqual(
      tensors.map((t) => [t.name, ...[...t.shape].reverse()]),
    );
    const ours = await openGguf(memorySource(readFileSync(path)));
    const offsets = theirs.tensorInfos.map((t) => Number(theirs.tensorDataOffset) + Number(t.offset));
    expect([...ours.entries.values()].map((e) => (e as unknown as { offset: number }).offset)).toEqual(offsets);
    expect(theirs.metadata).toMatchObject({
      "general.architecture": "flux",
      name: "ünï",
      on: true,
      big: 2n ** 40n,
      below: -5n,
      half: 0.5,
      exact: 200,
    });
    expect(Object.fromEntries(ours.metadata)).toMatchObject({
      list: ["a", "b"],
      ints: Int32Array.of(1, -2),
      none: [],
      "general.file_type": 7,
    });
  });

  it("reads the file of the gguf package as @huggingface/gguf does", async () => {
    const theirs = await gguf(golden("all.gguf"), { allowLocalFile: true });
    const ours = await openWeights(golden("all.gguf"));
    const offsets = theirs.tensorInfos.map((t) => [t.name, Number(theirs.tensorDataOffset) + Number(t.offset)]);
    expect([...ours.entries.values()].map((e) => [e.name, (e as unknown as { offset: number }).offset])).toEqual(offsets);
  });

  it("quantizes a safetensors file while it streams", async () => {
    const values = torchCpu(1).randn(512 * 64);
    const plain = memorySink();
    const source = { name: "w", dtype: "f32" as DType, shape: [64, 512], bytes: () => [new Uint8Array(values.buffer)] };
    await writeSafetensors(plain, [source, tensor("b", "f32", [7])]);
    const opened = await openWeights(memorySource(plain.bytes(), "w.safetensors"));
    const sink = memorySink();
    await writeGguf(
      sink,
      writableTensors(opened, (e) => (e.shape.length > 1 ? "q4_K" : e.dtype)),
      { "general.architecture": "flux" },
    );
    const want = new Uint8Array(bytesOf("q4_K", values.length));
    quantizeInto("q4_K", values, 0, want, 0, values.length);
    const back = await openWeights(memorySource(sink.bytes(), "w.gguf"));
    expect(await readTensorBytes(back, "w")).toEqual(want);
    expect(back.entries.get("b")?.dtype).toBe("f32");
  });

  it("refuses dtypes GGUF lacks and rows that are not whole blocks", async () => {
    await expect(writeGguf(memorySink(), [tensor("a", "f8e4m3", [4])])).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: writeGguf: GGUF has no f8e4m3: a; convert it to f32, f16, bf16 or a block format]`,
    );
    await expect(writeGguf(memorySink(), [tensor("a", "q4_K", [2, 128])])).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: writeGguf: rows are not whole q4_K blocks of 256: a [2, 128]]`,
    );
    await expect(writeGguf(memorySink(), [], { a: [] })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: writeGguf: an empty list has no type: a; give { type, value }]`,
    );
  });
});

describe("writeNpz", () => {
  const dtypes: DType[] = ["f32", "f16", "i64", "i32", "u32", "u8"];
  const tensors = [...dtypes.map((d) => tensor(`w.${d}`, d, [3, 5])), tensor("one", "f32", [4]), tensor("scalar", "f32", [])];

  it("is read by our reader and by fflate", async () => {
    const sink = memorySink();
    await writeNpz(sink, tensors);
    await expectSame(await openNpz(memorySource(sink.bytes())), tensors);
    expect(Object.keys(unzipSync(sink.bytes()))).toEqual(tensors.map((t) => `${t.name}.npy`));
  });

  it("refuses bf16", async () => {
    await expect(writeNpz(memorySink(), [tensor("a", "bf16", [2])])).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: writeNpz: NumPy has no bf16: a; convert it to f32]`,
    );
  });

  it("has the checksum of ZIP", () => {
    expect(crc32(new TextEncoder().encode("123456789"))).toBe(0xcbf43926);
  });
});

describe("writeFileAtomically", () => {
  it("leaves nothing behind when writing fails, and keeps an older file", async () => {
    const path = join(folder, "kept.safetensors");
    writeFileSync(path, "old");
    const failing = { ...tensor("a", "u8", [4]), bytes: () => [] };
    await expect(writeFileAtomically(path, (sink) => writeSafetensors(sink, [failing]))).rejects.toThrow("0 of 4 bytes came for a");
    expect(readFileSync(path, "utf8")).toBe("old");
    expect(readdirSync(folder).filter((name) => name.startsWith("kept"))).toEqual(["kept.safetensors"]);
    await expect(writeFileAtomically(join(folder, "no", "such"), async () => {})).rejects.toThrow(/^writeFile: cannot write /);
  });
});
