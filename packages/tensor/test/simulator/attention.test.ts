// Attention on subgroup matrices for every vendor's shapes, computed by the simulator and compared with the CPU; see products.test.ts.
import { describe, expect, it } from "vitest";
import { createWebGpuBackend } from "../../src/backends/webgpu/index.ts";
import type { AttentionVariantName } from "../../src/backends/webgpu/kernels/attention-variants.ts";
import { attentionFailure } from "../../src/backends/webgpu/self-test-attention.ts";
import { expandLayout } from "../../src/layout.ts";
import type { View } from "../../src/view.ts";
import { noise, Pair } from "../gpu/pair.ts";

import {
  all,
  hasAttention,
  matrixAttentions,
  simulated,
  simulatedAttention,
  twoPartsFit,
  type VendorName,
  vendorNames,
} from "./vendors.ts";

const timeout = 600_000;

interface Case {
  readonly width: number;
  readonly dtype: "f16" | "bf16" | "f32";
  readonly heads?: readonly [number, number];
  readonly queries?: number;
  readonly keys?: number;
  readonly causal?: boolean;
  readonly mask?: "additive" | "boolean";
  readonly lengths?: readonly number[];
  /** Makes scores spread, so that running maxima grow late and the output is rescaled. */
  readonly growing?: boolean;
  /** Largest of q, k and v. */
  readonly magnitudes?: readonly [number, number, number];
  /** Of k and v, if not `dtype`. */
  readonly stored?: "bf16";
}

const cases: Readonly<Record<string, Case>> = {
  "64, f16": { width: 64, dtype: "f16", queries: 70, keys: 90 },
  "64, causal, grouped heads": { width: 64, dtype: "f16", heads: [4, 2], queries: 66, keys: 66, causal: true },
  "128, ragged lengths": { width: 128, dtype: "bf16", heads: [2, 2], queries: 33, keys: 75, lengths: [75, 13] },
  "128, additive mask": { width: 128, dtype: "f16", queries: 40, keys: 50, mask: "additive" },
  "64, boolean mask": { width: 64, dtype: "bf16", heads: [2, 1], queries: 40, keys: 50, mask: "boolean" },
  "64, growing scores": { width: 64, dtype: "f16", queries: 17, keys: 130, growing: true },
  "160, as of autoencoders": { width: 160, dtype: "f16", queries: 20, keys: 33 },
  "512, as of autoencoders": { width: 512, dtype: "f16", queries: 18, keys: 40 },
  "64, f32": { width: 64, dtype: "f32", queries: 70, keys: 90 },
  "128, f32, causal, grouped heads": { width: 128, dtype: "f32", heads: [4, 2], queries: 34, keys: 70, causal: true },
  "128, f32, boolean mask, growing": { width: 128, dtype: "f32", queries: 20, keys: 100, mask: "boolean", growing: true },
  "64, f32, large and small": { width: 64, dtype: "f32", queries: 20, keys: 50, lengths: [50, 20], magnitudes: [1e9, 1e-9, 1e7] },
  "128, f32 queries only": { width: 128, dtype: "f32", queries: 20, keys: 40, stored: "bf16" },
  "512, f32": { width: 512, dtype: "f32", queries: 18, keys: 40 },
  "512, growing": { width: 512, dtype: "bf16", queries: 18, keys: 70, growing: true },
};

/** f32 has the gate of the golden rows. */
const tolerances = { f16: 4e-4, bf16: 3e-3, f32: 4e-6 } as const;

async function attend(pair: Pair, c: Case): Promise<void> {
  const { width, dtype, heads: [h, g] = [1, 1], queries = 40, keys = 40, causal = false, mask, lengths } = c;
  const batch = lengths?.length ?? 1;
  const shape = (n: number, rows: number): number[] => [batch, n, rows, width];
  // Later keys are longer, so scores grow along the row.
  const values = c.growing ? Float32Array.from({ length: keys * width }, (_, i) => Math.sin(i * 1.7) * (1 + i / width / 6)) : undefined;
  const maskOf = (): ReturnType<Pair["tensor"]> =>
    mask === "boolean"
      ? pair.tensor(
          [queries, keys],
          "u8",
          Uint8Array.from({ length: queries * keys }, (_, i) => (i * 7) % 3),
          (l) => expandLayout("t", l, [batch, h, queries, keys]),
        )
      : pair.tensor([queries, keys], "f32", undefined, (l) => expandLayout("t", l, [batch, h, queries, keys]));
  const large = (i: number, n: number, rows: number): Float32Array | undefined =>
    c.magnitudes && noise(batch * n * rows * width, i + 7).map((v) => v * c.magnitudes![i]!);
  const stored = c.stored ?? dtype;
  const inputs = {
    q: pair.tensor(shape(h, queries), dtype, large(0, h, queries)),
    k: pair.tensor(shape(g, keys), stored, values ?? large(1, g, keys)),
    v: pair.tensor(shape(g, keys), stored, large(2, g, keys)),
    ...(mask ? { mask: maskOf() } : {}),
    ...(lengths ? { lengths: pair.tensor([batch], "i32", [...lengths]) } : {}),
  };
  const scale = (c.growing ? 4 : 1) / Math.sqrt(width);
  await pair.expectSame("attention", pair.output(shape(h, queries), "f32"), inputs, { scale, causal }, tolerances[dtype]);
}

