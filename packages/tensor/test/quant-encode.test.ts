// Quantizing: the bytes of the `gguf` package where it has an encoder, and errors no worse than those of ggml's own quantizers elsewhere.
import { describe, expect, it } from "vitest";
import { bytesOf, type QuantDType } from "../src/dtype.ts";
import { dequantizeInto } from "../src/quant/decode.ts";
import { quantizeInto } from "../src/quant/encode.ts";
import { asFloats, readGolden } from "./golden-file.ts";

const golden = readGolden("quant.safetensors");
const ggml = readGolden("quant-ggml.safetensors");

function encode(dtype: QuantDType, values: Float32Array): Uint8Array {
  const out = new Uint8Array(bytesOf(dtype, values.length)).fill(0xa5);
  quantizeInto(dtype, values, 0, out, 0, values.length);
  return out;
}

function decode(dtype: QuantDType, bytes: Uint8Array, count: number): Float32Array {
  const out = new Float32Array(count);
  dequantizeInto(dtype, bytes, 0, out, 0, count);
  return out;
}

/** Relative L2 error of each run of 256 values. */
function errors(want: Float32Array, got: Float32Array): number[] {
  return Array.from({ length: want.length / 256 }, (_, k) => {
    let [missed, total] = [0, 0];
    for (let i = 256 * k; i < 256 * k + 256; i++) {
      missed += (want[i]! - got[i]!) ** 2;
      total += want[i]! ** 2;
    }
    return total === 0 ? Math.sqrt(missed) : Math.sqrt(missed / total);
  });
}

const mean = (values: number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

describe("quantizeInto", () => {
  it.each(["q4_0", "q4_1", "q5_0", "q5_1", "q8_0"] as const)("%s gives the bytes of gguf", (dtype) => {
    expect(encode(dtype, asFloats(golden("encode.values")))).toEqual(golden(`encode.${dtype.toUpperCase()}`));
  });

  const values = asFloats(ggml("values"));
  it.each(["q2_K", "q3_K", "q4_K", "q5_K", "q6_K", "iq4_nl", "iq4_xs"] as const)("%s is as near as ggml", (dtype) => {
    const ours = errors(values, decode(dtype, encode(dtype, values), values.length));
    const theirs = errors(values, decode(dtype, ggml(dtype), values.length));
    expect(mean(ours)).toBeLessThanOrEqual(mean(theirs) * 1.002);
    for (const [k, error] of ours.entries()) expect(error, `block ${k}`).toBeLessThanOrEqual(theirs[k]! * 1.05 + 1e-12);
  });

  it.each(["q2_K", "q3_K", "q4_K", "q5_K", "q6_K", "iq4_nl", "iq4_xs"] as const)(
    "%s encodes its own values again without loss growing",
    (dtype) => {
      const once = decode(dtype, encode(dtype, values), values.length);
      const twice = decode(dtype, encode(dtype, once), values.length);
      expect(mean(errors(once, twice))).toBeLessThan(mean(errors(values, once)) + 1e-9);
    },
  );

  it("refuses values that are not finite, and scales beyond f16", () => {
    const x = new Float32Array(256).fill(1);
    x[40] = Number.NaN;
    expect(() => encode("q8_0", x)).toThrowErrorMatchingInlineSnapshot(
      `[DTypeError: quantize: q8_0 cannot hold NaN: value 40; keep this tensor in bf16 or mend the weights]`,
    );
    x[40] = -Infinity;
    expect(() => encode("q4_K", x)).toThrowErrorMatchingInlineSnapshot(
      `[DTypeError: quantize: q4_K cannot hold -Infinity: value 40; keep this tensor in bf16 or mend the weights]`,
    );
    x[40] = 3e8;
    for (const dtype of ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_K", "q3_K", "q4_K", "q5_K", "q6_K", "iq4_nl", "iq4_xs"] as const) {
      x[41] = dtype === "q3_K" || dtype === "q6_K" || dtype === "iq4_xs" ? 3e12 : 0;
      expect(() => encode(dtype, x)).toThrow(
        /^quantize: values up to .* need a .* scale beyond f16: block at value \d+; keep this tensor in bf16$/,
      );
    }
  });
});
