// Adapters against PEFT: merged and attached, all spellings, several at once, on quantized bases.
import { readFileSync } from "node:fs";
import { cpu, memorySource, openSafetensors, readTensorBytes, scope, type WeightSource } from "@wick/tensor";
import { explainDifference } from "@wick/testing";
import { expect, test } from "vitest";
import { attachedLoras, attachLora, detachLora, Linear, load, Module, planLora, RmsNorm, setLoraScale, withLora } from "../src/index.ts";
import { type MemoryTensor, memoryWeights, ramp, safetensorsBytes } from "./memory-weights.ts";

/** PEFT's own result within f32 rounding; the golden was refused unless a wrong alpha or scale moves it by more. */
const TOLERANCE = 1e-6;

const golden = await openSafetensors([memorySource(readFileSync(new URL("./goldens/lora-linear.safetensors", import.meta.url)))]);
const values = async (name: string): Promise<Float32Array> => new Float32Array((await readTensorBytes(golden, name)).buffer);
const tensor = async (name: string): Promise<MemoryTensor> => ({
  dtype: "F32",
  shape: golden.entries.get(name)!.shape,
  bytes: await readTensorBytes(golden, name),
});

class Model extends Module {
  readonly proj = new Linear(10, 7);
}
const base = await memoryWeights({ "proj.weight": await tensor("w.proj.weight"), "proj.bias": await tensor("w.proj.bias") });
const [down, up] = [await tensor("in.down"), await tensor("in.up")];
const alpha = (value: number): MemoryTensor => ramp([], value);
const floatsOf = async (source: WeightSource, name: string): Promise<Float32Array> =>
  new Float32Array((await readTensorBytes(source, name)).buffer);

async function run(model: Model): Promise<Float32Array> {
  const x = model.proj.weight.device.tensor(await values("in.x"), [4, 10]);
  const y = scope(() => model.proj.forward(x));
  x.dispose();
  const out = (await y.toArray()) as Float32Array;
  y.dispose();
  return out;
}

const spellings: Record<string, Record<string, MemoryTensor>> = {
  kohya: { "lora_unet_proj.lora_down.weight": down, "lora_unet_proj.lora_up.weight": up, "lora_unet_proj.alpha": alpha(2) },
  peft: { "base_model.model.proj.lora_A.weight": down, "base_model.model.proj.lora_B.weight": up, "proj.alpha": alpha(2) },
  "named peft": {
    "base_model.model.proj.lora_A.default.weight": down,
    "base_model.model.proj.lora_B.default.weight": up,
    "transformer.proj.alpha": alpha(2),
  },
  "old diffusers": { "transformer.proj.lora.down.weight": down, "transformer.proj.lora.up.weight": up, "transformer.proj.alpha": alpha(2) },
  ComfyUI: { "diffusion_model.proj.lora_A.weight": down, "diffusion_model.proj.lora_B.weight": up, "diffusion_model.proj.alpha": alpha(2) },
};

test.each(Object.entries(spellings))("%s: attached and merged equal PEFT", async (_, tensors) => {
  using device = cpu();
  {
    using model = new Model();
    await load(model, base, device);
    using lora = await attachLora(model, await memoryWeights(tensors));
    expect(lora.coverage).toMatchObject({ targets: ["proj.weight"], matched: 3, unmatched: [], unsupported: [] });
    expect(explainDifference(await run(model), await values("out.plain"), TOLERANCE)).toBeNull();
  }
  const merged = withLora(base, await memoryWeights(tensors), 1);
  expect(explainDifference(await floatsOf(merged, "proj.weight"), await values("out.plain.weight"), TOLERANCE)).toBeNull();
  expect(await floatsOf(merged, "proj.bias")).toEqual(await floatsOf(base, "proj.bias"));
  using model = new Model();
  await load(model, merged, device);
  expect(explainDifference(await run(model), await values("out.plain.merged"), TOLERANCE)).toBeNull();
  model.unload();
  expect(device.liveBytes).toBe(0);
});

