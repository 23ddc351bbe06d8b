// Attention against the CPU backend: head widths, grouped heads, masks, lengths, causal order, splitting.
import { afterAll, beforeAll, describe, it } from "vitest";
import type { PlainDType } from "../../src/dtype.ts";
import { expandLayout, permuteLayout } from "../../src/layout.ts";
import { type Both, Pair, roundingTolerance, variants } from "./pair.ts";

describe.each(variants)("%s", (_name, options) => {
  let pair: Pair;
  beforeAll(async () => {
    pair = await Pair.open(options.maxBindingBytes ? { ...options, maxBindingBytes: 98304 } : options);
  });
  afterAll(() => pair.close());

  interface Case {
    b?: number;
    n?: number;
    groups?: number;
    l?: number;
    s?: number;
    k?: number;
    kv?: number;
    dtype?: PlainDType;
    causal?: boolean;
    mask?: Both;
    lengths?: Both;
    tolerance?: number;
  }
  const attend = async ({
    b = 1,
    n = 2,
    groups = n,
    l = 9,
    s = 11,
    k = 16,
    kv = k,
    dtype = "f32",
    causal = false,
    mask,
    lengths,
    tolerance,
  }: Case): Promise<void> => {
    const q = pair.tensor([b, n, l, k], dtype);
    const keys = pair.tensor([b, groups, s, k], dtype);
    const values = pair.tensor([b, groups, s, kv], dtype);
    const inputs = { q, k: keys, v: values, ...(mask ? { mask } : {}), ...(lengths ? { lengths } : {}) };
    await pair.expectSame(
      "attention",
      pair.output([b, n, l, kv], dtype),
      inputs,
      { scale: 1 / Math.sqrt(k), causal },
      tolerance ?? roundingTolerance[dtype],
    );
  };

  it.each([4, 5, 16, 40, 64, 128, 160, 512])("head width %i", async (k) => {
    await attend({ k, l: 5, s: 37 });
  });
  it.each(["f16", "bf16"] as const)("heads of 64 in %s as the matrix tier takes them: grouped and causal", async (dtype) => {
    await attend({ n: 4, groups: 2, k: 64, l: 40, s: 70, dtype, causal: true, tolerance: dtype === "f16" ? 1e-3 : 2e-3 });
  });
  it("values of another width", () => attend({ k: 8, kv: 20 }));
  it.each(["f16", "bf16"] as const)("%s", (dtype) => attend({ dtype, k: 24, l: 70, s: 70 }));
  it("odd widths in 16 bits", () => attend({ dtype: "f16", k: 7, kv: 5 }));
  it("many queries and keys, batches", () => attend({ b: 2, n: 3, l: 150, s: 200, k: 32 }));
  it("grouped heads", () => attend({ b: 2, n: 6, groups: 2 }));
  it("causal, more keys than queries and fewer", async () => {
    await attend({ causal: true, l: 40, s: 70 });
    await attend({ causal: true, l: 70, s: 40 });
  });
  it("boolean mask; a query without keys gives zeros", async () => {
    const values = Uint8Array.from({ length: 9 * 11 }, (_, i) => (i < 11 ? 0 : (i * 7) % 3 ? 1 : 0));
    await attend({ mask: pair.tensor([1, 1, 9, 11], "u8", values, (l) => expandLayout("t", l, [1, 2, 9, 11])) });
  });
  it("additive mask per head, with -inf", async () => {
    const mask = pair.tensor(
      [2, 9, 11],
      "f32",
      Float32Array.from({ length: 198 }, (_, i) => (i % 5 === 0 ? -Infinity : Math.sin(i))),
      (l) => expandLayout("t", l, [1, 2, 9, 11]),
    );
    await attend({ mask });
  });
  it("lengths per sample, causal as well", async () => {
    await attend({ b: 3, lengths: pair.tensor([3], "i32", [11, 0, 5]) });
    await attend({ b: 2, lengths: pair.tensor([2], "i32", [4, 11]), causal: true });
  });
  it("large scores do not overflow", async () => {
    const big = (shape: number[]): Both =>
      pair.tensor(
        shape,
        "f32",
        Float32Array.from({ length: shape.reduce((x, y) => x * y) }, (_, i) => 60 * Math.sin(i)),
      );
    const inputs = { q: big([1, 1, 20, 16]), k: big([1, 1, 50, 16]), v: pair.tensor([1, 1, 50, 16]) };
    await pair.expectSame("attention", pair.output([1, 1, 20, 16], "f32"), inputs, { scale: 0.25, causal: false }, 1e-5);
  });
  it("token-major views in and out", async () => {
    const view = (l: number, dtype: PlainDType): Both =>
      pair.tensor([2, l, 3, 16], dtype, undefined, (x) => permuteLayout(x, [0, 2, 1, 3]));
    for (const dtype of ["f32", "bf16"] as const) {
      const out = pair.output([2, 9, 3, 16], dtype, (x) => permuteLayout(x, [0, 2, 1, 3]));
      await pair.expectSame(
        "attention",
        out,
        { q: view(9, dtype), k: view(13, dtype), v: view(13, dtype) },
        { scale: 0.25, causal: false },
        roundingTolerance[dtype],
      );
    }
  });
});
