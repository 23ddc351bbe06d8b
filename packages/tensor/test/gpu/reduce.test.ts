// Reductions, scans and sorting against the CPU backend.
import { afterAll, beforeAll, describe, it } from "vitest";
import type { PlainDType } from "../../src/dtype.ts";
import { expandLayout, permuteLayout } from "../../src/layout.ts";
import type { ReduceKind } from "../../src/ops/table.ts";
import { Pair, variants } from "./pair.ts";

const floatKinds: ReduceKind[] = ["sum", "mean", "prod", "max", "min", "argmax", "argmin", "var", "logSumExp", "norm", "any", "all"];
const resultOf = (kind: ReduceKind, dtype: PlainDType): PlainDType =>
  kind.startsWith("arg") ? "i32" : kind === "any" || kind === "all" ? "u8" : dtype;

describe.each(variants)("%s", (_name, options) => {
  let pair: Pair;
  beforeAll(async () => {
    pair = await Pair.open(options);
  });
  afterAll(() => pair.close());

  it.each(floatKinds)("%s over one and over all dimensions", async (kind) => {
    for (const [shape, rank] of [
      [[5, 7], 1],
      [[300, 9], 1],
      [[3, 70, 11], 2],
      [[1], 1],
      [[20000], 1],
      [[4, 0], 1],
      [[2, 9000], 1],
    ] as const) {
      const empty = shape.some((d) => d === 0);
      if (empty && (kind === "max" || kind === "min" || kind.startsWith("arg") || kind === "mean")) continue; // torch refuses these, or gives NaN by division
      const scale =
        kind === "prod"
          ? (_v: number, i: number) => 1 + 0.001 * Math.sin(i)
          : (_v: number, i: number) => Math.sin(i * 1.7) + 0.01 * ((i * 31) % 17);
      const values = Float32Array.from({ length: shape.reduce<number>((a, b) => a * b, 1) }, scale);
      const lead = shape.slice(0, shape.length - rank);
      await pair.expectSame(
        "reduce",
        pair.output(lead, resultOf(kind, "f32")),
        { x: pair.tensor(shape, "f32", values) },
        { kind, reduceRank: rank, correction: 1, p: 2 },
        kind === "prod" ? 3e-5 : 3e-6,
      );
    }
  });

  it.each(["f16", "bf16", "i32", "u8"] as const)("%s, transposed and broadcast", async (dtype) => {
    const kinds: ReduceKind[] =
      dtype === "f16" || dtype === "bf16" ? ["sum", "max", "argmin", "logSumExp"] : ["sum", "max", "min", "argmax", "any", "all"];
    for (const kind of kinds) {
      const out = kind === "sum" && dtype === "u8" ? "i32" : resultOf(kind, dtype);
      const x = pair.tensor([40, 33], dtype, undefined, (l) => permuteLayout(l, [1, 0]));
      await pair.expectSame(
        "reduce",
        pair.output([33], out),
        { x },
        { kind, reduceRank: 1, correction: 0, p: 2 },
        dtype === "bf16" ? 4e-3 : 4e-4,
      );
      const wide = pair.tensor([6, 1], dtype, undefined, (l) => expandLayout("t", l, [6, 50]));
      await pair.expectSame(
        "reduce",
        pair.output([6], out),
        { x: wide },
        { kind, reduceRank: 1, correction: 0, p: 2 },
        dtype === "bf16" ? 4e-3 : 4e-4,
      );
    }
  });

  it.each([0, 1, 3, 2.5, Infinity])("norm of order %f", async (p) => {
    await pair.expectSame(
      "reduce",
      pair.output([6], "f32"),
      { x: pair.tensor([6, 40]) },
      { kind: "norm", reduceRank: 1, correction: 0, p },
      3e-6,
    );
  });

  it("NaN wins; the first of equals is found; infinities are kept", async () => {
    const values = [3, Number.NaN, 5, 3, Number.NaN, 1, 5, 5, 2, 2, -Infinity, 2, Infinity, 1, Infinity, 0];
    for (const kind of ["max", "min", "argmax", "argmin", "sum", "logSumExp", "any", "all"] as ReduceKind[]) {
      const x = pair.tensor([4, 4], "f32", values);
      await pair.expectSame("reduce", pair.output([4], resultOf(kind, "f32")), { x }, { kind, reduceRank: 1, correction: 0, p: 2 });
    }
  });

  it("variance of large values keeps its digits", async () => {
    const values = Float32Array.from({ length: 40000 }, (_, i) => 1000 + Math.sin(i));
    await pair.expectSame(
      "reduce",
      pair.output([], "f32"),
      { x: pair.tensor([40000], "f32", values) },
      { kind: "var", reduceRank: 1, correction: 1, p: 2 },
      1e-4,
    );
  });

  it.each([1, 7, 64, 1000, 3001])("running sums and products of %i values", async (n) => {
    for (const kind of ["sum", "prod"] as const) {
      const values = Float32Array.from({ length: 3 * n }, (_, i) => (kind === "prod" ? 1 + 0.001 * Math.sin(i) : Math.sin(i)));
      await pair.expectSame("scan", pair.output([3, n], "f32"), { x: pair.tensor([3, n], "f32", values) }, { kind }, 3e-6);
    }
    const ints = pair.tensor([2, n], "i32");
    await pair.expectSame("scan", pair.output([2, n], "i32"), { x: ints }, { kind: "sum" }, 0);
  });

  it.each([1, 2, 5, 100, 512, 513, 900])("argsort of %i values, stable, both orders", async (n) => {
    for (const descending of [false, true]) {
      const values = Float32Array.from({ length: 2 * n }, (_, i) =>
        i % 11 === 3 ? Number.NaN : i % 13 === 1 ? -Infinity : Math.round(5 * Math.sin(i * 1.3)),
      );
      await pair.expectSame("argsort", pair.output([2, n], "i32"), { x: pair.tensor([2, n], "f32", values) }, { descending }, 0);
      await pair.expectSame("argsort", pair.output([2, n], "i32"), { x: pair.tensor([2, n], "i32") }, { descending }, 0);
    }
  });
});