test("alpha and rank-stabilized scaling are read from PEFT's metadata", async () => {
  const tensors = { "transformer.proj.lora_A.weight": down, "transformer.proj.lora_B.weight": up };
  const metadata = (rslora: boolean) => ({
    lora_adapter_metadata: JSON.stringify({ "transformer.lora_alpha": 2, "transformer.r": 3, "transformer.use_rslora": rslora }),
  });
  for (const [rslora, expected] of [
    [false, "out.plain.weight"],
    [true, "out.rslora.weight"],
  ] as const) {
    const lora = await openSafetensors([memorySource(safetensorsBytes(tensors, metadata(rslora)))]);
    const merged = await floatsOf(withLora(base, lora, 1), "proj.weight");
    expect(explainDifference(merged, await values(expected), TOLERANCE)).toBeNull();
  }
});

test("adapters stack, scale and come off", async () => {
  using device = cpu();
  using model = new Model();
  await load(model, base, device);
  const bare = await run(model);
  const before = device.liveBytes;
  const plain = await values("out.plain");
  const one = await attachLora(model, await memoryWeights(spellings["kohya"]!), { name: "one", scale: 0.25 });
  const two = await attachLora(model, await memoryWeights(spellings["peft"]!), { name: "two", scale: 0.5, dtype: "bf16" });
  expect(attachedLoras(model)).toEqual(["one", "two"]);
  one.scale = 1.5;
  setLoraScale(model, "two", -0.5);
  expect(explainDifference(await run(model), plain, 4e-3)).toBeNull();
  await expect(attachLora(model, await memoryWeights(spellings["kohya"]!), { name: "one" })).rejects.toThrowErrorMatchingInlineSnapshot(
    `[WeightsError: attachLora: an adapter of this name is attached: one; detach it first]`,
  );
  expect(() => setLoraScale(model, "three", 1)).toThrowErrorMatchingInlineSnapshot(
    `[WeightsError: setLoraScale: no adapter of this name is attached: three; attached are one, two]`,
  );
  two.detach();
  one.scale = 1;
  expect(explainDifference(await run(model), plain, TOLERANCE)).toBeNull();
  detachLora(model, "one");
  expect(await run(model)).toEqual(bare);
  expect(device.liveBytes).toBe(before);
  await attachLora(model, await memoryWeights(spellings["kohya"]!));
  model.unload();
  expect(device.liveBytes).toBe(0);
});

test("a fused epilogue sees the adapted result", async () => {
  const { epilogue } = await import("@wick/tensor");
  using device = cpu();
  using model = new Model();
  await load(model, base, device);
  using _ = await attachLora(model, await memoryWeights(spellings["kohya"]!));
  const x = device.tensor(await values("in.x"), [4, 10]);
  const y = scope(() =>
    model.proj.forward(
      x,
      epilogue((v) => v.relu()),
    ),
  );
  const expected = (await values("out.plain")).map((v) => Math.max(0, v));
  expect(explainDifference((await y.toArray()) as Float32Array, expected, TOLERANCE)).toBeNull();
  x.dispose();
  y.dispose();
});

