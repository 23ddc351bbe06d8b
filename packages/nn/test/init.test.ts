// Default initialization equals PyTorch's bit for bit: sha256 of each parameter's bytes, made by torch 2.13 on the CPU with
// torch.manual_seed(seed) and the same layers in the same order.
import { createHash } from "node:crypto";
import { TensorError, torchCpu } from "@wick/tensor";
import { expect, test } from "vitest";
import {
  Conv1d,
  Conv2d,
  ConvTranspose2d,
  Embedding,
  GroupNorm,
  initParameters,
  LayerNorm,
  Linear,
  Module,
  namedParameters,
  param,
  RmsNorm,
} from "../src/index.ts";
import { memoryDevice } from "./memory-device.ts";

class Layers extends Module {
  readonly embed = new Embedding(5, 6);
  readonly proj = new Linear(11, 7);
  readonly conv = new Conv2d(4, 6, 3, { groups: 2 });
  readonly up = new ConvTranspose2d(4, 6, 3);
  readonly line = new Conv1d(3, 5, 4, { bias: false });
  readonly norm = new LayerNorm(6);
  readonly wide = new Linear(300, 200);
  readonly rms = new RmsNorm(6, { eps: 1e-6 });
  readonly group = new GroupNorm(2, 4);
}

const expected: Record<number, Record<string, string>> = {
  0: {
    "embed.weight": "7774ed42c30f5029",
    "proj.weight": "573947d51f75aee8",
    "proj.bias": "4a5fe2da9fb415d8",
    "conv.weight": "d3d2ff8e3072fe41",
    "conv.bias": "d980178b7ad88f7c",
    "up.weight": "5e1ffa6bd1435822",
    "up.bias": "e2e68bcb739abb2c",
    "line.weight": "5c0121ad1e7d6516",
    "norm.weight": "f46913286d895f62",
    "norm.bias": "9d908ecfb6b256de",
    "wide.weight": "74a6550c0cf103fd",
    "wide.bias": "51e91db8847a64bf",
    "rms.weight": "f46913286d895f62",
    "group.weight": "f6bb1294da2f78cd",
    "group.bias": "374708fff7719dd5",
  },
  7: {
    "embed.weight": "8d1591c496a1168c",
    "proj.weight": "bd67e80d1584114b",
    "proj.bias": "ac1ca83fdc279206",
    "conv.weight": "8b552adc939fd7b2",
    "conv.bias": "e63684bfaac74dfb",
    "up.weight": "cabcf79076158591",
    "up.bias": "52138c7902a11412",
    "line.weight": "90a5a79ca9371260",
    "norm.weight": "f46913286d895f62",
    "norm.bias": "9d908ecfb6b256de",
    "wide.weight": "47c5850c6197c726",
    "wide.bias": "e7aadad40f73793e",
    "rms.weight": "f46913286d895f62",
    "group.weight": "f6bb1294da2f78cd",
    "group.bias": "374708fff7719dd5",
  },
};

test.each([0, 7])("seed %i", async (seed) => {
  const device = memoryDevice();
  using model = new Layers();
  initParameters(model, device, torchCpu(seed));
  for (const [name, p] of namedParameters(model)) {
    const sha = createHash("sha256").update(await p.toBytes());
    expect(sha.digest("hex").slice(0, 16), name).toBe(expected[seed]![name]);
  }
});

test("parameters of one's own need a rule", () => {
  class Own extends Module {
    readonly proj = new Linear(2, 2);
    readonly token = param(1, 4);
  }
  const device = memoryDevice();
  using model = new Own();
  expect(() => initParameters(model, device, torchCpu(1))).toThrow(TensorError);
  expect(() => initParameters(model, device, torchCpu(1))).toThrowErrorMatchingInlineSnapshot(
    `[TensorError: initParameters: no rule for token f32 [1, 4]; give one as the last argument]`,
  );
  expect(device.liveBytes).toBe(0);
  initParameters(model, device, torchCpu(1), ({ parameter }, g) => g.randn(parameter.size));
  expect(device.liveBytes).toBe((4 + 2 + 4) * 4);
});
