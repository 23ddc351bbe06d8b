// Adapter files of every dialect on the tiny FLUX.1: all must change the same weights by the same amounts.
import { readFileSync } from "node:fs";
import { attachLora, load, planLora, withLora } from "@wick/nn";
import { cpu, memorySource, openSafetensors, readTensorBytes, stripPrefix, type WeightSource } from "@wick/tensor";
import { explainDifference, relativeL2 } from "@wick/testing";
import { inventorySource, readInventory } from "@wick/testing/inventory";
import { readModuleGolden } from "@wick/testing/module-golden";
import { expect, test } from "vitest";
import { Flux, flux1LoraNames } from "../src/index.ts";
import { configOf, inputsOf, openGolden } from "./parity-cases.ts";

const open = (path: string): Promise<WeightSource> => openSafetensors([memorySource(readFileSync(new URL(path, import.meta.url)), path)]);
const base = stripPrefix(await open("./goldens/flux1.weights.safetensors"), "w.");
const adapter = (dialect: string): Promise<WeightSource> => open(`../../nn/test/goldens/lora-flux1.${dialect}.safetensors`);
const floats = async (source: WeightSource, name: string): Promise<Float32Array> =>
  new Float32Array((await readTensorBytes(source, name)).buffer);

/** Row order and factors of the dialects agree exactly; what is left is the rounding of alpha / rank. */
const TOLERANCE = 1e-6;

test.each(["bfl", "diffusers"])("%s changes the weights as kohya does", async (dialect) => {
  const lora = await adapter(dialect);
  const expected = withLora(base, await adapter("kohya"), 0.9, { names: flux1LoraNames });
  const merged = withLora(base, lora, 0.9, { names: flux1LoraNames });
  expect(merged.coverage).toMatchObject({ matched: lora.entries.size, unmatched: [], unsupported: [], redundant: [] });
  expect([...merged.coverage.targets].sort()).toEqual([...expected.coverage.targets].sort());
  expect(merged.coverage.targets).toHaveLength(9);
  for (const name of merged.coverage.targets) {
    const wanted = await floats(expected, name);
    expect(explainDifference(await floats(merged, name), wanted, TOLERANCE), name).toBeNull();
    expect(relativeL2(await floats(base, name), wanted), name).toBeGreaterThan(0.01);
  }
});

test("XLabs files change the attention of both streams, without alpha", async () => {
  const [xlabs, kohya] = [await adapter("xlabs"), await adapter("kohya")];
  const merged = withLora(base, xlabs, 2 / 3, { names: flux1LoraNames });
  // kohya's alpha is 2 and its rank 3.
  const expected = withLora(base, kohya, 1, { names: flux1LoraNames });
  expect(merged.coverage).toMatchObject({ matched: xlabs.entries.size, unmatched: [] });
  expect(merged.coverage.targets.length).toBeGreaterThan(2);
  for (const name of merged.coverage.targets) {
    expect(explainDifference(await floats(merged, name), await floats(expected, name), TOLERANCE), name).toBeNull();
  }
});

const golden = await open("../../nn/test/goldens/lora-flux1.safetensors");
/** Relative L2 of a whole forward pass in f32. */
const FORWARD_TOLERANCE = 1e-5;

test.each([
  ["kohya", "diffusers"],
  ["bfl", "diffusers"],
  ["diffusers", "diffusers"],
  ["xlabs", "xlabs"],
])("%s attached to the model gives diffusers' output", async (dialect, output) => {
  using device = cpu();
  using model = new Flux(configOf(await openGolden("dev")));
  await load(model, base, device);
  const inputs = inputsOf(device, await readModuleGolden(new URL("../../nn/test/goldens/lora-flux1.safetensors", import.meta.url)));
  using attached = await attachLora(model, await adapter(dialect), { names: flux1LoraNames });
  using out = model.forward(inputs);
  const unmerged = (await out.toArray()) as Float32Array;
  expect(explainDifference(unmerged, await floats(golden, `out.${output}`), FORWARD_TOLERANCE)).toBeNull();
  attached.scale = 0;
  using bare = model.forward(inputs);
  expect(explainDifference((await bare.toArray()) as Float32Array, await floats(golden, "out.base"), FORWARD_TOLERANCE)).toBeNull();
  expect(relativeL2(await floats(golden, "out.base"), await floats(golden, `out.${output}`))).toBeGreaterThan(1e-3);
  attached.detach();
  await load(model, withLora(base, await adapter(dialect), 1, { names: flux1LoraNames }), device);
  using merged = model.forward(inputs);
  expect(explainDifference((await merged.toArray()) as Float32Array, unmerged, FORWARD_TOLERANCE)).toBeNull();
  merged.dispose();
  for (const t of [inputs.img, inputs.txt, inputs.y]) t.dispose();
  out.dispose();
  bare.dispose();
  model.unload();
  expect(device.liveBytes).toBe(0);
});

