// FLUX.1 module by module against the authors' class, in both layouts, and the ways it can be called.

import { load, namedModules, namedParameters, ropeTable, runBlocksAsync } from "@wick/nn";
import { cpu, type Device, hold, scaledDotProductAttention, scope, type Tensor, torchCpu } from "@wick/tensor";
import { relativeL2, tolerances } from "@wick/testing";
import { memoryWeights, randomWeights } from "@wick/testing/memory-weights";
import { describe, expect, test } from "vitest";
import { Flux, type FluxConfig, flux1Dev } from "../src/index.ts";
import { blockErrors, configOf, type FluxGolden, fluxOutput, fluxParity, inputsOf, openGolden, weightsOf } from "./parity-cases.ts";

const goldens: readonly FluxGolden[] = ["dev", "schnell", "kontext", "fill", "control"];

describe("parity with black-forest-labs/flux", () => {
  test.each(goldens)("every module of %s", async (name) => {
    using device = cpu();
    const compared = await fluxParity(device, name);
    expect(compared.length).toBeGreaterThan(45);
    expect(Math.max(...blockErrors(compared))).toBeLessThan(1e-5);
    expect(device.liveBytes).toBe(0);
  });

  test("the same weights in diffusers' layout", async () => {
    using device = cpu();
    const compared = await fluxParity(device, "dev", { layout: "diffusers" });
    expect(Math.max(...blockErrors(compared))).toBeLessThan(1e-5);
    expect(device.liveBytes).toBe(0);
  });

  test.each<[string, FluxGolden, Partial<FluxConfig>, RegExp]>([
    ["RoPE base", "dev", { ropeTheta: 9000 }, /double_blocks\.0\.(img|txt)_attn\.proj/],
    ["RoPE axes", "dev", { ropeAxes: [6, 4, 6] }, /double_blocks\.0\.(img|txt)_attn\.proj/],
    ["epsilon", "dev", { eps: 1e-5 }, /double_blocks\.0\.img_norm1/],
    ["timestep factor", "schnell", { timestepScale: 999 }, /time_in\.in_layer/],
  ])("a wrong %s is noticed where it first acts", async (_, name, changes, where) => {
    using device = cpu();
    await expect(fluxParity(device, name, { changes })).rejects.toThrow(where);
    expect(device.liveBytes).toBe(0);
  });

  test("another way to attend is noticed", async () => {
    using device = cpu();
    const cold = (q: Tensor, k: Tensor, v: Tensor) => scaledDotProductAttention(q, k, v, { scale: 0.99 / Math.sqrt(q.dim(-1)) });
    await expect(fluxParity(device, "dev", { parts: { attention: cold } })).rejects.toThrow(/_attn\.proj/);
    const attentionAt = (path: string) => (path === "single_blocks.1" ? cold : undefined);
    await expect(fluxParity(device, "dev", { parts: { attentionAt } })).rejects.toThrow(/single_blocks\.1/);
  });

  test("the position table is the reference's", async () => {
    const golden = await openGolden("kontext");
    using device = cpu();
    const { imgPositions, txtPositions, ...tensors } = inputsOf(device, golden);
    using table = hold(ropeTable(device, [...txtPositions, ...imgPositions], { widths: [4, 6, 6], theta: 10_000 }));
    const [cos, sin] = [await table.value.cos.toArray(), await table.value.sin.toArray()] as [Float32Array, Float32Array];
    const { values } = golden.outputs.get("pe_embedder")!;
    const matrices = Float64Array.from(values, (_, i) => [cos, sin.map((s) => -s), sin, cos][i % 4]![Math.floor(i / 4)]!);
    expect(relativeL2(matrices, values)).toBeLessThan(1e-6);
    for (const t of [tensors.img, tensors.txt, tensors.y]) t.dispose();
  });

  test("linear1 and linear2 as a whole give what the reference's give", async () => {
    const golden = await openGolden("dev");
    using device = cpu();
    using model = new Flux(configOf(golden));
    await load(model, await weightsOf(golden, "black-forest-labs"), device);
    const out = (path: string) => {
      const { values, shape } = golden.outputs.get(path)!;
      return device.tensor(values as Float32Array, shape);
    };
    const block = model.single_blocks[0]!;
    using result = hold(
      scope(() => {
        const [shift, scale] = out("single_blocks.0.modulation.lin").unsqueeze(1).chunk(3, -1);
        return { linear1: block.linear1.forward(out("single_blocks.0.pre_norm").modulate(shift, scale)) };
      }),
    );
    const { values } = golden.outputs.get("single_blocks.0.linear1")!;
    expect(relativeL2((await result.value.linear1.toArray()) as Float32Array, values)).toBeLessThan(tolerances.matmul.f32);
  });
});

