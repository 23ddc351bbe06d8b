// map, copy and fill against the CPU backend: every dtype, stride pattern and expression.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { PlainDType } from "../../src/dtype.ts";
import { expandLayout, type Layout, narrowLayout, permuteLayout, stepLayout } from "../../src/layout.ts";
import {
  type BinaryOp,
  binaryNode,
  castNode,
  constNode,
  type ExprNode,
  type ExprType,
  inputNode,
  type UnaryOp,
  unaryNode,
  whereNode,
} from "../../src/ops/expr.ts";
import { Pair, parameterVariants, roundingTolerance } from "./pair.ts";

const x0 = inputNode(0, "f32");
const x1 = inputNode(1, "f32");
const special = [
  Number.NaN,
  Infinity,
  -Infinity,
  0,
  -0,
  1,
  -1,
  0.5,
  -0.5,
  2,
  1e-30,
  -1e-30,
  1e30,
  88,
  -88,
  1e-7,
  3.5,
  2.5,
  -2.5,
  100,
  -100,
];
const floatUnary: UnaryOp[] =
  "neg abs sign exp expm1 log log1p log2 sqrt rsqrt square recip sin cos tan asin acos atan sinh cosh tanh sigmoid silu relu gelu geluErf geluQuick softplus erf floor ceil round trunc not isNan isInf isFinite".split(
    " ",
  ) as UnaryOp[];
const floatBinary: BinaryOp[] = "add sub mul div floorDiv rem pow min max atan2 eq ne lt le gt ge".split(" ") as BinaryOp[];
const intBinary: BinaryOp[] = "add sub mul floorDiv rem min max eq ne lt le gt ge and or xor".split(" ") as BinaryOp[];

