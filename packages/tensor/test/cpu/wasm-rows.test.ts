// Generated row kernels against the plain loops: layouts, dtypes, rows of odd length, groups larger than a chunk.
import { afterAll, describe, expect, it } from "vitest";
import type { DType } from "../../src/dtype.ts";
import { contiguousLayout, expandLayout, permuteLayout } from "../../src/layout.ts";
import { binaryNode, castNode, constNode, inputNode, type UnaryOp, unaryNode, whereNode } from "../../src/ops/expr.ts";
import type { View } from "../../src/view.ts";
import { compare, labs, storeTolerance } from "./compare.ts";
import type { Lab } from "./lab.ts";

afterAll(() => labs.forEach((lab) => void lab.backend.destroy()));

const silu = unaryNode("silu", inputNode(0, "f32"));
const [first, second] = [inputNode(0, "f32"), inputNode(1, "f32")];
/** [b, l, n, d] seen as [b, n, l, d]. */
const headsFirst = (lab: Lab, [b, n, l, d]: readonly [number, number, number, number], dtype: DType): View => ({
  ...lab.random([b, l, n, d], dtype),
  layout: permuteLayout(contiguousLayout([b, l, n, d]), [0, 2, 1, 3]),
});

describe("norms", () => {
  for (const dtype of ["f32", "bf16", "f16"] as const) {
    it(`${dtype} weights, modulated, of strided rows`, async () => {
      const shape = [2, 3, 70, 37] as const;
      await compare(
        [...shape],
        dtype,
        (lab, { norm }, out) => {
          const scale = lab.random([2, 1, 1, 37], "f32", 2);
          const operands = [{ ...scale, layout: expandLayout("t", scale.layout, [...shape]) }];
          const inputs = { x: headsFirst(lab, shape, dtype), weight: lab.random([37], dtype, 3), operands };
          norm(out, inputs, { kind: "rms", eps: 1e-6, epilogue: binaryNode("mul", first, second) });
        },
        storeTolerance[dtype],
      );
    });
  }

  it("group norm over groups larger than a chunk, with and without weights", async () => {
    for (const [area, dtype, parts] of [
      [[70, 71], "f32", "both"],
      [[3, 3], "bf16", "weight"],
      [[1, 1], "f32", "none"],
      [[130], "f16", "both"],
    ] as const) {
      const shape = [2, 12, ...area];
      await compare(
        shape,
        dtype,
        (lab, { groupNorm }, out) => {
          const weights = parts === "none" ? {} : { weight: lab.random([12], "bf16", 2) };
          const bias = parts === "both" ? { bias: lab.random([12], "f32", 3) } : {};
          const inputs = { x: lab.random(shape, dtype), ...weights, ...bias };
          groupNorm(out, inputs, { groups: 4, eps: 1e-5, ...(parts === "none" ? {} : { epilogue: silu }) });
        },
        storeTolerance[dtype],
      );
    }
  });

  it("group norm of values far from zero", async () => {
    const shape = [1, 2, 90, 100];
    const numbers = Array.from({ length: 18_000 }, (_, i) => 1000 + ((i * 7919) % 1009) / 1009);
    await compare(
      shape,
      "f32",
      (lab, { groupNorm }, out) => groupNorm(out, { x: lab.view(shape, numbers) }, { groups: 1, eps: 1e-5 }),
      // Distances from the mean keep about ten of their bits.
      1e-6,
    );
  });
});

