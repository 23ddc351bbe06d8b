// GGUF: a file written by the gguf package read back, and malformed ones refused.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { openGguf } from "../src/loaders/gguf.ts";
import { fileSource, memorySource } from "../src/loaders/source.ts";
import { readTensorBytes } from "../src/loaders/weight-source.ts";
import { readGolden } from "./golden-file.ts";

const expected = readGolden("formats/expected.safetensors");
const path = fileURLToPath(new URL("./goldens/formats/all.gguf", import.meta.url));
const whole = Uint8Array.from(readFileSync(path));

describe("openGguf", () => {
  it("reads every key-value type", async () => {
    const weights = await openGguf(await fileSource(path));
    await weights.close();
    const ours = [...weights.metadata].filter(([key]) => !key.startsWith("general.quant"));
    expect(ours).toMatchInlineSnapshot(`
      [
        [
          "general.architecture",
          "flux",
        ],
        [
          "k.u8",
          200,
        ],
        [
          "k.i8",
          -100,
        ],
        [
          "k.u16",
          60000,
        ],
        [
          "k.i16",
          -30000,
        ],
        [
          "k.u32",
          4000000000,
        ],
        [
          "k.i32",
          -2000000000,
        ],
        [
          "k.f32",
          0.5,
        ],
        [
          "k.f64",
          0.1,
        ],
        [
          "k.u64",
          9223372036854775808n,
        ],
        [
          "k.i64",
          -1099511627776n,
        ],
        [
          "k.bool",
          true,
        ],
        [
          "k.string",
          "ünï",
        ],
        [
          "k.ints",
          Int32Array [
            1,
            2,
            3,
          ],
        ],
        [
          "k.strings",
          [
            "a",
            "",
            "ç",
          ],
        ],
      ]
    `);
  });

  it("reads every element type", async () => {
    const weights = await openGguf(await fileSource(path));
    const kinds: Record<string, string> = {};
    for (const entry of weights.entries.values()) {
      kinds[entry.name] = `${entry.storedDtype} ${entry.dtype} [${entry.shape}]`;
      const bytes = await readTensorBytes(weights, entry.name, { chunkBytes: 1000 });
      expect(bytes.length).toBe(entry.byteLength);
      if (entry.dtype.includes("q")) expect(bytes).toEqual(expected(`gguf/${entry.storedDtype}`));
    }
    expect(await readTensorBytes(weights, "t.f32")).toEqual(expected("gguf/f32"));
    expect(await readTensorBytes(weights, "t.f64")).toEqual(expected("gguf/f32"));
    expect([...new Int32Array((await readTensorBytes(weights, "t.i8")).buffer)]).toEqual([-1, 5]);
    expect([...new BigInt64Array((await readTensorBytes(weights, "t.i64")).buffer)]).toEqual([-1n, 5n]);
    await weights.close();
    expect(kinds).toMatchInlineSnapshot(`
      {
        "t.IQ4_NL": "IQ4_NL iq4_nl [3,512]",
        "t.IQ4_XS": "IQ4_XS iq4_xs [3,512]",
        "t.Q2_K": "Q2_K q2_K [3,512]",
        "t.Q3_K": "Q3_K q3_K [3,512]",
        "t.Q4_0": "Q4_0 q4_0 [3,512]",
        "t.Q4_1": "Q4_1 q4_1 [3,512]",
        "t.Q4_K": "Q4_K q4_K [3,512]",
        "t.Q5_0": "Q5_0 q5_0 [3,512]",
        "t.Q5_1": "Q5_1 q5_1 [3,512]",
        "t.Q5_K": "Q5_K q5_K [3,512]",
        "t.Q6_K": "Q6_K q6_K [3,512]",
        "t.Q8_0": "Q8_0 q8_0 [3,512]",
        "t.bf16": "BF16 bf16 [3,512]",
        "t.f16": "F16 f16 [3,512]",
        "t.f32": "F32 f32 [3,512]",
        "t.f64": "F64 f32 [3,512]",
        "t.i16": "I16 i32 [2]",
        "t.i32": "I32 i32 [2]",
        "t.i64": "I64 i64 [2]",
        "t.i8": "I8 i32 [2]",
      }
    `);
  });

  it("reads version 2", async () => {
    const weights = await openGguf(memorySource(patched(4, [2]), "v2.gguf"));
    expect(weights.entries.size).toBe(20);
  });
});

function patched(at: number, bytes: readonly number[]): Uint8Array {
  const copy = whole.slice();
  copy.set(bytes, at);
  return copy;
}