test("a quantized base stays quantized under an attached adapter; merging quantizes anew", async () => {
  const shape = [32, 64];
  const rows = Float32Array.from({ length: 32 * 64 }, (_, i) => Math.sin(i * 0.37));
  const weight: MemoryTensor = { dtype: "F32", shape, bytes: new Uint8Array(rows.buffer) };
  const named = await memoryWeights({
    "proj.lora_down.weight": ramp([2, 64], -0.5, 0.01),
    "proj.lora_up.weight": ramp([32, 2], -0.3, 0.01),
  });
  class Wide extends Module {
    readonly proj = new Linear(64, 32, { bias: false });
  }
  using device = cpu();
  using model = new Wide();
  const source = await memoryWeights({ "proj.weight": weight });
  await load(model, source, device, { dtype: "q8_0" });
  const x = device.tensor(
    Float32Array.from({ length: 128 }, (_, i) => Math.cos(i)),
    [2, 64],
  );
  const bare = scope(() => model.proj.forward(x));
  using attached = await attachLora(model, named, { scale: 0.7 });
  expect([model.proj.weight.dtype, attached.coverage.matched]).toEqual(["q8_0", 2]);
  const adapted = scope(() => model.proj.forward(x));
  const change = scope(() => adapted.sub(bare));
  const d = await floatsOf(named, "proj.lora_down.weight");
  const u = await floatsOf(named, "proj.lora_up.weight");
  const xs = (await x.toArray()) as Float32Array;
  const expected = Float32Array.from({ length: 64 }, (_, i) => {
    const [row, out] = [Math.floor(i / 32), i % 32];
    let sum = 0;
    for (let k = 0; k < 2; k++) for (let c = 0; c < 64; c++) sum += 0.7 * u[out * 2 + k]! * d[k * 64 + c]! * xs[row * 64 + c]!;
    return sum;
  });
  expect(explainDifference((await change.toArray()) as Float32Array, expected, 1e-5)).toBeNull();
  attached.detach();
  await load(model, withLora(source, named, 0.7), device, { dtype: "q8_0" });
  const merged = scope(() => model.proj.forward(x));
  const [got, wanted] = [(await merged.toArray()) as Float32Array, (await adapted.toArray()) as Float32Array];
  expect(explainDifference(got, wanted, 2e-2)).toBeNull();
  expect(explainDifference((await bare.toArray()) as Float32Array, wanted, 8e-2)).not.toBeNull();
  for (const t of [x, bare, adapted, change, merged]) t.dispose();
  model.unload();
  expect(device.liveBytes).toBe(0);
});

test("an adapter that changes nothing is refused with what was found", async () => {
  const weights = new Map([["proj.weight", [7, 10]]]);
  const plan = (tensors: Record<string, MemoryTensor>) => async () => planLora(weights, await memoryWeights(tensors));
  await expect(
    plan({ "transformer.other.lora_A.weight": down, "transformer.other.lora_B.weight": up }),
  ).rejects.toThrowErrorMatchingInlineSnapshot(
    `[WeightsError: lora: none of 2 tensors changes a weight of this model: transformer.other.lora_A.weight, transformer.other.lora_B.weight, …; is it for another model, or are its name rules missing?]`,
  );
  await expect(plan({ "lora_te1_x.lora_down.weight": down })).rejects.toThrowErrorMatchingInlineSnapshot(
    `[WeightsError: lora: none of 1 tensors changes a weight of this model, 1 tensors are for text encoders: lora_te1_x.lora_down.weight, …; is it for another model, or are its name rules missing?]`,
  );
  await expect(plan({ "proj.lokr_w1": ramp([2, 2]), "proj.lokr_w2": ramp([2, 2]) })).rejects.toThrowErrorMatchingInlineSnapshot(
    `[WeightsError: lora: none of 2 tensors changes a weight of this model, 2 tensors are of kinds that are not read (DoRA, LoHa, LoKr): proj.lokr_w1, proj.lokr_w2, …; is it for another model, or are its name rules missing?]`,
  );
  await expect(plan({ "proj.weight": ramp([7, 10]) })).rejects.toThrow("none of 1 tensors");
  const checkpoint = async () =>
    planLora(new Map([...weights, ["proj.bias", [7]]]), await memoryWeights({ "proj.weight": ramp([7, 10]), "proj.bias": ramp([7]) }));
  await expect(checkpoint).rejects.toThrowErrorMatchingInlineSnapshot(
    `[WeightsError: lora: the file holds whole weights and no changes to them: proj.weight [7, 10]; it is a checkpoint, not an adapter]`,
  );
  await expect(
    plan({ "proj.lora_A.weight": ramp([3, 10]), "proj.lora_B.weight": ramp([8, 3]) }),
  ).rejects.toThrowErrorMatchingInlineSnapshot(
    `[WeightsError: lora: a change has another shape than the weight: proj.lora_A.weight [3, 10], proj.lora_B.weight [8, 3] for proj.weight [7, 10]]`,
  );
  await expect(plan({ "proj.lora_A.weight": ramp([3, 9]), "proj.lora_B.weight": ramp([7, 3]) })).rejects.toThrow("another shape");
});

