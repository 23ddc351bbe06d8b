import { DTypeError, type WeightSource } from "@wick/tensor";
import { expect, test } from "vitest";
import {
  CheckpointMismatchError,
  Conv2d,
  compareWeights,
  Embedding,
  LayerNorm,
  Linear,
  load,
  Module,
  namedParameters,
  quantizeTo,
  repeat,
} from "../src/index.ts";
import { memoryDevice } from "./memory-device.ts";
import { f32Tensor, type MemoryTensor, memoryWeights, ramp } from "./memory-weights.ts";

class Block extends Module {
  readonly norm = new LayerNorm(64);
  readonly proj = new Linear(64, 64);
}
class Toy extends Module {
  readonly embed = new Embedding(40, 64);
  readonly conv = new Conv2d(4, 64, 3);
  readonly blocks = repeat(2, () => new Block());
  readonly head = new Linear(64, 40, { bias: false });
  override get highPrecision(): readonly string[] {
    return ["head.**"];
  }
}

const shapesOf = (model: Module): [string, readonly number[]][] => [...namedParameters(model)].map(([n, p]) => [n, p.shape]);
const weightsFor = (model: Module): Record<string, MemoryTensor> =>
  Object.fromEntries(shapesOf(model).map(([n, shape], k) => [n, ramp(shape, k, 1 / 1024)]));

test("every parameter gets the tensor of its name", async () => {
  const [model, device] = [new Toy(), memoryDevice()];
  await load(model, await memoryWeights(weightsFor(model)), device);
  const weight = await model.blocks[1]!.proj.weight.toArray();
  const index = shapesOf(model).findIndex(([n]) => n === "blocks.1.proj.weight");
  expect(weight.slice(0, 3)).toEqual(Float32Array.of(index, index + 1 / 1024, index + 2 / 1024));
  expect(model.blocks[1]!.proj.weight.label).toBe("blocks.1.proj.weight");
  expect(device.liveBytes).toBe([...namedParameters(model)].reduce((sum, [, p]) => sum + p.size * 4, 0));
  model.unload();
  expect(device.liveBytes).toBe(0);
});

test("all differences are reported together, before any byte is read", async () => {
  const [model, device] = [new Toy(), memoryDevice()];
  const { "head.weight": _, "blocks.0.norm.bias": __, ...rest } = weightsFor(model);
  const source = await memoryWeights({ ...rest, "conv.weight": ramp([64, 4, 3, 1]), "extra.alpha": ramp([1]), "extra.beta": ramp([2]) });
  const silent: WeightSource = {
    ...source,
    stream: () => {
      throw new Error("read too early");
    },
  };
  const error = await load(model, silent, device).catch((e: unknown) => e);
  expect(error).toBeInstanceOf(CheckpointMismatchError);
  expect((error as CheckpointMismatchError).report).toEqual({
    missing: ["blocks.0.norm.bias", "head.weight"],
    unused: ["extra.alpha", "extra.beta"],
    misshapen: [{ name: "conv.weight", wanted: [64, 4, 3, 3], found: [64, 4, 3, 1] }],
  });
  expect((error as Error).message).toMatchInlineSnapshot(`
    "load: the checkpoint does not fit Toy: 2 missing, 2 unused, 1 misshapen
      2 missing from the checkpoint:
        blocks.0.norm.bias
        head.weight
      2 in the checkpoint but not in the model:
        extra.alpha
        extra.beta
      1 of another shape:
        conv.weight: the model has [64, 4, 3, 3], the checkpoint [64, 4, 3, 1]
      if the names follow another layout, rename them: remap(source, rules)
      what is new in the model gets initial values, what it does without is allowed: withInitial(source, model, …), allowUnused"
  `);
  expect(device.liveBytes).toBe(0);
});

test("long lists are cut after five names", async () => {
  const model = new Toy();
  const error = await load(model, await memoryWeights({}), memoryDevice()).catch((e: unknown) => e);
  expect((error as Error).message).toMatchInlineSnapshot(`
    "load: the checkpoint does not fit Toy: 12 missing, 0 unused, 0 misshapen
      12 missing from the checkpoint:
        embed.weight
        conv.weight
        conv.bias
        blocks.0.norm.weight
        blocks.0.norm.bias
        … and 7 more
      if the model has these and its checkpoint has not, give them initial values: withInitial(source, model, …)"
  `);
});

