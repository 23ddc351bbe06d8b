// Conversions against PyTorch's bits at the edges, and against nearest-value search over all patterns.
import { describe, expect, it } from "vitest";
import {
  bf16FromF32,
  decodeFloats,
  encodeFloats,
  f8e4m3FromF32,
  f8e5m2FromF32,
  f16FromF32,
  f32FromBf16,
  f32FromF8e4m3,
  f32FromF8e5m2,
  f32FromF16,
  roundThrough,
} from "../src/dtype-convert.ts";

const inf = Number.POSITIVE_INFINITY;

describe("narrow floats", () => {
  it("match torch's bits at the edges", () => {
    const e4 = [464, 464.1, 480, 500, inf, 447, 0.0009765625, 0.0019, 0.015, -0.3, Number.NaN].map((v) => f8e4m3FromF32(Math.fround(v)));
    expect(e4).toEqual([126, 126, 126, 126, 126, 126, 0, 1, 8, 170, 127]);
    const e5 = [61439, 61440, 65535, 1e9, inf, Number.NaN, 1e-5, 7e-6, -0.3, 3.1e-5].map((v) => f8e5m2FromF32(Math.fround(v)));
    expect(e5).toEqual([123, 124, 124, 124, 124, 127, 1, 0, 181, 2]);
    const half = [65519, 65520, 65535, 1e9, inf, Number.NaN, 1e-5, 3e-8, 2.9e-8, 6.1e-5].map((v) => f16FromF32(Math.fround(v)));
    expect(half).toEqual([31743, 31744, 31744, 31744, 31744, 32256, 168, 1, 0, 1023]);
    expect([65519, inf, 1e-5, Number.NaN].map((v) => bf16FromF32(Math.fround(v)))).toEqual([18304, 32640, 14120, 0x7fc0]);
  });

  it("keep every pattern through decode and encode", () => {
    for (let bits = 0; bits < 65536; bits++) {
      const h = f32FromF16(bits);
      if (!Number.isNaN(h)) expect(f16FromF32(h)).toBe(bits);
      const b = f32FromBf16(bits);
      if (!Number.isNaN(b)) expect(bf16FromF32(b)).toBe(bits);
    }
    for (let bits = 0; bits < 256; bits++) {
      if (!Number.isNaN(f32FromF8e4m3(bits))) expect(f8e4m3FromF32(f32FromF8e4m3(bits))).toBe(bits);
      if (!Number.isNaN(f32FromF8e5m2(bits))) expect(f8e5m2FromF32(f32FromF8e5m2(bits))).toBe(bits);
    }
  });

  it("round to the nearest, ties to even, between every two neighbours", () => {
    for (const [decode, encode, top] of [
      [f32FromF16, f16FromF32, 0x7bff],
      [f32FromBf16, bf16FromF32, 0x7f7f],
      [f32FromF8e4m3, f8e4m3FromF32, 0x7e],
      [f32FromF8e5m2, f8e5m2FromF32, 0x7b],
    ] as const) {
      for (let bits = 0; bits < top; bits++) {
        const [lo, hi] = [decode(bits), decode(bits + 1)];
        const mid = (lo + hi) / 2;
        if (Math.fround(mid) !== mid) continue;
        expect(encode(mid)).toBe(bits + (bits & 1));
        if (mid < 2 ** -126) continue;
        expect(encode(Math.fround(mid * (1 + 2 ** -22)))).toBe(bits + 1);
        expect(encode(Math.fround(mid * (1 - 2 ** -22)))).toBe(bits);
      }
    }
  });

  it("convert in bulk with steps", () => {
    const values = Float32Array.of(1, -2.5, 3.3333, Number.NaN, -inf);
    for (const dtype of ["f16", "bf16", "f8e5m2"] as const) {
      const bits = new Uint16Array(11);
      encodeFloats(dtype, values, 0, bits, 1, 5, 2);
      const back = new Float32Array(6);
      decodeFloats(dtype, bits, 1, back, 1, 5, 2);
      expect([...back.subarray(1)]).toEqual([...values].map((v) => roundThrough(dtype, v)));
    }
  });
});