describe.each(parameterVariants)("%s", (_name, options) => {
  let pair: Pair;
  beforeAll(async () => {
    pair = await Pair.open(options);
  });
  afterAll(() => pair.close());

  it.each(floatUnary)("%s of floats, NaN and infinities included", async (op) => {
    const trigonometric = op === "sin" || op === "cos" || op === "tan";
    const huge = Array.from({ length: 60 }, (_, i) => (i % 2 ? -1 : 1) * 1.9 ** (i + 10));
    const values = [...special, ...Array.from({ length: 200 }, (_, i) => (i - 100) / 9), ...(trigonometric ? huge : [])];
    const out = pair.output([values.length], "f32");
    await pair.expectSame(
      "map",
      out,
      { inputs: [pair.tensor([values.length], "f32", values)] },
      { expr: castNode(unaryNode(op, x0), "f32") },
      2e-6,
    );
  });

  it.each(floatBinary)("%s of floats, NaN and infinities included", async (op) => {
    // torch.remainder and floor division of huge quotients lose all digits; the CPU backend computes them in f64.
    const values =
      op === "rem" || op === "floorDiv" ? special.filter((v) => !(Math.abs(v) > 1e3 || (v !== 0 && Math.abs(v) < 1e-3))) : special;
    const n = values.length;
    const a = pair.tensor([n, n], "f32", values, (l) => expandLayout("t", { ...narrowLayout(l, 0, 0, 1) }, [n, n]));
    const b = pair.tensor([n, 1], "f32", values, (l) => expandLayout("t", l, [n, n]));
    await pair.expectSame("map", pair.output([n, n], "f32"), { inputs: [a, b] }, { expr: castNode(binaryNode(op, x0, x1), "f32") }, 2e-6);
  });

  it.each(["i32", "u32", "u8"] as const)("integer operations on %s wrap and divide as torch", async (dtype) => {
    const type: ExprType = dtype === "i32" ? "i32" : "u32";
    const values = dtype === "i32" ? [0, 1, -1, 7, -7, 3, -3, 2147483647, -2147483648, 65537] : [0, 1, 255, 7, 3, 200, 128, 16, 2, 5];
    const n = values.length;
    for (const op of intBinary) {
      const divides = op === "floorDiv" || op === "rem";
      const right = divides ? values.map((v) => (v === 0 || v === -1 ? 2 : v)) : values;
      const a = pair.tensor([n, 1], dtype, values, (l) => expandLayout("t", l, [n, n]));
      const b = pair.tensor([1, n], dtype, right, (l) => expandLayout("t", l, [n, n]));
      const node = binaryNode(op, inputNode(0, type), inputNode(1, type));
      await pair.expectSame("map", pair.output([n, n], node.type === "bool" ? "u8" : dtype), { inputs: [a, b] }, { expr: node }, 0);
    }
  });

  const views: [string, (l: Layout) => Layout][] = [
    ["contiguous", (l) => l],
    ["transposed", (l) => permuteLayout(l, [1, 0])],
    ["offset slice", (l) => narrowLayout(narrowLayout(l, 1, 3, 9), 0, 2, 5)],
    ["aligned slice", (l) => narrowLayout(l, 1, 4, 8)],
    ["flipped", (l) => stepLayout(l, 1, -1)],
    ["every third", (l) => stepLayout(l, 1, 3)],
    ["broadcast row", (l) => expandLayout("t", narrowLayout(l, 0, 1, 1), [6, l.shape[1]!])],
    ["broadcast column", (l) => expandLayout("t", narrowLayout(l, 1, 1, 1), [l.shape[0]!, 10])],
  ];
  it.each(views)("reads a view that is %s", async (_n, change) => {
    for (const dtype of ["f32", "f16", "bf16", "u8", "i64"] as PlainDType[]) {
      const type: ExprType = dtype === "u8" ? "u32" : dtype === "i64" ? "i32" : "f32";
      const x = pair.tensor([7, 16], dtype, undefined, change);
      const { shape } = x.cpu.layout;
      const y = pair.tensor(shape, dtype);
      const expr = binaryNode("add", inputNode(0, type), inputNode(1, type));
      await pair.expectSame("map", pair.output(shape, dtype), { inputs: [x, y] }, { expr }, roundingTolerance[dtype]);
    }
  });

  it("writes every dtype from f32, rounding to nearest even", async () => {
    const values = [
      ...special.filter((v) => Math.abs(v) < 1e29 || Number.isNaN(v)),
      65504,
      65519,
      65520,
      1.0009765625,
      1.00048828125,
      6e-8,
      2.9e-8,
      448,
      240,
      57344,
    ];
    for (const dtype of ["f16", "bf16", "f8e4m3", "f8e5m2"] as PlainDType[]) {
      const x = pair.tensor([values.length], "f32", values);
      await pair.expectSame("map", pair.output([values.length], dtype), { inputs: [x] }, { expr: x0 }, 0);
    }
    for (const dtype of ["i32", "u8", "i64", "u32"] as PlainDType[]) {
      const x = pair.tensor([6], "f32", [0, 1.9, 3.2, 100, 254, 7]);
      await pair.expectSame("map", pair.output([6], dtype), { inputs: [x] }, { expr: x0 }, 0);
    }
  });

  it("fuses seven inputs", async () => {
    const inputs = Array.from({ length: 7 }, () => pair.tensor([3, 20]));
    let expr: ExprNode = x0;
    for (let i = 1; i < 7; i++) expr = binaryNode(i % 2 ? "mul" : "add", expr, inputNode(i, "f32"));
    await pair.expectSame(
      "map",
      pair.output([3, 20], "f32"),
      { inputs },
      { expr: whereNode(binaryNode("gt", x0, constNode(0, "f32")), expr, x1) },
    );
  });

  it.each(["f32", "f16", "u8", "i64"] as const)("copies into a part of a larger %s tensor and leaves the rest alone", async (dtype) => {
    const x = pair.tensor([5, 7], dtype, undefined, (l) => permuteLayout(l, [1, 0]));
    const out = pair.output([9, 11], dtype, (l) => narrowLayout(narrowLayout(l, 0, 1, 7), 1, 3, 5));
    await pair.expectSame("copy", out, { x }, {}, 0);
  });

  it("copies quantized rows", async () => {
    const bytes = Uint8Array.from({ length: 4 * 3 * 34 }, (_, i) => (i * 37) & 255);
    const x = pair.raw([4, 96], "q8_0", bytes, (l) => narrowLayout(l, 0, 1, 2));
    const out = pair.raw([2, 96], "q8_0", new Uint8Array(2 * 3 * 34));
    const view = (v: typeof x, side: "gpu"): Promise<Uint8Array> => pair[side].read(v[side].buffer, 0, v[side].buffer.byteLength);
    pair.gpu.kernels.copy(out.gpu, { x: x.gpu }, {});
    expect([...(await view(out, "gpu"))]).toEqual([...bytes.subarray(3 * 34, 9 * 34)]);
    pair.releaseAll();
  });

  it("moves a part of a tensor within itself", async () => {
    const t = pair.tensor([8, 8]);
    const part = (start: number): { cpu: typeof t.cpu; gpu: typeof t.gpu } => ({
      cpu: { ...t.cpu, layout: narrowLayout(t.cpu.layout, 0, start, 3) },
      gpu: { ...t.gpu, layout: narrowLayout(t.gpu.layout, 0, start, 3) },
    });
    await pair.expectSame("copy", part(5), { x: part(0) }, {}, 0);
  });

  it.each([0, 1, 3, 5000, 70001])("fills %i elements", async (n) => {
    for (const dtype of ["f32", "f16", "u8", "i64"] as PlainDType[]) {
      await pair.expectSame("fill", pair.output([n], dtype), {}, { value: 3 }, 0);
    }
  });

  it("spans several bindings when the tensor is large", async () => {
    const x = pair.tensor([37, 2048], "f16");
    const y = pair.tensor([2048, 37], "f32", undefined, (l) => permuteLayout(l, [1, 0]));
    await pair.expectSame("map", pair.output([37, 2048], "f16"), { inputs: [x, y] }, { expr: binaryNode("add", x0, x1) }, 2e-4);
  });
});