describe("softmax and rope", () => {
  it("log-softmax, with hidden and undefined values", async () => {
    const rows = [
      [1, 2, 3, 4, 5, 6, 7, 8, 9],
      [-Infinity, 0, 90, -Infinity, 1, 2, 3, 4, 5],
      [-Infinity, -Infinity, -Infinity, -Infinity, -Infinity, -Infinity, -Infinity, -Infinity, -Infinity],
      [0, Number.NaN, 0, 0, 0, 0, 0, 0, 0],
      [0, 0, 0, 0, Infinity, 0, 0, 0, 0],
      [-1e4, 1e4, 0, 0, 0, 0, 0, 0, 0],
    ];
    for (const log of [false, true]) {
      await compare([6, 9], "f32", (lab, { softmax }, out) => softmax(out, { x: lab.view([6, 9], rows.flat()) }, { log }));
    }
    await compare([70, 1030], "f32", (lab, { softmax }, out) => softmax(out, { x: lab.random([70, 1030]) }, { log: true }));
  });

  it("a lone value has all the weight, what is hidden none", async () => {
    const hidden = [3.7, ...new Array<number>(20).fill(-Infinity)];
    for (const lab of labs) {
      for (const log of [false, true]) {
        const out = lab.out([1, 21]);
        lab.backend.kernels.softmax(out, { x: lab.view([1, 21], hidden) }, { log });
        expect(await lab.numbers(out)).toEqual(hidden.map((_, i) => (log ? (i === 0 ? 0 : -Infinity) : i === 0 ? 1 : 0)));
      }
    }
  });

  for (const interleaved of [true, false]) {
    it(`rope, ${interleaved ? "interleaved" : "in halves"}`, async () => {
      const shape = [2, 3, 65, 24] as const;
      for (const dtype of ["f32", "bf16"] as const) {
        await compare(
          [...shape],
          dtype,
          (lab, { rope }, out) => {
            const angles = (seed: number) => {
              const table = lab.random([2, 1, 65, 12], "f32", seed);
              return { ...table, layout: expandLayout("t", table.layout, [2, 3, 65, 12]) };
            };
            rope(out, { x: headsFirst(lab, shape, dtype), cos: angles(2), sin: angles(3) }, { interleaved });
          },
          storeTolerance[dtype],
        );
      }
    });

    it(`norm and rope of heads, ${interleaved ? "interleaved" : "in halves"}`, async () => {
      const [b, l, n, k] = [2, 65, 3, 24];
      for (const dtype of ["f32", "bf16"] as const) {
        for (const weight of ["none", "f32", "bf16"] as const) {
          await compare(
            [b, n, l, k],
            dtype,
            (lab, { qkNormRope }, out) => {
              // Part of a fused projection, to heads first.
              const x = {
                ...lab.random([b, l, 2, n, k], dtype),
                layout: { shape: [b, l, n, k], strides: [2 * l * n * k, 2 * n * k, k, 1], offset: n * k },
              };
              const angles = (seed: number) => ({
                ...lab.random([l, k / 2], "f32", seed),
                layout: { shape: [b, l, n, k / 2], strides: [0, k / 2, 0, 1], offset: 0 },
              });
              const inputs = { x, cos: angles(2), sin: angles(3), ...(weight === "none" ? {} : { weight: lab.random([k], weight, 4) }) };
              qkNormRope({ ...out, layout: permuteLayout(contiguousLayout([b, n, l, k]), [0, 2, 1, 3]) }, inputs, {
                eps: 1e-3,
                interleaved,
              });
            },
            storeTolerance[dtype],
          );
        }
      }
    });
  }
});

describe("products of few rows", () => {
  it("with every width of stored weights", async () => {
    for (const [m, n, k, a, b] of [
      [1, 3, 41, "f32", "bf16"],
      [2, 1, 8, "bf16", "f16"],
      [4, 4101, 259, "f16", "f32"],
      [3, 1030, 1030, "f32", "bf16"],
    ] as const) {
      for (const dtype of ["f32", "bf16"] as const) {
        const run = (lab: Lab, { matmul }: Lab["backend"]["kernels"], out: View) => {
          const weights = lab.random([n, k], b, 2);
          const bias = lab.random([n], "bf16", 3);
          const operands = [{ ...bias, layout: expandLayout("t", bias.layout, [m, n]) }];
          const inputs = { a: lab.random([m, k], a), b: { ...weights, layout: permuteLayout(weights.layout, [1, 0]) }, operands };
          if (dtype === "bf16") matmul(out, inputs, { epilogue: binaryNode("add", first, second) });
          else matmul(out, { a: inputs.a, b: inputs.b }, {});
        };
        await compare([m, n], dtype, run, storeTolerance[dtype]);
      }
    }
  });
});

