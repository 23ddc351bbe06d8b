// gather, scatter, indexSelect, indexAdd and dequantize against the CPU backend.
import { afterAll, beforeAll, describe, it } from "vitest";
import { bytesOf, type PlainDType, type QuantDType } from "../../src/dtype.ts";
import { narrowLayout, permuteLayout } from "../../src/layout.ts";
import { quantizeInto } from "../../src/quant/encode.ts";
import { noise, Pair, variants } from "./pair.ts";

const dtypes: PlainDType[] = ["f32", "f16", "bf16", "i32", "u8"];
const quantized: QuantDType[] = ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_K", "q3_K", "q4_K", "q5_K", "q6_K", "iq4_nl", "iq4_xs"];
const places = (count: number, size: number): number[] => Array.from({ length: count }, (_, i) => (i * 7 + 3) % size);

describe.each(variants)("%s", (_name, options) => {
  let pair: Pair;
  beforeAll(async () => {
    pair = await Pair.open(options);
  });
  afterAll(() => pair.close());

  it.each(dtypes)("gather of %s along every dimension", async (dtype) => {
    for (const dim of [0, 1, 2]) {
      const shape = [3, 4, 5].map((d, i) => (i === dim ? 6 : d - 1));
      const index = pair.tensor(shape, "i32", places(shape[0]! * shape[1]! * shape[2]!, [3, 4, 5][dim]!));
      const x = pair.tensor([3, 4, 5], dtype);
      await pair.expectSame("gather", pair.output(shape, dtype), { x, index }, { dim }, 0);
    }
    const x = pair.tensor([5, 6], dtype, undefined, (l) => permuteLayout(l, [1, 0]));
    const index = pair.tensor([6, 3], "i32", places(18, 5));
    await pair.expectSame("gather", pair.output([6, 3], dtype), { x, index }, { dim: 1 }, 0);
  });

  it.each(dtypes)("scatter into and onto %s", async (dtype) => {
    for (const add of [false, true]) {
      for (const dim of [0, 1]) {
        const shape = dim === 0 ? [6, 5] : [4, 9];
        const index = pair.tensor(shape, "i32", places(shape[0]! * shape[1]!, [4, 5][dim]!));
        const inputs = { x: pair.tensor([4, 5], dtype), index, src: pair.tensor(shape, dtype) };
        await pair.expectSame(
          "scatter",
          pair.output([4, 5], dtype),
          inputs,
          { dim, add },
          dtype === "bf16" ? 4e-3 : dtype === "f16" ? 5e-4 : 1e-6,
        );
      }
      const index = pair.tensor([2, 3], "i32", [0, 2, 0, 1, 1, 2]);
      const inputs = { x: pair.tensor([4, 5], dtype), index, src: pair.tensor([2, 3], dtype) };
      await pair.expectSame(
        "scatter",
        pair.output([4, 5], dtype),
        inputs,
        { dim: 0, add },
        dtype === "bf16" ? 4e-3 : dtype === "f16" ? 5e-4 : 1e-6,
      );
    }
  });

  it.each(dtypes)("indexSelect of %s", async (dtype) => {
    for (const dim of [0, 1, 2]) {
      const shape = [4, 5, 3].map((d, i) => (i === dim ? 7 : d));
      const index = pair.tensor([7], "i32", places(7, [4, 5, 3][dim]!));
      await pair.expectSame("indexSelect", pair.output(shape, dtype), { x: pair.tensor([4, 5, 3], dtype), index }, { dim }, 0);
    }
  });

  it("an index outside the table gives zeros", async () => {
    const index = pair.tensor([4], "i32", [1, -1, 99, 0]);
    await pair.expectSame("indexSelect", pair.output([4, 3], "f16"), { x: pair.tensor([5, 3], "f16"), index }, { dim: 0 }, 0);
  });

  it("a table larger than a binding", async () => {
    const index = pair.tensor([9], "u32", [0, 299, 150, 77, 13, 13, 298, 1, 200]);
    await pair.expectSame("indexSelect", pair.output([9, 50], "f16"), { x: pair.tensor([300, 50], "f16"), index }, { dim: 0 }, 0);
  });

  it.each(dtypes)("indexAdd of %s", async (dtype) => {
    for (const dim of [0, 1]) {
      const shape = dim === 0 ? [6, 5] : [4, 6];
      const inputs = { x: pair.tensor([4, 5], dtype), index: pair.tensor([6], "i32", [0, 2, 2, 1, 0, 2]), src: pair.tensor(shape, dtype) };
      await pair.expectSame(
        "indexAdd",
        pair.output([4, 5], dtype),
        inputs,
        { dim },
        dtype === "bf16" ? 4e-3 : dtype === "f16" ? 5e-4 : 1e-6,
      );
    }
  });

  it.each(["f32", "u8"] as const)("many indices on %s: sorted first, added in index order", async (dtype) => {
    const many = {
      index: pair.tensor(
        [700],
        "i32",
        places(700, 90).map((v) => v % 37),
      ),
      src: pair.tensor([2, 700, 3], dtype),
    };
    await pair.expectSame("indexAdd", pair.output([2, 40, 3], dtype), { x: pair.tensor([2, 40, 3], dtype), ...many }, { dim: 1 });
    for (const [dim, add] of [
      [0, true],
      [0, false],
      [1, true],
    ] as const) {
      const shape = dim === 0 ? [90, 3] : [3, 90];
      const inputs = { x: pair.tensor([11, 11], dtype), index: pair.tensor(shape, "i32", places(270, 10)), src: pair.tensor(shape, dtype) };
      await pair.expectSame("scatter", pair.output([11, 11], dtype), inputs, { dim, add });
    }
  });

  it("scatters into more than one binding holds", async () => {
    const inputs = { x: pair.tensor([90, 101]), index: pair.tensor([70], "u32", places(70, 90)), src: pair.tensor([70, 101]) };
    await pair.expectSame("indexAdd", pair.output([90, 101], "f32"), inputs, { dim: 0 });
  });

  it.each(quantized)("decodes and looks up rows of %s", async (dtype) => {
    const bytes = new Uint8Array(bytesOf(dtype, 6 * 512));
    quantizeInto(dtype, noise(6 * 512, 9), 0, bytes, 0, 6 * 512);
    const table = pair.raw([6, 512], dtype, bytes);
    await pair.expectSame("dequantize", pair.output([6, 512], "f32"), { x: table }, {}, 1e-7);
    const part = pair.raw([6, 512], dtype, bytes, (l) => narrowLayout(l, 0, 1, 3));
    await pair.expectSame("dequantize", pair.output([3, 512], "bf16"), { x: part }, {}, 1e-3);
    const index = pair.tensor([4], "i32", [5, 0, 3, 5]);
    await pair.expectSame("indexSelect", pair.output([4, 512], "f32"), { x: pair.raw([6, 512], dtype, bytes), index }, { dim: 0 }, 1e-7);
  });

  it.each(["f8e4m3", "f8e5m2"] as const)("decodes %s, all 256 codes", async (dtype) => {
    const bytes = Uint8Array.from({ length: 256 }, (_, i) => i);
    await pair.expectSame("dequantize", pair.output([16, 16], "f32"), { x: pair.raw([16, 16], dtype, bytes) }, {}, 0);
    const index = pair.tensor([3], "i32", [2, 0, 15]);
    await pair.expectSame("indexSelect", pair.output([3, 16], "f32"), { x: pair.raw([16, 16], dtype, bytes), index }, { dim: 0 }, 0);
  });
});
