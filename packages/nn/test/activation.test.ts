// Activations and batch norm: values from torch 2.13 (torch.nn.functional) at seven points.
import { cpu, type Stage, scope, UnsupportedError } from "@wick/tensor";
import { explainDifference } from "@wick/testing";
import { expect, test } from "vitest";
import {
  BatchNorm,
  elu,
  gelu,
  geluErf,
  geluQuick,
  hardSigmoid,
  hardSwish,
  leakyRelu,
  load,
  mish,
  pixelShuffle,
  relu6,
  reluSquared,
  silu,
  softplus,
} from "../src/index.ts";
import { f32Tensor, memoryWeights } from "./memory-weights.ts";

const points = [-7, -2.5, -0.3, 0, 0.4, 1.5, 8];
const expected: [string, Stage, number[]][] = [
  ["softplus", softplus, [0.00091146649, 0.078889735, 0.55435526, Math.LN2, 0.91301525, 1.7014133, 8.0003357]],
  ["relu6", relu6, [0, 0, 0, 0, 0.4, 1.5, 6]],
  ["reluSquared", reluSquared, [0, 0, 0, 0, 0.16, 2.25, 64]],
  ["mish", mish, [-0.0063802637, -0.19681619, -0.15113318, 0, 0.28903052, 1.4033782, 7.9999981]],
  ["hardSigmoid", hardSigmoid, [0, 0.083333336, 0.45000002, 0.5, 0.56666666, 0.75, 1]],
  ["hardSwish", hardSwish, [0, -0.20833333, -0.13500001, 0, 0.22666667, 1.125, 8]],
  ["leakyRelu", leakyRelu(0.2), [-1.4, -0.5, -0.06, 0, 0.4, 1.5, 8]],
  ["elu", elu(1.5), [-1.4986322, -1.3768725, -0.3887727, 0, 0.4, 1.5, 8]],
  ["silu", silu, [-0.0063773585, -0.18964545, -0.12766725, 0, 0.23947507, 1.2263616, 7.9973173]],
  ["gelu", gelu, [0, -0.015084296, -0.11462908, 0, 0.26216117, 1.3995715, 8]],
  ["geluErf", geluErf, [0, -0.015524179, -0.11462658, 0, 0.26216871, 1.3997891, 8]],
  ["geluQuick", geluQuick, [-4.6871672e-5, -0.034986161, -0.11251587, 0, 0.26556692, 1.3916622, 7.9999905]],
];

test.each(expected)("%s", async (_, stage, values) => {
  using device = cpu();
  using x = device.tensor(points);
  using y = scope(() => x.pipe(stage));
  const got = (await y.toArray()) as Float32Array;
  // Without the two largest, so that small values count.
  expect(explainDifference(got.slice(0, 5), values.slice(0, 5), 1e-6)).toBeNull();
  expect(explainDifference(got, values, 1e-6)).toBeNull();
});

test("batch norm uses the running statistics, and can be undone", async () => {
  using device = cpu();
  const statistics = { running_mean: f32Tensor([2], [1, -2]), running_var: f32Tensor([2], [4, 0.01]) };
  using norm = new BatchNorm(2, { eps: 1e-3 });
  const scaled = { ...statistics, weight: f32Tensor([2], [2, 0.5]), bias: f32Tensor([2], [0.1, -0.2]) };
  await load(norm, await memoryWeights(scaled), device);
  using x = device.tensor([0, 1, 2, 3, 4, 5, 6, 7], [1, 2, 2, 2]);
  using y = norm.forward(x);
  const torch = [-0.89987504, 0.10000002, 1.0998751, 2.09975, 28.403877, 33.171192, 37.938503, 42.705818];
  expect(explainDifference((await y.toArray()) as Float32Array, torch, 1e-6)).toBeNull();
  expect(() => norm.inverse(y)).toThrow(UnsupportedError);
  using plain = new BatchNorm(2, { eps: 1e-4, affine: false });
  await load(plain, await memoryWeights(statistics), device);
  using there = plain.forward(x);
  using back = plain.inverse(there);
  expect(explainDifference((await back.toArray()) as Float32Array, [0, 1, 2, 3, 4, 5, 6, 7], 1e-6)).toBeNull();
});

test("pixelShuffle", async () => {
  using device = cpu();
  using x = device.arange(16);
  using y = scope(() => pixelShuffle(2)(x.reshape(1, 4, 2, 2)));
  expect(y.shape).toEqual([1, 1, 4, 4]);
  expect([...(await y.toArray())]).toEqual([0, 4, 1, 5, 8, 12, 9, 13, 2, 6, 3, 7, 10, 14, 11, 15]);
});
