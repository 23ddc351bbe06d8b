// Row kernels as GPUs get them, with rows held in registers, and group norm by vectors, computed by the simulator and compared with the CPU.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { expandLayout } from "../../src/layout.ts";
import { binaryNode, inputNode, unaryNode } from "../../src/ops/expr.ts";
import { noise, Pair } from "../gpu/pair.ts";
import { simulated } from "./vendors.ts";

const tolerance = 1e-6;
const input = (i: number) => inputNode(i, "f32");

describe.each(["NVIDIA", "AMD, 64 lanes"] as const)("%s", (vendor) => {
  let pair: Pair;
  beforeAll(async () => {
    pair = await Pair.open(simulated(vendor).options);
  });
  afterAll(() => pair.close());

  // A row of a subgroup; of several; the last turn of some threads; elements instead of quads; too long to hold.
  it.each([
    [5, 128],
    [2, 3072],
    [2, 2052],
    [3, 70],
    [1, 5000],
  ])("norms of %i rows of %i", async (rows, width) => {
    const shape = [rows, width];
    const far = () =>
      pair.tensor(
        shape,
        "f32",
        noise(rows * width).map((v) => v + 3),
      );
    for (const kind of ["layer", "rms"] as const) {
      const inputs = { x: far(), weight: pair.tensor([width], "bf16") };
      await pair.expectSame("norm", pair.output(shape, "f32"), inputs, { kind, eps: 1e-6 }, tolerance);
    }
    const operands = [1, 2].map(() => pair.tensor([1, width], "f32", undefined, (l) => expandLayout("t", l, shape)));
    const epilogue = binaryNode("add", binaryNode("mul", input(0), input(1)), input(2));
    await pair.expectSame("norm", pair.output(shape, "f32"), { x: far(), operands }, { kind: "layer", eps: 1e-6, epilogue }, tolerance);
  });

  it.each([
    [3, 512],
    [2, 2052],
    [3, 70],
  ])("softmax of %i rows of %i", async (rows, width) => {
    const values = noise(rows * width).map((v) => 20 * v);
    values.fill(Number.NEGATIVE_INFINITY, 1, 9);
    for (const log of [false, true]) {
      const x = pair.tensor([rows, width], "f32", values);
      const { cpu, gpu } = await pair.run("softmax", pair.output([rows, width], "f32"), { x }, { log });
      for (let i = 0; i < cpu.length; i++)
        expect(Math.abs(gpu[i]! - cpu[i]!) <= 2e-5 * Math.abs(cpu[i]!) || gpu[i] === cpu[i], `${i}`).toBe(true);
    }
  });

  it("softmax carries NaN to its row only", async () => {
    const values = noise(2 * 512);
    values[700] = Number.NaN;
    const { gpu } = await pair.run("softmax", pair.output([2, 512], "f32"), { x: pair.tensor([2, 512], "f32", values) }, { log: false });
    expect([...gpu].map(Number.isNaN)).toEqual(Array.from({ length: 1024 }, (_, i) => i >= 512));
  });

  it.each([[8], [7]])("group norm and SiLU of 64 channels of %i squared", async (size) => {
    const shape = [2, 64, size, size];
    const [x, weight, bias] = [pair.tensor(shape), pair.tensor([64]), pair.tensor([64])];
    const attrs = { groups: 32, eps: 1e-6, epilogue: unaryNode("silu", input(0)) };
    await pair.expectSame("groupNorm", pair.output(shape, "f32"), { x, weight, bias }, attrs, tolerance);
  });
});
