// Composite layers against transformers' and diffusers' own modules, and the rules that hold without a reference.
import { readFileSync } from "node:fs";
import {
  cpu,
  type Device,
  memorySource,
  type NameRules,
  openSafetensors,
  readTensorBytes,
  remap,
  ShapeError,
  scope,
  stripPrefix,
  type Tensor,
} from "@wick/tensor";
import { explainDifference } from "@wick/testing";
import { expect, test } from "vitest";
import {
  type AttentionFunction,
  JointAttention,
  LayerNorm,
  load,
  Mlp,
  Modulation,
  Module,
  perToken,
  ropeTable,
  SelfAttention,
  SwiGlu,
  scaleTanhGate,
  sequencePositions,
  shiftScaleGate,
  TableModulation,
  unmodulated,
} from "../src/index.ts";
import { memoryWeights, ramp } from "./memory-weights.ts";

/** Relative L2 of one f32 module; the weakest wrong constant moves it 21 times as far. */
const TOLERANCE = 1e-5;
const [WIDTH, HEADS, EPS] = [24, 4, 1e-3];

const path = new URL("./goldens/layers.safetensors", import.meta.url);
const golden = await openSafetensors([memorySource(readFileSync(path))]);
const weights = stripPrefix(golden, "w.");
const values = async (name: string): Promise<Float32Array> => new Float32Array((await readTensorBytes(golden, name)).buffer);
const input = async (device: Device, name: string): Promise<Tensor> =>
  device.tensor(await values(`in.${name}`), golden.entries.get(`in.${name}`)!.shape);

/** Loads `model` from the golden's part `part` and compares what `forward` returns with the outputs named. */
async function check(model: Module, part: string, forward: (device: Device, x: Tensor) => Record<string, Tensor>, rules: NameRules = {}) {
  using device = cpu();
  await load(model, remap(stripPrefix(weights, `${part}.`), rules), device);
  using x = await input(device, "x");
  const outputs = scope(() => forward(device, x));
  for (const [name, tensor] of Object.entries(outputs)) {
    expect(explainDifference((await tensor.toArray()) as Float32Array, await values(`out.${name}`), TOLERANCE), name).toBeNull();
  }
  for (const t of new Set(Object.values(outputs))) t.dispose();
  x.dispose();
  model.unload();
  expect(device.liveBytes).toBe(0);
}

test("Mlp", () => {
  const mlp = new Mlp(WIDTH, 40);
  return check(mlp, "mlp", (_, x) => ({ mlp: mlp.forward(x) }));
});

test("SwiGlu", () => {
  const ffn = new SwiGlu(WIDTH, 40, { names: { gate: "gate_proj", up: "up_proj", down: "down_proj" } });
  return check(ffn, "swiglu", (_, x) => ({ swiglu: ffn.forward(x) }));
});

const qwenNames: NameRules = {
  "to_q.weight": "q_proj.weight",
  "to_k.weight": "k_proj.weight",
  "to_v.weight": "v_proj.weight",
  "to_out.0.weight": "o_proj.weight",
  "norm_q.weight": "q_norm.weight",
  "norm_k.weight": "k_norm.weight",
};

test("SelfAttention: grouped, causal, normed and rotated", () => {
  const attention = new SelfAttention({ width: WIDTH, heads: HEADS, kvHeads: 2, qkNorm: EPS, interleaved: false });
  const run = (device: Device, x: Tensor) => {
    const rope = ropeTable(device, sequencePositions(7), { widths: [6], theta: 100 });
    return { causal: attention.forward(x, { rope, causal: true }) };
  };
  return check(attention, "causal", run, qwenNames);
});

const jointNames: NameRules = {
  "first.to_q.{p}": "to_q.{p}",
  "first.to_k.{p}": "to_k.{p}",
  "first.to_v.{p}": "to_v.{p}",
  "first.to_out.0.{p}": "to_out.0.{p}",
  "first.norm_q.{p}": "norm_q.{p}",
  "first.norm_k.{p}": "norm_k.{p}",
  "second.to_q.{p}": "add_q_proj.{p}",
  "second.to_k.{p}": "add_k_proj.{p}",
  "second.to_v.{p}": "add_v_proj.{p}",
  "second.to_out.0.{p}": "to_add_out.{p}",
  "second.norm_q.{p}": "norm_added_q.{p}",
  "second.norm_k.{p}": "norm_added_k.{p}",
};

test("JointAttention", async () => {
  const context = await values("in.context");
  const attention = new JointAttention({ width: WIDTH, heads: HEADS, qkvBias: true, outBias: true, qkNorm: EPS });
  const run = (device: Device, x: Tensor) => {
    const [a, b] = attention.forward(x, device.tensor(context, [2, 3, WIDTH]));
    return { "joint.0": a, "joint.1": b };
  };
  await check(attention, "joint", run, jointNames);
});