test("a control adapter makes dev a control model: the authors' own result", async () => {
  const control = await readModuleGolden(new URL("./goldens/flux1-control-lora.safetensors", import.meta.url));
  const config = { ...configOf(await openGolden("dev")), inChannels: 128 };
  const run = async (source: WeightSource): Promise<Float32Array> => {
    using device = cpu();
    using model = new Flux(config);
    await load(model, source, device);
    const inputs = inputsOf(device, control);
    using out = model.forward(inputs);
    for (const t of [inputs.img, inputs.txt, inputs.y]) t.dispose();
    return (await out.toArray()) as Float32Array;
  };
  const file = await open("./goldens/control-lora.safetensors");
  const merged = withLora(base, file, Number(control.metadata.get("scale")), { names: flux1LoraNames });
  expect(merged.coverage).toMatchObject({ matched: file.entries.size, unmatched: [], unsupported: [], redundant: [] });
  const wanted = control.outputs.get("output")!.values as Float32Array;
  expect(explainDifference(await run(merged), wanted, 1e-5)).toBeNull();
  expect(relativeL2(await run(withLora(base, file, 0.86, { names: flux1LoraNames })), wanted)).toBeGreaterThan(1e-3);
});

test("beside quantized weights a control adapter cannot run: it widens and replaces, so it is merged", async () => {
  using device = cpu();
  using model = new Flux(configOf(await openGolden("dev")));
  await load(model, base, device);
  using attached = await attachLora(model, await open("./goldens/control-lora.safetensors"), { names: flux1LoraNames });
  expect(attached.coverage.unsupported).toContain("img_in.lora_A.weight");
  expect(attached.coverage.unsupported).toContain("double_blocks.0.img_attn.norm.query_norm.scale");
});

const released = inventorySource(readInventory("flux1-dev"));
const shapes = new Map([...released.entries].map(([n, e]) => [n, e.shape]));

/** A rank-4 pair for a module, without values. */
const pair = (down: string, up: string, [rows, columns]: readonly [number, number]): Record<string, readonly number[]> => ({
  [down]: [4, columns],
  [up]: [rows, 4],
});

test("XLabs adapters of single blocks cover q, k and v only", () => {
  const file = inventorySource({
    ...pair("single_blocks.5.processor.qkv_lora.down.weight", "single_blocks.5.processor.qkv_lora.up.weight", [9216, 3072]),
    ...pair("single_blocks.5.processor.proj_lora.down.weight", "single_blocks.5.processor.proj_lora.up.weight", [3072, 15_360]),
  });
  const { parts, coverage } = planLora(shapes, file, flux1LoraNames);
  expect(coverage).toMatchObject({ matched: 4, unmatched: [] });
  expect(parts.get("single_blocks.5.linear1.weight")![0]!.trace.ourRows).toEqual({ start: 0, end: 3, total: 7 });
  expect(parts.get("single_blocks.5.linear2.weight")).toHaveLength(1);
});

test("the last modulation of diffusers adapters is swapped", () => {
  const file = inventorySource(
    pair("transformer.norm_out.linear.lora_A.weight", "transformer.norm_out.linear.lora_B.weight", [6144, 3072]),
  );
  expect(planLora(shapes, file, flux1LoraNames).parts.get("final_layer.adaLN_modulation.1.weight")![0]!.trace.swapHalves).toBe(true);
});

test("a BFL control adapter covers every layer, widens the image embedder and replaces the norms", () => {
  const file: Record<string, readonly number[]> = {};
  for (const [name, shape] of shapes) {
    const module = name.replace(/\.weight$/, "");
    if (name.endsWith(".scale")) file[name] = shape;
    else if (name.endsWith(".weight")) {
      const wide = name === "img_in.weight" ? 128 : shape[1]!;
      Object.assign(file, pair(`${module}.lora_A.weight`, `${module}.lora_B.weight`, [shape[0]!, wide]), {
        [`${module}.lora_B.bias`]: [shape[0]!],
      });
    }
  }
  const merged = withLora(released, inventorySource(file), 0.85, { names: flux1LoraNames });
  expect(merged.coverage).toMatchObject({ matched: Object.keys(file).length, unmatched: [], unsupported: [] });
  expect(merged.coverage.targets).toHaveLength(780);
  const control = readInventory("flux1-control");
  for (const [name, entry] of merged.entries) expect(entry.shape, name).toEqual(control[name]);
});

test("an adapter for another model is refused", () => {
  const file = inventorySource(pair("layers.0.attention.to_q.lora_A.weight", "layers.0.attention.to_q.lora_B.weight", [3840, 3840]));
  expect(() => planLora(shapes, file, flux1LoraNames)).toThrow("none of 2 tensors changes a weight of this model");
});