describe("storage formats", () => {
  test.each([
    ["bf16", 2e-2],
    ["f16", 1e-2],
  ] as const)("%s weights stay within %f of the f32 reference", async (dtype, limit) => {
    using device = cpu();
    for (const name of goldens) {
      const { actual, expected } = await fluxOutput(device, name, dtype);
      const error = relativeL2(actual, expected);
      expect(error).toBeLessThan(limit);
      expect(error).toBeGreaterThan(1e-6);
    }
    expect(device.liveBytes).toBe(0);
  });

  // Rows of whole 256-value blocks.
  const wide: FluxConfig = { ...flux1Dev, vectorWidth: 64, textWidth: 256, width: 256, heads: 2, doubleBlocks: 1, singleBlocks: 1 };
  const positions = (n: number) => Array.from({ length: n }, (_, i) => [0, Math.floor(i / 4), i % 4]);
  const wideInputs = (device: Device) => ({
    img: device.randn([1, 12, 64], torchCpu(5)),
    imgPositions: positions(12),
    txt: device.randn([1, 7, 256], torchCpu(6)),
    txtPositions: positions(7).map(() => [0, 0, 0]),
    sigma: [0.7],
    y: device.randn([1, 64], torchCpu(7)),
    guidance: [3.5],
  });

  test.each(["q8_0", "q4_K", "f8e4m3"] as const)("%s weights give what their dequantized values give", async (dtype) => {
    using device = cpu();
    using packed = new Flux(wide);
    await load(packed, randomWeights(packed), device, { dtype });
    const kinds = new Map<string, number>();
    const values = new Map<string, { shape: readonly number[]; data: Float32Array }>();
    for (const [path, p] of namedParameters(packed)) {
      kinds.set(p.dtype, (kinds.get(p.dtype) ?? 0) + 1);
      using plain = p.dtype === "f32" ? p.copy() : p.dequantize();
      values.set(path, { shape: p.shape, data: (await plain.toArray()) as Float32Array });
    }
    // Ten linear layers in the blocks; embedders and the last layer are kept.
    expect(kinds.get(dtype)).toBe(2 * 5 + 3);
    using unpacked = new Flux(wide);
    await load(unpacked, memoryWeights(values), device);
    const run = async (model: Flux) => {
      const inputs = wideInputs(device);
      using out = model.forward(inputs);
      for (const t of [inputs.img, inputs.txt, inputs.y]) t.dispose();
      return (await out.toArray()) as Float32Array;
    };
    expect(relativeL2(await run(packed), await run(unpacked))).toBeLessThan(1e-5);
  });
});

describe("ways to run", () => {
  const opened = async (device: Device, name: FluxGolden = "dev") => {
    const golden = await openGolden(name);
    const model = new Flux(configOf(golden));
    await load(model, await weightsOf(golden, "black-forest-labs"), device);
    const inputs = inputsOf(device, golden);
    const expected = golden.outputs.get("output")!.values;
    const free = () => {
      for (const owned of [inputs.img, inputs.txt, inputs.y, model]) owned[Symbol.dispose]();
    };
    return { model, inputs, expected, free };
  };

  test("modulations made ahead replace the weights that make them", async () => {
    using device = cpu();
    const { model, inputs, expected, free } = await opened(device);
    {
      using vec = model.condition(inputs);
      using ahead = hold(model.modulations(vec));
      for (const [path, m] of namedModules(model)) if (/(_mod|modulation)$/.test(path) && path.includes("_blocks.")) m.unload();
      using context = hold(model.context(inputs.txt, inputs.txtPositions, inputs.imgPositions));
      using out = await runBlocksAsync(device, model.run(inputs.img, ahead.value, context.value));
      expect(relativeL2((await out.toArray()) as Float32Array, expected)).toBeLessThan(1e-5);
    }
    free();
    expect(device.liveBytes).toBe(0);
  });

  test("an abort takes effect before the next block and leaves nothing", async () => {
    using device = cpu();
    const { model, inputs, free } = await opened(device);
    const before = device.liveBytes;
    const abort = new AbortController();
    const seen: number[] = [];
    {
      using vec = model.condition(inputs);
      using context = hold(model.context(inputs.txt, inputs.txtPositions, inputs.imgPositions));
      const run = runBlocksAsync(device, model.run(inputs.img, vec, context.value), {
        signal: abort.signal,
        after: (_, i) => {
          seen.push(i);
          if (i === 2) abort.abort(new Error("enough"));
        },
      });
      await expect(run).rejects.toThrow("enough");
    }
    expect(seen).toEqual([0, 1, 2]);
    expect(device.liveBytes).toBe(before);
    free();
  });

  test("wrong inputs are refused by name", async () => {
    using device = cpu();
    const { model, inputs, free } = await opened(device);
    const { guidance: _, ...unguided } = inputs;
    expect(() => model.forward(unguided)).toThrowErrorMatchingInlineSnapshot(
      `[ShapeError: Flux.condition: this model takes a guidance number; pass guidance: guidance is undefined]`,
    );
    expect(() => model.forward({ ...inputs, txtPositions: [[0, 0, 0]] })).toThrowErrorMatchingInlineSnapshot(
      `[ShapeError: Flux.context: 1 text positions for 7 text tokens: tensor f32 [2, 7, 24]]`,
    );
    expect(() => model.forward({ ...inputs, imgPositions: [[0, 0, 0]] })).toThrowErrorMatchingInlineSnapshot(
      `[ShapeError: Flux.run: the context has positions for 1 image tokens: tensor f32 [2, 15, 64]]`,
    );
    using narrow = device.zeros([2, 15, 60]);
    expect(() => model.forward({ ...inputs, img: narrow })).toThrowErrorMatchingInlineSnapshot(
      `[ShapeError: matmul: inner dimensions differ (60 and 64): lhs full f32 [2, 15, 60] @ rhs img_in.weight f32 [64, 48]]`,
    );
    free();
    const schnell = await opened(device, "schnell");
    expect(() => schnell.model.forward({ ...schnell.inputs, guidance: [1, 1] })).toThrowErrorMatchingInlineSnapshot(
      `[ShapeError: Flux.condition: this model takes no guidance number; omit it: guidance is 1,1]`,
    );
    schnell.free();
    narrow.dispose();
    expect(device.liveBytes).toBe(0);
  });

  test("a model that is built but not loaded says so when it is run", () => {
    const model = new Flux(flux1Dev);
    using device = cpu();
    using y = device.zeros([1, 768]);
    expect(() => model.condition({ sigma: [1], y, guidance: [3.5] })).toThrowErrorMatchingInlineSnapshot(
      `[DisposedError: use: f32 [3072, 256] has no data yet; call load(model, source, device) or initParameters first]`,
    );
  });
});
