// Generated reductions and running sums against the plain loops: rows, columns, copies, extremes and what is no number.
import { afterAll, describe, it } from "vitest";
import type { DType } from "../../src/dtype.ts";
import { contiguousLayout, permuteLayout } from "../../src/layout.ts";
import type { View } from "../../src/view.ts";
import { compare, labs, storeTolerance } from "./compare.ts";
import type { Lab } from "./lab.ts";

afterAll(() => labs.forEach((lab) => void lab.backend.destroy()));

/** [b, l, n, d] seen as [b, n, l, d]. */
const headsFirst = (lab: Lab, [b, n, l, d]: readonly [number, number, number, number], dtype: DType): View => ({
  ...lab.random([b, l, n, d], dtype),
  layout: permuteLayout(contiguousLayout([b, l, n, d]), [0, 2, 1, 3]),
});

describe("reductions", () => {
  it("of rows, planes and everything, of every float format", async () => {
    for (const kind of ["sum", "mean", "var", "norm", "max", "min", "argmax", "argmin", "prod", "logSumExp"] as const) {
      for (const [shape, rank, dtype] of [
        [[3, 70, 37], 1, "f32"],
        [[3, 70, 37], 2, "bf16"],
        [[5003], 1, "f16"],
        [[6, 1, 1], 2, "f32"],
      ] as const) {
        await compare([...shape.slice(0, -rank)], kind.startsWith("arg") ? "i32" : "f32", (lab, { reduce }, out) =>
          reduce(out, { x: lab.random(shape, dtype) }, { kind, reduceRank: rank, correction: 1, p: 2 }),
        );
      }
    }
  });

  it("of strided rows and of values that are no numbers", async () => {
    const attrs = { reduceRank: 1, correction: 0, p: 2 } as const;
    for (const kind of ["var", "max"] as const)
      await compare([2, 3, 70], "f32", (lab, { reduce }, out) =>
        reduce(out, { x: headsFirst(lab, [2, 3, 70, 37], "f32") }, { kind, ...attrs }),
      );
    const rows = [1, Number.NaN, 3, 4, 5, 6, -Infinity, 1e30, 1e30, 2, 3, Infinity];
    for (const kind of ["sum", "max", "min", "norm", "var", "argmax", "argmin", "prod", "logSumExp"] as const)
      await compare([2], kind.startsWith("arg") ? "i32" : "f32", (lab, { reduce }, out) =>
        reduce(out, { x: lab.view([2, 6], rows) }, { kind, ...attrs }),
      );
  });
});

describe("reductions over rows that lie apart", () => {
  it("of every kind and float format, of one dimension and of batches", async () => {
    for (const kind of ["sum", "mean", "var", "norm", "prod", "max", "min"] as const)
      for (const [shape, order, dtype] of [
        [[70, 131], [1, 0], "f32"],
        [[3, 40, 37], [0, 2, 1], "bf16"],
        [[2, 3, 33, 12], [0, 1, 3, 2], "f16"],
        [[5, 4, 9, 20], [0, 2, 3, 1], "f32"],
      ] as [number[], number[], "f32" | "f16" | "bf16"][]) {
        const turned = order.map((i) => shape[i]!);
        await compare(turned.slice(0, -1), "f32", (lab, { reduce }, out) =>
          reduce(
            out,
            { x: { ...lab.random(shape, dtype), layout: permuteLayout(contiguousLayout(shape), order) } },
            { kind, reduceRank: 1, correction: 1, p: 2 },
          ),
        );
      }
    const rows = [Number.NaN, 1, 2, 3, 4, 5, 6, 1e30, ...[1, Infinity, 2, 3, 3, -1, 7, 1e30], ...[1, -Infinity, 2, 3, 5, -1, 8, -1e30]];
    for (const kind of ["var", "max", "min", "sum", "norm"] as const)
      await compare([8], "f32", (lab, { reduce }, out) =>
        reduce(
          out,
          { x: { ...lab.view([3, 8], rows), layout: permuteLayout(contiguousLayout([3, 8]), [1, 0]) } },
          { kind, reduceRank: 1, correction: 0, p: 2 },
        ),
      );
  });
});

describe("reductions from copies and into 16 bits", () => {
  it("of columns, and of dimensions that are apart", async () => {
    for (const kind of ["sum", "var", "prod", "logSumExp", "argmax", "argmin", "max"] as const)
      for (const [shape, order, rank, dtype] of [
        [[70, 131], [1, 0], 1, "f32"],
        [[6, 40, 5, 7], [1, 0, 2, 3], 3, "f32"],
        [[70, 131], [1, 0], 1, "bf16"],
        [[6, 40, 25], [1, 0, 2], 2, "f16"],
      ] as [number[], number[], number, "f32" | "f16" | "bf16"][]) {
        const turned = order.map((i) => shape[i]!);
        const out = kind.startsWith("arg") ? "i32" : dtype;
        await compare(
          turned.slice(0, -rank),
          out,
          (lab, { reduce }, to) => {
            const x = { ...lab.random(shape, dtype), layout: permuteLayout(contiguousLayout(shape), order) };
            reduce(to, { x }, { kind, reduceRank: rank, correction: 1, p: 2 });
          },
          out === "i32" ? 0 : storeTolerance[out],
        );
      }
  });
});

describe("places and running sums", () => {
  it("finds the first of equals, infinities and what is no number in rows of several chunks", async () => {
    const length = 9001;
    const row = (at: number, value: number, fill: (i: number) => number) =>
      Array.from({ length }, (_, i) => (i >= at && i % 2 === at % 2 ? value : fill(i)));
    const rows = [
      row(8999, Number.NaN, (i) => i % 7),
      row(4097, 50, (i) => i % 7),
      row(3, Number.NEGATIVE_INFINITY, () => Number.NEGATIVE_INFINITY),
      row(5000, Number.POSITIVE_INFINITY, () => Number.NEGATIVE_INFINITY),
      row(0, 0, () => -0),
    ];
    for (const kind of ["argmax", "argmin", "logSumExp", "var"] as const)
      await compare([5], kind.startsWith("arg") ? "i32" : "f32", (lab, { reduce }, out) =>
        reduce(out, { x: lab.view([5, length], rows.flat()) }, { kind, reduceRank: 1, correction: 1, p: 2 }),
      );
  });

  it("keeps variances that are large, small beside the mean, or nothing", async () => {
    const rows = [1e19, 0.5, 1e4, 3].map((scale, r) =>
      Array.from({ length: 5000 }, (_, i) => scale + (r === 3 ? 0 : r === 0 ? (i % 5) * 1e18 : (i % 5) / 16)),
    );
    await compare([4], "f32", (lab, { reduce }, out) =>
      reduce(out, { x: lab.view([4, 5000], rows.flat()) }, { kind: "var", reduceRank: 1, correction: 1, p: 2 }),
    );
  });

  it("runs sums and products along rows", async () => {
    for (const length of [1, 3, 70, 1001]) {
      const factors = Array.from({ length: 6 * length }, (_, i) => 1 + ((i % 9) - 4) / 64);
      await compare([2, 3, 4, length], "f32", (lab, { scan }, out) =>
        scan(out, { x: headsFirst(lab, [2, 3, 4, length], "f32") }, { kind: "sum" }),
      );
      await compare([6, length], "f32", (lab, { scan }, out) => scan(out, { x: lab.view([6, length], factors) }, { kind: "prod" }));
    }
  });
});
