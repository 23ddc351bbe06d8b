// The T5 encoder module by module against transformers.
import { cpu } from "@wick/tensor";
import { expect, test } from "vitest";
import { t5Bucket, t5Xxl } from "../src/index.ts";
import { t5Parity } from "./parity-cases.ts";

test("every module agrees with transformers", async () => {
  using device = cpu();
  const compared = await t5Parity(device);
  expect(compared.length).toBe(19);
  expect(device.liveBytes).toBe(0);
});

test("a wrong constant is noticed, and the first module it spoils is named", async () => {
  using device = cpu();
  await expect(t5Parity(device, { eps: 1e-5 })).rejects.toThrow(/first to diverge is encoder\.block\.0\.layer\.0\.layer_norm: /);
  const bias = /first to diverge is encoder\.block\.0\.layer\.0\.SelfAttention\.relative_attention_bias: /;
  await expect(t5Parity(device, { maxDistance: 127 })).rejects.toThrow(bias);
  await expect(t5Parity(device, { buckets: 16 })).rejects.toThrow(/relative_attention_bias/);
  expect(device.liveBytes).toBe(0);
});

test("buckets begin where transformers' do", () => {
  const starts = (sign: number) => {
    const buckets = Array.from({ length: 600 }, (_, d) => t5Bucket(sign * d, t5Xxl));
    return buckets.flatMap((b, d) => (b === buckets[d - 1] ? [] : [[d, b]]));
  };
  const bounds = [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91];
  expect(starts(-1)).toEqual(bounds.map((d, i) => [d, i]));
  expect(starts(1)).toEqual(bounds.map((d, i) => [d, i === 0 ? 0 : 16 + i]));
});