describe("functions", () => {
  const grid = Array.from({ length: 4001 }, (_, i) => (i - 2000) / 50);
  const run = (numbers: readonly number[], op: UnaryOp) =>
    compare([numbers.length], "f32", (lab, { map }, out) =>
      map(out, { inputs: [lab.view([numbers.length], numbers)] }, { expr: unaryNode(op, first) }),
    );

  it("logarithms, sines and their kin over their ranges", async () => {
    for (const op of ["log", "log2", "log1p", "expm1", "softplus", "sin", "cos", "tan", "relu"] as const) {
      for (const scale of [1, 0.01, 1e-6])
        await run(op.startsWith("log") ? grid.map((v) => Math.abs(v) * scale) : grid.map((v) => v * scale), op);
    }
    for (const op of ["sin", "cos"] as const)
      await run(
        grid.map((v) => v * 3_000_017),
        op,
      );
  });

  it("special values", async () => {
    const special = [Number.NaN, Infinity, -Infinity, 0, 1, -1, 100, -100, 88.7, -103.9, 1e-40, -1e-40, -0.5, 3e38];
    for (const op of ["log", "log2", "log1p", "expm1", "softplus", "exp", "relu"] as const) await run(special, op);
  });

  it("seldom arguments among ordinary ones", async () => {
    const seldom = [Number.NaN, Infinity, -Infinity, 0, -90, 100, 1e-40, -1, 1e6];
    const mixed = Array.from({ length: 1003 }, (_, i) => (i % 37 === 5 && i % 300 < 150 ? seldom[(i / 37) & 7]! : 0.01 + (i % 61) / 7));
    for (const op of ["exp", "log", "log2", "log1p", "softplus", "silu", "gelu"] as const) await run(mixed, op);
    const angles = mixed.map((v) => (v === Infinity || v === -Infinity ? 1e6 : v));
    for (const op of ["sin", "cos", "tan"] as const) await run(angles, op);
    for (const [op, at] of [
      ["cos", 0],
      ["sin", Math.PI / 2],
    ] as const) {
      const out = labs[1].out([16]);
      labs[1].backend.kernels.map(out, { inputs: [labs[1].view([16], Array(16).fill(at))] }, { expr: unaryNode(op, first) });
      expect(await labs[1].numbers(out)).toEqual(Array(16).fill(1));
    }
  });

  it("functions of functions, in place, and tanh at its end", async () => {
    const mixed = Array.from({ length: 1600 }, (_, i) => (i % 97 === 60 && i > 700 ? 90 : (i % 61) / 9));
    const limited = binaryNode("min", unaryNode("exp", first), constNode(5, "f32"));
    const expr = unaryNode("sin", binaryNode("add", limited, unaryNode("gelu", first)));
    await compare(
      [1600],
      "f32",
      (lab, { map }, out) => {
        lab.backend.write(out.buffer, 0, new Uint8Array(Float32Array.from(mixed).buffer));
        map(out, { inputs: [out] }, { expr });
      },
      1e-5,
    );
    const ends = Array.from({ length: 1600 }, (_, i) => (i % 2 === 0 ? 1 : -1) * (7.9 + i / 100));
    for (const lab of labs) {
      const out = lab.out([1600]);
      lab.backend.kernels.map(out, { inputs: [lab.view([1600], ends)] }, { expr: unaryNode("tanh", first) });
      const results = await lab.numbers(out);
      expect(results.slice(-40).map(Math.abs)).toEqual(Array(40).fill(1));
      expect(Math.max(...results.map(Math.abs))).toBe(1);
    }
  });

  it("angles beyond the generated reduction are left to the plain loops", async () => {
    const numbers = [1, 2, 3e9, -4e20, Infinity, Number.NaN, 5];
    const [plain, fast] = labs;
    for (const op of ["sin", "cos", "tan"] as const) {
      const results: number[][] = [];
      for (const lab of [plain, fast]) {
        const out = lab.out([7]);
        lab.backend.kernels.map(out, { inputs: [lab.view([7], numbers)] }, { expr: unaryNode(op, first) });
        results.push(await lab.numbers(out));
      }
      expect(results[1]).toEqual(results[0]);
    }
  });

  it("powers of every size and sign, and C's answers at the ends", async () => {
    const power = binaryNode("pow", first, second);
    const run = (x: readonly number[], y: readonly number[]) =>
      compare([x.length], "f32", (lab, { map }, out) =>
        map(out, { inputs: [lab.view([x.length], x), lab.view([y.length], y)] }, { expr: power }),
      );
    const ends = [NaN, Infinity, -Infinity, 0, -0, 1, -1, 2, -2, 3, -3, 0.5, -0.5, 2.5, 1e-40, -1e-40, 1e30, -1e30, 16_777_217];
    await run(
      ends.flatMap((v) => ends.map(() => v)),
      ends.flatMap(() => ends),
    );
    await run(
      grid.map((v) => Math.abs(v) + 0.01),
      grid.map((_, i) => ((i * 7919) % 401) / 20 - 10),
    );
    // Results close to the ends of the range: the error of a logarithm of 128 shows here.
    await run(
      grid.map((v) => 10 ** (v / 2.2)),
      grid.map(() => 2.1),
    );
  });

  it("whole powers, tests and truth values", async () => {
    const numbers = [Number.NaN, Infinity, -Infinity, 0, 1, -1.5, 2.25, -3, 0.1, 7];
    const one = constNode(1, "f32");
    for (const exponent of [1, 2, 3, 4])
      await compare([10], "f32", (lab, { map }, out) =>
        map(out, { inputs: [lab.view([10], numbers)] }, { expr: binaryNode("pow", first, constNode(exponent, "f32")) }),
      );
    const tests = [unaryNode("isNan", first), unaryNode("isInf", first), unaryNode("isFinite", first), unaryNode("not", first)];
    for (const truth of [...tests, binaryNode("xor", tests[1]!, binaryNode("lt", first, one)), unaryNode("not", tests[0]!)])
      await compare([10], "f32", (lab, { map }, out) =>
        map(out, { inputs: [lab.view([10], numbers)] }, { expr: whereNode(truth, one, constNode(-2, "f32")) }),
      );
  });
});