test.each([
  ["bitsandbytes 4-bit (NF4, FP4)", "head.weight.quant_state.bitsandbytes__nf4"],
  ["Nunchaku SVDQuant", "head.wscales"],
  ["GPTQ or AWQ", "head.qzeros"],
])("a checkpoint quantized as %s is named as such, with the files to take instead", async (layout, name) => {
  const [model, device] = [new Toy(), memoryDevice()];
  const source = await memoryWeights({ ...weightsFor(model), [name]: ramp([4]) });
  await expect(load(model, source, device)).rejects.toThrow(`quantized as ${layout}, which is not read; take a bf16, fp8 or GGUF file`);
  expect(device.liveBytes).toBe(0);
});

test("allowed extra tensors pass, by pattern or glob", async () => {
  const [model, device] = [new Toy(), memoryDevice()];
  const source = await memoryWeights({ ...weightsFor(model), "extra.alpha": ramp([1]) });
  expect(compareWeights(model, source, ["other.*"]).unused).toEqual(["extra.alpha"]);
  await load(model, source, device, { allowUnused: ["extra.*"] });
  await load(model, source, device, { allowUnused: /^extra\./g });
  model.unload();
  expect(device.liveBytes).toBe(0);
});

test("a tied parameter loads once, under either name", async () => {
  class Tied extends Module {
    readonly shared = new Embedding(4, 8);
    readonly encoder = { embed_tokens: this.shared };
  }
  const device = memoryDevice();
  for (const names of [["shared.weight"], ["encoder.embed_tokens.weight"], ["shared.weight", "encoder.embed_tokens.weight"]]) {
    using model = new Tied();
    await load(model, await memoryWeights(Object.fromEntries(names.map((n) => [n, ramp([4, 8])]))), device);
    expect(device.liveBytes).toBe(4 * 8 * 4);
  }
  expect(device.liveBytes).toBe(0);
});

test("a quantized load keeps norms, biases, embeddings, convolutions and high-precision layers", async () => {
  const [model, device] = [new Toy(), memoryDevice()];
  await load(model, await memoryWeights(weightsFor(model)), device, { dtype: "q8_0" });
  const formats = Object.fromEntries([...namedParameters(model)].map(([n, p]) => [n, p.dtype]));
  const quantized = Object.keys(formats).filter((n) => formats[n] === "q8_0");
  expect(quantized).toEqual(["blocks.0.proj.weight", "blocks.1.proj.weight"]);
  expect(Object.values(formats).filter((f) => f === "f32")).toHaveLength(Object.keys(formats).length - 2);
  // Rows of 64 are no whole K blocks of 256: nothing is quantized.
  await load(model, await memoryWeights(weightsFor(model)), device, { dtype: quantizeTo("q4_K") });
  expect(model.head.weight.dtype).toBe("f32");
  await load(model, await memoryWeights(weightsFor(model)), device, {
    dtype: ({ path, stored }) => (path === "head.weight" ? "q4_0" : stored),
  });
  expect(model.head.weight.dtype).toBe("q4_0");
  model.unload();
});

test("plain formats convert on load, rounding to nearest even", async () => {
  class One extends Module {
    readonly proj = new Linear(4, 1, { bias: false });
  }
  const device = memoryDevice();
  using model = new One();
  const values = [1 + 2 ** -9, 1 + 3 * 2 ** -9, -Math.PI, 65504];
  const source = await memoryWeights({ "proj.weight": f32Tensor([1, 4], values) });
  await load(model, source, device, { dtype: "bf16" });
  expect([...(await model.proj.weight.toArray())]).toEqual([1, 1.0078125, -3.140625, 65536]);
  await load(model, source, device, { dtype: "f16" });
  expect([...(await model.proj.weight.toArray())]).toEqual([1.001953125, 1.005859375, -3.140625, 65504]);
  const bf16: MemoryTensor = { dtype: "BF16", shape: [1, 4], bytes: Uint8Array.of(0x80, 0x3f, 0x80, 0xbf, 0x00, 0x40, 0x49, 0x40) };
  await load(model, await memoryWeights({ "proj.weight": bf16 }), device);
  expect(model.proj.weight.dtype).toBe("bf16");
  await load(model, await memoryWeights({ "proj.weight": bf16 }), device, { dtype: "f32" });
  expect([...(await model.proj.weight.toArray())]).toEqual([1, -1, 2, 3.140625]);
});

