// Attention on subgroup matrices for every vendor's shapes, computed by the simulator and compared with the CPU; see products.test.ts.
import { describe, expect, it } from "vitest";
import { expandLayout } from "../../src/layout.ts";
import { Pair } from "../gpu/pair.ts";
import { all, simulated, type VendorName, vendorNames } from "./vendors.ts";

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
  "512, growing": { width: 512, dtype: "bf16", queries: 18, keys: 70, growing: true },
};

const tolerances = { f16: 4e-4, bf16: 3e-3, f32: 1e-3 } as const;

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
  const inputs = {
    q: pair.tensor(shape(h, queries), dtype),
    k: pair.tensor(shape(g, keys), dtype, values),
    v: pair.tensor(shape(g, keys), dtype),
    ...(mask ? { mask: maskOf() } : {}),
    ...(lengths ? { lengths: pair.tensor([batch], "i32", [...lengths]) } : {}),
  };
  const scale = (c.growing ? 4 : 1) / Math.sqrt(width);
  await pair.expectSame("attention", pair.output(shape(h, queries), "f32"), inputs, { scale, causal }, tolerances[dtype]);
}

const spread: Readonly<Partial<Record<VendorName, readonly string[]>>> = {
  NVIDIA: ["64, f16", "128, ragged lengths", "64, boolean mask", "64, growing scores", "512, growing"],
  "AMD, 64 lanes": ["512, as of autoencoders"],
  "Intel, 16 lanes": ["64, causal, grouped heads", "64, growing scores", "160, as of autoencoders"],
  Apple: ["128, additive mask", "64, growing scores"],
};
const chosen = all
  ? vendorNames.flatMap((v) => Object.keys(cases).map((c) => [v, c] as const))
  : Object.entries(spread).flatMap(([v, list]) => list.map((c) => [v as VendorName, c] as const));

describe("attention", () => {
  it.each(chosen)("%s, %s", { timeout }, async (vendor, name) => {
    const { options, ran } = simulated(vendor);
    const pair = await Pair.open(options);
    await attend(pair, cases[name]!);
    pair.close();
    expect([...ran].filter((l) => l.startsWith("attention")).join()).toMatch(/^attention \d+ matrix/);
  });
});
