// Convolution on subgroup matrices that stages the pixels around a tile, for every vendor's shapes, computed by the simulator and compared with the
// CPU; see products.test.ts.
import { afterEach, describe, expect, it } from "vitest";
import type { GemmVariantName } from "../../src/backends/webgpu/kernels/gemm-variants.ts";
import type { PlainDType } from "../../src/dtype.ts";
import { expandLayout } from "../../src/layout.ts";
import { binaryNode, inputNode } from "../../src/ops/expr.ts";
import { Pair, roundingTolerance } from "../gpu/pair.ts";
import { all, matrixVariants, simulatedVariant, type VendorName, vendorNames } from "./vendors.ts";

interface Case {
  readonly c: number;
  readonly o: number;
  readonly h: number;
  readonly w: number;
  readonly k?: readonly [number, number];
  readonly stride?: readonly [number, number];
  readonly dilation?: readonly [number, number];
  readonly padding?: readonly [number, number];
  readonly dtype?: PlainDType;
  readonly weights?: PlainDType;
}
const cases = {
  "tiles beyond the image, two blocks of channels, f32": { c: 64, o: 20, h: 9, w: 20 },
  "half a block of channels, a batch of f16": { c: 48, o: 70, h: 7, w: 36, dtype: "f16" },
  "stride 2, bf16": { c: 32, o: 16, h: 9, w: 31, stride: [2, 2], dtype: "bf16" },
  "dilated, f16 by f32": { c: 16, o: 24, h: 8, w: 19, k: [3, 2], dilation: [2, 3], padding: [3, 2], dtype: "f16", weights: "f32" },
} as const satisfies Readonly<Record<string, Case>>;
type CaseName = keyof typeof cases;

let pair: Pair;
let ran: Set<string>;
afterEach(() => pair.close());

async function open(vendor: VendorName, variant: GemmVariantName): Promise<void> {
  const simulation = await simulatedVariant(vendor, variant);
  ran = simulation.ran;
  pair = await Pair.open(simulation.options);
}

/** Convolves, adds a bias, and compares; `change` makes the image's values others. */
async function convolve(name: CaseName): Promise<void> {
  const {
    c,
    o,
    h,
    w,
    k = [3, 3],
    stride = [1, 1],
    dilation = [1, 1],
    padding = [1, 1],
    dtype = "f32",
    weights = dtype,
  }: Case = cases[name];
  const size = (n: number, i: 0 | 1): number => Math.floor((n + 2 * padding[i] - dilation[i] * (k[i] - 1) - 1) / stride[i]) + 1;
  const shape = [name.includes("batch") ? 2 : 1, o, size(h, 0), size(w, 1)];
  const bias = pair.tensor([o, 1, 1], "f32", undefined, (l) => expandLayout("t", l, shape));
  const epilogue = binaryNode("add", inputNode(0, "f32"), inputNode(1, "f32"));
  const inputs = { x: pair.tensor([shape[0]!, c, h, w], dtype), weight: pair.tensor([o, c, ...k], weights), operands: [bias] };
  const attrs = { stride, padding, dilation, groups: 1, epilogue };
  await pair.expectSame("conv", pair.output(shape, dtype), inputs, attrs, roundingTolerance[dtype]);
  expect([...ran].join()).toContain("conv matrix");
}

const names = Object.keys(cases) as readonly CaseName[];
const several: CaseName = "tiles beyond the image, two blocks of channels, f32";
const half: CaseName = "half a block of channels, a batch of f16";
const strided: CaseName = "stride 2, bf16";
const dilated: CaseName = "dilated, f16 by f32";
const spread: readonly (readonly [VendorName, GemmVariantName, readonly CaseName[]])[] = [
  ["NVIDIA", "matrix 2x2 ahead", [half]],
  ["AMD, 64 lanes", "matrix 4x2", [strided]],
  ["Intel, 32 lanes", "matrix 2x2", [dilated]],
  ["Apple", "matrix 2x2 ahead", [strided]],
  ["lavapipe of Mesa 26", "matrix 1x1", [several, dilated]],
];
const small = matrixVariants.filter((v) => !v.endsWith("in 8"));
const everything = vendorNames.flatMap((v) => small.map((g) => [v, g, names] as const));

describe.each(all ? everything : spread)("%s, %s", (vendor, variant, list) => {
  it.each(list)("%s", { timeout: 600_000 }, async (name) => {
    await open(vendor, variant);
    await convolve(name);
  });
});

describe("infinities and NaN", () => {
  it("reach what they touch, and the rest keeps f32's accuracy", { timeout: 600_000 }, async () => {
    await open("NVIDIA", "matrix 2x2");
    const values = Float32Array.from({ length: 32 * 8 * 16 }, (_, i) => Math.sin(i * i));
    values[5] = Number.POSITIVE_INFINITY;
    values[700] = Number.NaN;
    const attrs = { stride: [1, 1], padding: [1, 1], dilation: [1, 1], groups: 1 } as const;
    const inputs = { x: pair.tensor([1, 32, 8, 16], "f32", values), weight: pair.tensor([16, 32, 3, 3]) };
    const { cpu, gpu } = await pair.run("conv", pair.output([1, 16, 8, 16], "f32"), inputs, attrs);
    const finite = [...cpu.keys()].filter((i) => Number.isFinite(cpu[i]));
    expect(finite.length).toBeGreaterThan(1000);
    expect(finite.length).toBeLessThan(cpu.length);
    const largest = finite.reduce((most, i) => Math.max(most, Math.abs(cpu[i]!)), 0);
    cpu.forEach((v, i) => {
      if (Number.isFinite(v)) expect(Math.abs(gpu[i]! - v)).toBeLessThan(2e-6 * largest);
      else expect(gpu[i]).toBe(v);
    });
    pair.releaseAll();
  });
});