test("values beyond f16 are refused by name, and nothing stays allocated", async () => {
  const device = memoryDevice();
  const model = new Block();
  const tensors = { ...weightsFor(model), "proj.weight": ramp([64, 64], 65000) };
  const error = await load(model, await memoryWeights(tensors), device, { dtype: "f16" }).catch((e: unknown) => e);
  expect(error).toBeInstanceOf(DTypeError);
  expect((error as Error).message).toMatchInlineSnapshot(`"convert: 65520 does not fit f16: proj.weight; load it as bf16 or f32"`);
  expect(device.liveBytes).toBe(0);
});

test("integers and floats do not mix", async () => {
  const model = new Linear(2, 1, { bias: false });
  const ids: MemoryTensor = { dtype: "I64", shape: [1, 2], bytes: new Uint8Array(16) };
  const source = await memoryWeights({ weight: ids });
  await expect(load(model, source, memoryDevice(), { dtype: () => "f32" })).rejects.toThrowErrorMatchingInlineSnapshot(
    `[DTypeError: load: integers and floats do not convert on load: weight i64 [1, 2] as f32]`,
  );
  const rows = await memoryWeights({ weight: ramp([1, 2]) });
  await expect(load(model, rows, memoryDevice(), { dtype: () => "q8_0" })).rejects.toThrowErrorMatchingInlineSnapshot(
    `[DTypeError: load: rows are not whole blocks of 32: weight f32 [1, 2] as q8_0]`,
  );
});

test("f8 weights outside of products are expanded exactly", async () => {
  class Mixed extends Module {
    readonly norm = new LayerNorm(2);
    readonly proj = new Linear(2, 1, { bias: false });
    readonly conv = new Conv2d(1, 2, 1, { bias: false });
  }
  const f8 = (shape: readonly number[]): MemoryTensor => ({ dtype: "F8_E4M3", shape, bytes: Uint8Array.of(0x38, 0xc4) });
  const tensors = { "norm.weight": f8([2]), "norm.bias": f8([2]), "proj.weight": f8([1, 2]), "conv.weight": f8([2, 1, 1, 1]) };
  const device = memoryDevice();
  using model = new Mixed();
  await load(model, await memoryWeights(tensors), device);
  expect([model.norm.weight!.dtype, model.proj.weight.dtype, model.conv.weight.dtype]).toEqual(["f32", "f8e4m3", "bf16"]);
  for (const p of [model.norm.weight!, model.proj.weight, model.conv.weight]) expect([...(await p.toArray())]).toEqual([1, -3]);
});

test("abort, a failing file and a full device leave nothing behind", async () => {
  const model = new Toy();
  const source = await memoryWeights(weightsFor(model));
  const total = [...source.entries.values()].reduce((sum, e) => sum + e.byteLength, 0);

  const controller = new AbortController();
  const device = memoryDevice();
  const aborted = load(model, source, device, {
    signal: controller.signal,
    onProgress: ({ index }) => index === 4 && controller.abort(new Error("enough")),
  });
  await expect(aborted).rejects.toThrow("enough");
  expect(device.liveBytes).toBe(0);

  const failing: WeightSource = {
    ...source,
    async *stream(name, options) {
      if (name === "blocks.1.proj.bias") throw new Error("disk gone");
      yield* source.stream(name, options);
    },
  };
  await expect(load(model, failing, device)).rejects.toThrow("disk gone");
  expect(device.liveBytes).toBe(0);

  const small = memoryDevice({ limitBytes: total - 1 });
  await expect(load(model, source, small)).rejects.toThrow("no room");
  expect(small.liveBytes).toBe(0);
  expect(() => model.head.weight.storage()).toThrow("call load");
});