describe("truth values in bytes", () => {
  it("are made, joined and chosen by, also from bytes that say more", async () => {
    const mask = inputNode(1, "u32");
    const chosen = whereNode(mask, first, constNode(-1, "f32"));
    const [above, both] = [
      binaryNode("gt", first, constNode(0.5, "f32")),
      binaryNode("and", castNode(mask, "bool"), unaryNode("isFinite", first)),
    ];
    const cases = [
      [chosen, "f32"],
      [chosen, "bf16"],
      [binaryNode("mul", first, castNode(mask, "f32")), "f32"],
      [above, "u8"],
      [both, "u8"],
      [unaryNode("not", castNode(mask, "bool")), "u8"],
    ] as const;
    for (const [expr, dtype] of cases)
      for (const wide of [false, true])
        await compare([9, 37], dtype, (lab, { map }, out) => {
          const x = lab.view(
            [9, 37],
            Array.from({ length: 333 }, (_, i) => (i % 11 === 4 ? Number.NaN : (i % 7) / 4)),
          );
          const bytes = lab.view(
            [9, 37],
            Array.from({ length: 333 }, (_, i) => [0, 1, 7, 0, 255][i % 5]!),
            "u8",
          );
          const row = { ...bytes, layout: expandLayout("t", { shape: [9, 1], strides: [37, 1], offset: 0 }, [9, 37]) };
          map(out, { inputs: expr === above ? [x] : [x, wide ? row : bytes] }, { expr });
        });
  });
});