test("Modulation: adaLN-Zero", async () => {
  const condition = await values("in.condition");
  class Zero extends Module {
    readonly norm = new LayerNorm(WIDTH, { eps: 1e-6, affine: false });
    readonly modulation = new Modulation(WIDTH, 6, { name: "linear" });
  }
  const zero = new Zero();
  const run = (device: Device, x: Tensor): Record<string, Tensor> => {
    const [shift, scale, gate, shift2, scale2, gate2] = zero.modulation.forward(device.tensor(condition, [2, WIDTH]));
    const steered = shiftScaleGate(shift, scale, gate).before(zero.norm.forward(x.mul(1e-2)));
    return { "zero.x": steered, "zero.gate": gate, "zero.shift2": shift2, "zero.scale2": scale2, "zero.gate2": gate2 };
  };
  await check(zero, "zero", run, { "modulation.linear.{p}": "linear.{p}" });
});

test("the attention function can be replaced, and sees normed heads", async () => {
  using device = cpu();
  const seen: number[][] = [];
  const average: AttentionFunction = (q, _k, v) => {
    seen.push([...q.shape]);
    return v.mean(2, { keepdim: true }).expand(...q.shape);
  };
  using attention = new SelfAttention({ width: 8, heads: 2, attention: average });
  const square = (i: number) => ramp([8, 8], i, 0.01);
  const names = ["to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight"];
  await load(attention, await memoryWeights(Object.fromEntries(names.map((n, i) => [n, square(i)]))), device);
  using x = device.tensor(
    Float32Array.from({ length: 24 }, (_, i) => i / 10),
    [1, 3, 8],
  );
  using y = attention.forward(x);
  const rows = (await y.toArray()) as Float32Array;
  expect(seen).toEqual([[1, 2, 3, 4]]);
  expect(rows.slice(0, 8)).toEqual(rows.slice(16));
});

test("steering, tables and choices per token", async () => {
  using device = cpu();
  const scalar = (v: number) => device.tensor([v, v], [1, 1, 2]);
  const x = device.tensor([1, 2], [1, 1, 2]);
  const branch = scalar(10);
  const results = scope(() => [
    shiftScaleGate(scalar(1), scalar(2), scalar(3)).before(x),
    shiftScaleGate(scalar(1), scalar(2), scalar(3)).after(x, branch),
    scaleTanhGate(scalar(2), scalar(0.5)).before(x),
    scaleTanhGate(scalar(2), scalar(0.5)).after(x, branch),
    unmodulated.after(x, branch),
    perToken([device.tensor([1, 2], [1, 2]), device.tensor([3, 4], [1, 2])], device.tensor(Int32Array.of(1, 0, 1))),
  ]);
  const got = await Promise.all(results.map(async (t) => [...((await t.toArray()) as Float32Array)]));
  const gate = 10 * Math.tanh(0.5);
  const expected = [
    [4, 7],
    [31, 32],
    [3, 6],
    [1 + gate, 2 + gate],
    [11, 12],
    [3, 4, 1, 2, 3, 4],
  ];
  for (const [i, row] of expected.entries()) expect(explainDifference(got[i]!, row, 1e-6)).toBeNull();
  for (const t of [...results, x, branch]) t.dispose();

  using table = new TableModulation(2, 2);
  await load(table, await memoryWeights({ scale_shift_table: ramp([2, 2], 1) }), device);
  using shared = device.tensor([10, 20, 30, 40], [1, 4]);
  const [first, second] = table.forward(shared);
  expect([...(await first.toArray()), ...(await second.toArray())]).toEqual([11, 22, 33, 44]);
  expect(() => scope(() => table.forward(first.reshape(1, 2)))).toThrow(ShapeError);
});

test("heads that do not divide are refused", () => {
  expect(() => new SelfAttention({ width: 10, heads: 4 })).toThrowErrorMatchingInlineSnapshot(
    `[ShapeError: SelfAttention: width 10 does not divide into 4 heads, or 4 heads into 4 groups]`,
  );
  expect(() => new SelfAttention({ width: 8, heads: 4, kvHeads: 3 })).toThrow(ShapeError);
});

test("positions that do not fit the heads are refused by name", () => {
  using device = cpu();
  scope(() => {
    expect(() => ropeTable(device, [[0, 0]], { widths: [7, 9], theta: 100 })).toThrowErrorMatchingInlineSnapshot(
      `[ShapeError: ropeTables: the width of an axis is an even number, as it is turned in pairs: [7, 9]]`,
    );
    expect(() => ropeTable(device, [[0]], { widths: [4, 4], theta: 100 })).toThrowErrorMatchingInlineSnapshot(
      `[ShapeError: ropeTables: a position has a number for each of the 2 axes: [0]]`,
    );
    const rope = ropeTable(device, [[0], [1]], { widths: [8], theta: 100 });
    expect(() => device.zeros([1, 2, 2, 4]).rope(rope.cos, rope.sin, { interleaved: true })).toThrowErrorMatchingInlineSnapshot(
      `[ShapeError: rope: the table turns heads of 8 values, these have 4: table rope.cos f32 [1, 1, 2, 4] for full f32 [1, 2, 2, 4]; the widths of its axes add up to the head width]`,
    );
    expect(() => new LayerNorm(96 / 5)).toThrowErrorMatchingInlineSnapshot(
      `[ShapeError: param: a dimension must be a whole number of at least 0: [19.2]; does a width divide by its heads?]`,
    );
    return [];
  });
});