test("progress counts the bytes of the checkpoint", async () => {
  const model = new Toy();
  const source = await memoryWeights(weightsFor(model));
  const seen: number[] = [];
  let last = { loadedBytes: 0, totalBytes: -1, index: 0, count: 0, name: "" };
  await load(model, source, memoryDevice(), { onProgress: (p) => seen.push((last = p).loadedBytes) });
  expect(seen).toEqual([...seen].sort((a, b) => a - b));
  expect(last.loadedBytes).toBe(last.totalBytes);
  expect([last.index + 1, last.name]).toEqual([last.count, "head.weight"]);
  model.unload();
});

test("blocks that span several batches and pieces quantize as the whole", async () => {
  const shape = [96, 32 * 1024];
  const values = Float32Array.from({ length: shape[0]! * shape[1]! }, (_, i) => Math.sin(i) * (1 + (i % 7)));
  const source = await memoryWeights({ weight: f32Tensor(shape, values) });
  const model = new Linear(shape[1]!, shape[0]!, { bias: false });
  // Pieces of 4,100 values are no whole number of batches.
  const ragged: WeightSource = { ...source, stream: (name, options) => source.stream(name, { ...options, chunkBytes: 4 * 4100 }) };
  const [whole, cut] = [memoryDevice(), memoryDevice()];
  await load(model, source, whole, { dtype: "q8_0" });
  const expected = await model.weight.toBytes();
  await load(model, ragged, cut, { dtype: "q8_0" });
  expect(Buffer.from(await model.weight.toBytes()).equals(Buffer.from(expected))).toBe(true);
  expect(new DataView(expected.buffer, expected.byteOffset).getUint16(0, true)).not.toBe(0);
});

test("threads quantize to the same bytes, two weights at a time; an abort and values that do not fit leave nothing behind", async () => {
  class Wide extends Module {
    readonly layers = repeat(4, () => new Linear(2048, 1024));
  }
  const model = new Wide();
  const values = Float32Array.from({ length: 2048 * 1024 }, (_, i) => Math.sin(i * i));
  const some = (k: number, count: number) => values.map((v) => v * (k + 1)).subarray(0, count);
  const tensors = Object.fromEntries(
    shapesOf(model).map(([name, shape], k) => [name, f32Tensor(shape, some(k, shape[0]! * (shape[1] ?? 1)))]),
  );
  const source = await memoryWeights(tensors);
  const device = memoryDevice();
  const bytes = () => Promise.all(model.layers.map((l) => l.weight.toBytes()));
  await load(model, source, device, { dtype: "q3_K", threads: 0 });
  const expected = await bytes();
  const seen: number[] = [];
  const onProgress = ({ loadedBytes, totalBytes }: { loadedBytes: number; totalBytes: number }) => seen.push(loadedBytes / totalBytes);
  await load(model, source, device, { dtype: "q3_K", threads: 2, onProgress });
  for (const [k, b] of (await bytes()).entries()) expect(Buffer.compare(b, expected[k]!)).toBe(0);
  expect(seen).toEqual([...seen].sort((a, b) => a - b));
  expect(seen.at(-1)).toBe(1);
  model.unload();

  const stop = new AbortController();
  const stopping = { dtype: "q3_K", threads: 2, signal: stop.signal, onProgress: () => stop.abort(new Error("enough")) } as const;
  await expect(load(model, source, device, stopping)).rejects.toThrow("enough");
  expect(device.liveBytes).toBe(0);

  const wrong = values.slice();
  wrong[1_000_000] = Number.NaN;
  const broken = await memoryWeights({ ...tensors, "layers.2.weight": f32Tensor([1024, 2048], wrong) });
  const refused = load(model, broken, device, { dtype: "q3_K", threads: 2 });
  await expect(refused).rejects.toThrow(/^convert: cannot quantize layers\.2\.weight: quantize: q3_K cannot hold NaN/);
  expect(device.liveBytes).toBe(0);
});
