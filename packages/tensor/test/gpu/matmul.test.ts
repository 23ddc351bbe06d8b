// Matrix multiplication against the CPU backend: layouts, dtypes, batches, epilogues, quantized weights, splitting.
import { afterAll, beforeAll, describe, it } from "vitest";
import { bytesOf, isQuantized, type PlainDType, type QuantDType } from "../../src/dtype.ts";
import { expandLayout, type Layout, narrowLayout, permuteLayout } from "../../src/layout.ts";
import { binaryNode, inputNode, unaryNode } from "../../src/ops/expr.ts";
import { quantizeInto } from "../../src/quant/encode.ts";
import { type Both, noise, Pair, roundingTolerance, variants } from "./pair.ts";

const swap = (l: Layout): Layout => permuteLayout(l, [...l.shape.keys()].slice(0, -2).concat([l.shape.length - 1, l.shape.length - 2]));
const quantized: QuantDType[] = ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_K", "q3_K", "q4_K", "q5_K", "q6_K", "iq4_nl", "iq4_xs"];

describe.each(variants)("%s", (_name, options) => {
  let pair: Pair;
  beforeAll(async () => {
    pair = await Pair.open(options);
  });
  afterAll(() => pair.close());

  const sizes: [number, number, number][] = [
    [1, 1, 1],
    [1, 64, 40],
    [3, 17, 5],
    [4, 8, 12],
    [64, 64, 64],
    [65, 33, 66],
    [100, 128, 70],
    [7, 260, 1000],
  ];
  it.each(sizes)("%i x %i x %i in all four layouts", async (m, k, n) => {
    for (const [ta, tb] of [
      [false, false],
      [false, true],
      [true, false],
      [true, true],
    ]) {
      const a = ta ? pair.tensor([k, m], "f32", undefined, swap) : pair.tensor([m, k]);
      const b = tb ? pair.tensor([n, k], "f32", undefined, swap) : pair.tensor([k, n]);
      await pair.expectSame("matmul", pair.output([m, n], "f32"), { a, b }, {}, 2e-6);
    }
  });

  it.each([
    ["f16", "f16", "f16"],
    ["f32", "bf16", "f32"],
    ["bf16", "f32", "bf16"],
    ["f32", "f16", "f16"],
  ] as PlainDType[][])("%s @ %s → %s", async (da, db, dout) => {
    for (const [m, k, n] of [
      [20, 32, 24],
      [5, 19, 7],
    ] as const) {
      const a = pair.tensor([m, k], da);
      const b = pair.tensor([n, k], db, undefined, swap);
      await pair.expectSame("matmul", pair.output([m, n], dout!), { a, b }, {}, roundingTolerance[dout!]);
    }
  });

  it("batches, broadcast on either side", async () => {
    const a = pair.tensor([2, 1, 5, 8], "f32", undefined, (l) => expandLayout("t", l, [2, 3, 5, 8]));
    const b = pair.tensor([3, 6, 8], "f32", undefined, (l) => expandLayout("t", swap(l), [2, 3, 8, 6]));
    await pair.expectSame("matmul", pair.output([2, 3, 5, 6], "f32"), { a, b }, {});
    const rows = pair.tensor([2, 3, 5, 8]);
    const one = pair.tensor([8, 6], "f32", undefined, (l) => expandLayout("t", l, [2, 3, 8, 6]));
    await pair.expectSame("matmul", pair.output([2, 3, 5, 6], "f32"), { a: rows, b: one }, {});
  });

  it("bias, gate and residual in the epilogue", async () => {
    for (const n of [24, 7]) {
      const m = 70;
      const a = pair.tensor([2, m, 32], "f16");
      const b = pair.tensor([n, 32], "bf16", undefined, (l) => expandLayout("t", swap(l), [2, 32, n]));
      const bias = pair.tensor([n], "f32", undefined, (l) => expandLayout("t", l, [2, m, n]));
      const gate = pair.tensor([2, 1, n], "f32", undefined, (l) => expandLayout("t", l, [2, m, n]));
      const residual = pair.tensor([2, m, n], "f16");
      const biased = binaryNode("add", inputNode(0, "f32"), inputNode(1, "f32"));
      const epilogue = binaryNode("add", inputNode(3, "f32"), binaryNode("mul", inputNode(2, "f32"), unaryNode("gelu", biased)));
      await pair.expectSame(
        "matmul",
        pair.output([2, m, n], "f16"),
        { a, b, operands: [bias, gate, residual] },
        { epilogue },
        roundingTolerance["f16"],
      );
    }
  });

  it.each(quantized)("weights in %s", async (dtype) => {
    const [n, k] = [24, 512];
    for (const m of [1, 9]) {
      const a = pair.tensor([m, k]);
      const b = weights(dtype, n, k, true);
      await pair.expectSame("matmul", pair.output([m, n], "f32"), { a, b }, {}, 3e-6);
    }
  });

  it("an inner dimension of 0 gives the epilogue of zero", async () => {
    const out = pair.output([3, 4], "f32");
    await pair.expectSame("matmul", out, { a: pair.tensor([3, 0]), b: pair.tensor([0, 4]) }, {}, 0);
  });

  it("operands larger than a binding", async () => {
    const a = pair.tensor([70, 600]);
    const weights = pair.tensor([300, 600], "f16", undefined, swap);
    await pair.expectSame("matmul", pair.output([70, 300], "f32"), { a, b: weights }, {}, 2e-6);
    const columns = pair.tensor([600, 300]);
    await pair.expectSame("matmul", pair.output([70, 300], "f32"), { a: pair.tensor([70, 600]), b: columns }, {}, 2e-6);
  });

  it("NaN and infinity reach exactly the rows and columns they touch", async () => {
    const values = noise(6 * 8);
    values[9] = Number.NaN;
    values[20] = Infinity;
    const a = pair.tensor([6, 8], "f32", values);
    await pair.expectSame("matmul", pair.output([6, 5], "f32"), { a, b: pair.tensor([8, 5]) }, {});
  });

  // Every combination of: parts an operand is staged as, scaling, layout, whole and ragged tiles.
  it.each([
    ["f32", "f32", true, [130, 136, 140]],
    ["f32", "f16", false, [129, 150, 141]],
    ["f16", "f16", true, [130, 136, 140]],
    ["bf16", "bf16", false, [130, 136, 140]],
    ["f32", "q8_0", true, [129, 160, 141]],
    ["bf16", "q4_K", true, [70, 256, 64]],
  ] as const)("a product large enough for the tier's own kernel: %s @ %s, transposed %s", async (da, db, transposed, [m, k, n]) => {
    const large = da === "bf16" ? 1e6 : 1;
    const a = pair.tensor(
      [m, k],
      da,
      Float32Array.from(noise(m * k, 3), (v) => v * large),
    );
    const b = weights(db, n, k, transposed);
    const bias = pair.tensor([n], "f32", undefined, (l) => expandLayout("t", l, [m, n]));
    const epilogue = binaryNode("add", inputNode(0, "f32"), inputNode(1, "f32"));
    await pair.expectSame("matmul", pair.output([m, n], "f32"), { a, b, operands: [bias] }, { epilogue }, 2e-6);
  });

  function weights(dtype: PlainDType | QuantDType, n: number, k: number, transposed: boolean): Both {
    if (!isQuantized(dtype)) return transposed ? pair.tensor([n, k], dtype, undefined, swap) : pair.tensor([k, n], dtype);
    const bytes = new Uint8Array(bytesOf(dtype, n * k));
    quantizeInto(dtype, noise(n * k, 5), 0, bytes, 0, n * k);
    return pair.raw([n, k], dtype, bytes, swap);
  }

  it("a sliced operand", async () => {
    const a = pair.tensor([10, 40], "f32", undefined, (l) => narrowLayout(l, 1, 3, 16));
    const b = pair.tensor([20, 12], "f32", undefined, (l) => narrowLayout(l, 0, 4, 16));
    await pair.expectSame("matmul", pair.output([10, 12], "f32"), { a, b }, {});
  });
});