test("what finds no place is listed, and the rest is used", async () => {
  const weights = new Map([["proj.weight", [7, 10]]]);
  const tensors = {
    ...spellings["kohya"]!,
    "lora_unet_ghost.lora_down.weight": down,
    "lora_te_clip.lora_up.weight": up,
    "proj2.hada_w1_a": up,
  };
  expect(planLora(weights, await memoryWeights(tensors)).coverage).toMatchInlineSnapshot(`
    {
      "matched": 3,
      "otherNetworks": [
        "lora_te_clip.lora_up.weight",
      ],
      "redundant": [],
      "targets": [
        "proj.weight",
      ],
      "unmatched": [
        "lora_unet_ghost.lora_down.weight",
      ],
      "unsupported": [
        "proj2.hada_w1_a",
      ],
    }
  `);
});

test("control adapters widen inputs, add biases and replace norms when merged", async () => {
  class Control extends Module {
    readonly img_in = new Linear(4, 2);
    readonly query_norm = new RmsNorm(2, { eps: 1e-6, name: "scale" });
  }
  const source = await memoryWeights({ "img_in.weight": ramp([2, 2], 1), "img_in.bias": ramp([2]), "query_norm.scale": ramp([2]) });
  const lora = await memoryWeights({
    "img_in.lora_A.weight": ramp([1, 4], 1),
    "img_in.lora_B.weight": ramp([2, 1], 1),
    "img_in.lora_B.bias": ramp([2], 10),
    "query_norm.scale": ramp([2], 5),
  });
  const merged = withLora(source, lora, 0.5);
  using device = cpu();
  using model = new Control();
  await load(model, merged, device);
  expect([...(await floatsOf(merged, "img_in.weight"))]).toEqual([1.5, 3, 1.5, 2, 4, 6, 3, 4]);
  expect([...(await floatsOf(merged, "img_in.bias"))]).toEqual([5, 6.5]);
  expect([...(await floatsOf(merged, "query_norm.scale"))]).toEqual([5, 6]);
  using attached = await attachLora(model, lora);
  expect(attached.coverage).toMatchObject({
    targets: ["img_in.weight", "img_in.bias", "query_norm.scale"],
    unsupported: ["query_norm.scale"],
  });
  class Narrow extends Module {
    readonly img_in = new Linear(2, 2);
    readonly query_norm = new RmsNorm(2, { eps: 1e-6, name: "scale" });
  }
  using narrow = new Narrow();
  await load(narrow, source, device);
  await expect(attachLora(narrow, lora)).rejects.toThrowErrorMatchingInlineSnapshot(
    `[WeightsError: attachLora: changes no Linear layer: img_in.weight, img_in.bias, query_norm.scale, …; merge it with withLora()]`,
  );
});

test("abort leaves nothing attached", async () => {
  using device = cpu();
  using model = new Model();
  await load(model, base, device);
  const before = device.liveBytes;
  const lora = await memoryWeights(spellings["kohya"]!);
  const controller = new AbortController();
  const source: WeightSource = {
    ...lora,
    async *stream(name, options) {
      controller.abort(new Error("enough"));
      yield* lora.stream(name, options);
    },
  };
  await expect(attachLora(model, source, { signal: controller.signal })).rejects.toThrow("enough");
  expect([attachedLoras(model), device.liveBytes]).toEqual([[], before]);
});
