// Block formats against the `gguf` Python package: every bit of every value, also of blocks with zero, infinite and NaN scales.
import { describe, expect, it } from "vitest";
import { bytesOf, dtypeInfo, type QuantDType } from "../src/dtype.ts";
import { dequantizeInto } from "../src/quant/decode.ts";
import { asFloats, readGolden } from "./golden-file.ts";

const golden = readGolden("quant.safetensors");
const types: [QuantDType, string][] = (
  ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_K", "q3_K", "q4_K", "q5_K", "q6_K", "iq4_nl", "iq4_xs"] as const
).map((dtype) => [dtype, dtype.toUpperCase()]);

/** Bit patterns, with every NaN as one pattern: which NaN a scale of NaN gives is the processor's choice. */
const bits = (values: Float32Array): number[] => {
  const raw = new Uint32Array(values.buffer, values.byteOffset, values.length);
  return Array.from(values, (v, i) => (Number.isNaN(v) ? 0x7fc00000 : raw[i]!));
};

describe("dequantizeInto", () => {
  it.each(types)("%s has the bits of gguf", (dtype, name) => {
    const blocks = golden(`${name}.blocks`);
    const want = asFloats(golden(`${name}.values`));
    const got = new Float32Array(want.length);
    dequantizeInto(dtype, blocks, 0, got, 0, want.length);
    expect(bytesOf(dtype, want.length)).toBe(blocks.length);
    expect(want.some(Number.isNaN) && want.some((v) => v === Infinity) && want.some((v) => v === 0)).toBe(true);
    expect(bits(got)).toEqual(bits(want));
  });

  it.each(types)("%s decodes a middle block at offsets", (dtype, name) => {
    const { blockSize, blockBytes } = dtypeInfo[dtype];
    const want = asFloats(golden(`${name}.values`)).slice(blockSize, 2 * blockSize);
    const got = new Float32Array(blockSize + 2).fill(7);
    dequantizeInto(dtype, golden(`${name}.blocks`), blockBytes, got, 1, blockSize);
    expect(bits(got.slice(1, -1))).toEqual(bits(want));
    expect([got[0], got.at(-1)]).toEqual([7, 7]);
  });

  it("names ranges that are too short and counts that are not whole blocks", () => {
    const out = new Float32Array(64);
    expect(() => dequantizeInto("q8_0", new Uint8Array(34), 0, out, 0, 33)).toThrowErrorMatchingInlineSnapshot(
      `[DTypeError: dequantize: 33 values are not whole q8_0 blocks of 32]`,
    );
    expect(() => dequantizeInto("q8_0", new Uint8Array(67), 0, out, 0, 64)).toThrowErrorMatchingInlineSnapshot(
      `[DTypeError: dequantize: q8_0 ranges are too short: need 64 values in 68 bytes, have 64 values and 67 bytes]`,
    );
    expect(() => dequantizeInto("q8_0", new Uint8Array(68), 0, out, 32, 64)).toThrowErrorMatchingInlineSnapshot(
      `[DTypeError: dequantize: q8_0 ranges are too short: need 64 values in 68 bytes, have 32 values and 68 bytes]`,
    );
  });
});