/** Builds a GGUF by hand: `numbers` are [byte width, value], text is written with its length. */
function build(...parts: readonly (readonly [1 | 4 | 8, number | bigint] | string | Uint8Array)[]): Uint8Array {
  const out: number[] = [];
  const put = (width: number, value: bigint): void => {
    for (let i = 0; i < width; i++) out.push(Number((value >> BigInt(8 * i)) & 255n));
  };
  for (const part of parts) {
    if (part instanceof Uint8Array) out.push(...part);
    else if (typeof part !== "string") put(part[0], BigInt(part[1]));
    else {
      const text = new TextEncoder().encode(part);
      put(8, BigInt(text.length));
      out.push(...text);
    }
  }
  return Uint8Array.from(out);
}

const head = (tensors: number | bigint, keys: number | bigint): Uint8Array => build([4, 0x46554747], [4, 3], [8, tensors], [8, keys]);
const tensor = (name: string, dims: readonly (number | bigint)[], type: number, offset: number | bigint): Uint8Array =>
  build(name, [4, dims.length], ...dims.map((d) => [8, d] as const), [4, type], [8, offset]);
const join = (...parts: readonly Uint8Array[]): Uint8Array => Uint8Array.from(parts.flatMap((p) => [...p]));
const data = new Uint8Array(256);

describe("openGguf refuses", () => {
  it.each<[string, Uint8Array]>([
    ["another magic number", patched(0, [0x48])],
    ["version 1", patched(4, [1])],
    ["big-endian", patched(4, [0, 0, 0, 3])],
    ["an empty file", new Uint8Array(0)],
    ["2^40 tensors", head(2 ** 40, 0)],
    ["2^64-1 tensors", head(2n ** 64n - 1n, 0)],
    ["2^40 keys", head(0, 2 ** 40)],
    ["a key of 2^62 bytes", join(head(0, 1), build([8, 2n ** 62n]))],
    ["a key longer than the file", join(head(0, 1), build([8, 60000]))],
    ["a string longer than the file", join(head(0, 1), build("k", [4, 8], [8, 50_000_000]))],
    ["an array of 2^40 numbers", join(head(0, 1), build("k", [4, 9], [4, 6], [8, 2 ** 40]))],
    ["an array of numbers longer than the file", join(head(0, 1), build("k", [4, 9], [4, 6], [8, 40_000_000]))],
    ["an array of strings longer than the file", join(head(0, 1), build("k", [4, 9], [4, 8], [8, 40_000_000]))],
    [
      "arrays nested too deep",
      join(
        head(0, 1),
        build(
          "k",
          [4, 9],
          ...Array.from(
            { length: 8 },
            () =>
              [
                [4, 9],
                [8, 1],
              ] as const,
          ).flat(),
        ),
      ),
    ],
    ["an unknown value type", join(head(0, 1), build("k", [4, 99]))],
    ["a key that is not UTF-8", join(head(0, 1), build([8, 1], [1, 0xff]))],
    ["a repeated key", join(head(0, 2), build("k", [4, 0], [1, 1], "k", [4, 0], [1, 1]))],
    ["an alignment of 24", join(head(0, 1), build("general.alignment", [4, 4], [4, 24]))],
    ["9 dimensions", join(head(1, 0), tensor("t", [1, 1, 1, 1, 1, 1, 1, 1, 1], 0, 0), data)],
    ["a dimension of 2^63", join(head(1, 0), tensor("t", [2n ** 63n], 0, 0), data)],
    ["dimensions whose product overflows", join(head(1, 0), tensor("t", [2 ** 30, 2 ** 30], 0, 0), data)],
    ["an unknown element type", join(head(1, 0), tensor("t", [32], 77, 0), data)],
    ["an element type that is not supported", join(head(1, 0), tensor("t", [32], 18, 0), data)],
    ["rows that are not whole blocks", join(head(1, 0), tensor("t", [33], 8, 0), data)],
    ["a repeated tensor", join(head(2, 0), tensor("t", [1], 0, 0), tensor("t", [1], 0, 32), data)],
    ["overlapping tensors", join(head(2, 0), tensor("a", [16], 0, 0), tensor("b", [16], 0, 32), data)],
    ["an offset that is not aligned", join(head(1, 0), tensor("t", [1], 0, 4), data)],
    ["an offset out of range", join(head(1, 0), tensor("t", [1], 0, 2 ** 40), data)],
    ["truncated data", whole.subarray(0, whole.length - 100)],
  ])("%s", async (_, bytes) => {
    const outcome = await openGguf(memorySource(bytes, "bad.gguf")).then(() => "opened", String);
    expect(outcome).toMatchSnapshot();
    expect(outcome).toMatch(/^FormatError: openGguf: /);
  });
});