const fits = (vendor: VendorName, name: string): boolean => twoPartsFit(vendor, cases[name]!.dtype, cases[name]!.width);

const spread: Readonly<Partial<Record<VendorName, readonly string[]>>> = {
  NVIDIA: ["64, f16", "128, ragged lengths", "64, growing scores", "64, f32", "128, f32, boolean mask, growing", "512, growing"],
  "AMD, 64 lanes": ["128, f32, causal, grouped heads", "512, f32"],
  "Intel, 16 lanes": ["64, causal, grouped heads", "64, f32, large and small", "160, as of autoencoders"],
  Apple: ["128, additive mask", "64, growing scores", "64, f32"],
  "lavapipe of Mesa 26": ["128, f32 queries only"],
};
const chosen = all
  ? vendorNames.flatMap((v) => Object.keys(cases).flatMap((c) => (fits(v, c) ? [[v, c] as const] : [])))
  : Object.entries(spread).flatMap(([v, list]) => list.map((c) => [v as VendorName, c] as const));

/** Vendor, variant, and which of the cases. */
const variants: readonly (readonly [VendorName, AttentionVariantName, readonly string[]])[] = [
  ["NVIDIA", "matrix 1", ["64, f32"]],
  ["NVIDIA", "matrix 2", ["64, growing scores"]],
  ["AMD, 64 lanes", "matrix 2 ahead", ["128, f32, boolean mask, growing"]],
  ["Intel, 16 lanes", "matrix 1 ahead in 8", ["64, f32"]],
  ["NVIDIA", "matrix 1 ahead turned", ["128, ragged lengths", "64, f32, large and small", "128, f32, boolean mask, growing"]],
  ["NVIDIA", "matrix 1 ahead turned in 8", ["512, growing"]],
  ["AMD, 64 lanes", "matrix 1 turned", ["64, causal, grouped heads", "512, f32"]],
  ["AMD, 64 lanes", "matrix 2 turned", ["128, f32 queries only"]],
  ["lavapipe of Mesa 26", "matrix 1 turned", ["64, f16"]],
];
const everyVariant = vendorNames.flatMap((v) => matrixAttentions.map((a) => [v, a, Object.keys(cases).filter((c) => fits(v, c))] as const));

describe.each(all ? everyVariant : variants)("%s, %s", (vendor, variant, list) => {
  it.each(list)("%s", { timeout }, async (name) => {
    const { options, ran } = await simulatedAttention(vendor, variant);
    const pair = await Pair.open(options);
    await attend(pair, cases[name]!);
    pair.close();
    const { dtype, width } = cases[name]!;
    const expected = hasAttention(vendor, variant, dtype, width) ? `attention ${width} ${variant} of` : "attention";
    expect([...ran].filter((l) => l.startsWith(expected)).length, [...ran].join()).toBe(1);
  });
});

it("the self-test passes, also with products rounded once", { timeout }, async () => {
  for (const more of [{}, { float32MatmulPrecision: "high" }] as const) {
    const { options, ran } = simulated("NVIDIA");
    const backend = await createWebGpuBackend({ ...options, ...more });
    const made: View[] = [];
    expect(await attentionFailure(backend, made)).toBeUndefined();
    expect([...ran].join()).toContain("attention 64 matrix 1 ahead");
    for (const { buffer } of made) backend.release(buffer);
    backend.destroy();
  }
});

describe("attention", () => {
  it.each(chosen)("%s, %s", { timeout }, async (vendor, name) => {
    const { options, ran } = simulated(vendor);
    const pair = await Pair.open(options);
    await attend(pair, cases[name]!);
    pair.close();
    expect([...ran].filter((l) => l.startsWith("attention")).join()).toMatch(/^attention \d+ matrix/);
  });
});

it("a key with a score of -inf has no weight, and infinities in values reach their columns only", { timeout }, async () => {
  const pair = await Pair.open(simulated("NVIDIA").options);
  const shape = [1, 1, 20, 64];
  const positive = pair.tensor(shape, "f32", noise(20 * 64).map(Math.abs));
  const odd = (at: number, value: number): ReturnType<Pair["tensor"]> => {
    const values = noise(20 * 64, 5);
    values[at] = value;
    return pair.tensor(shape, "f32", values);
  };
  const inputs = { q: positive, k: odd(3 * 64, Number.NEGATIVE_INFINITY), v: odd(7 * 64 + 1, Number.POSITIVE_INFINITY) };
  // Without low parts the weights are f16.
  await pair.expectSame("attention", pair.output(shape, "f32"), inputs, { scale: 0.125, causal: false }, 1e-3);
  pair.close();
});
