import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cpu, memorySink, memorySource, openGguf, openSafetensors, openWeights, readTensorBytes, torchCpu } from "@wick/tensor";
import { expect, test } from "vitest";
import {
  Embedding,
  estimateBytes,
  initParameters,
  LayerNorm,
  Linear,
  load,
  Module,
  repeat,
  save,
  summary,
  weightsOf,
} from "../src/index.ts";

class Block extends Module {
  readonly norm = new LayerNorm(64, { bias: false });
  readonly mlp = { up: new Linear(64, 256), down: new Linear(256, 64) };
}
class Toy extends Module {
  readonly embed = new Embedding(100, 64);
  readonly blocks = repeat(4, () => new Block());
  readonly last = { embed: this.embed };
}

test("the tree as text, before loading", () => {
  expect(`${summary(new Toy())}`).toMatchInlineSnapshot(`
    "Toy                     139.0 K, bf16 278.0 kB
      embed Embedding       6.400 K, bf16 12.80 kB
        weight [100, 64]    6.400 K, bf16 12.80 kB
      blocks                132.6 K, bf16 265.2 kB
        0…3 Block           4 x 33.15 K, bf16 66.30 kB
          norm LayerNorm    4 x 64 values, bf16 128 bytes
          mlp               4 x 33.09 K, bf16 66.18 kB
      last
        embed Embedding
          weight [100, 64]  shared"
  `);
  expect(`${summary(new Toy(), { dtype: "q8_0", depth: 1 })}`).toMatchInlineSnapshot(`
    "Toy                139.0 K, q8_0 139.3 kB + bf16 15.87 kB
      embed Embedding  6.400 K, bf16 12.80 kB
      blocks           132.6 K, q8_0 139.3 kB + bf16 3.072 kB
      last"
  `);
});

test("counts, bytes and shared parameters", () => {
  const s = summary(new Toy(), { dtype: "f32" });
  const block = 64 + 64 * 256 + 256 + 256 * 64 + 64;
  expect([s.parameters, s.bytes]).toEqual([100 * 64 + 4 * block, 4 * (100 * 64 + 4 * block)]);
  expect(s.children.find((c) => c.name === "last")).toMatchObject({ parameters: 0, bytes: 0 });
  expect(s.children[1]!.children[2]!.path).toBe("blocks.2");
});

test("estimates equal what loading takes", async () => {
  using device = cpu();
  using model = new Toy();
  initParameters(model, device, torchCpu(0));
  expect(summary(model).bytesByDtype).toEqual({ f32: estimateBytes(model, "f32") });
  const sink = memorySink();
  await save(model, sink);
  const source = await openSafetensors([memorySource(sink.bytes())]);
  for (const dtype of ["f32", "bf16", "q8_0", "q4_K"] as const) {
    await load(model, source, device, { dtype });
    expect(device.liveBytes).toBe(estimateBytes(model, dtype, { stored: "f32" }));
    expect(summary(model).bytes).toBe(device.liveBytes);
  }
});

test("saving and loading again gives the same bytes, also quantized", async () => {
  using device = cpu();
  using model = new Toy();
  expect(() => weightsOf(model)).toThrow("embed.weight");
  initParameters(model, device, torchCpu(5));
  const sink = memorySink();
  await save(model, sink, { metadata: { note: "toy" } });
  const source = await openSafetensors([memorySource(sink.bytes())]);
  expect(source.metadata.get("note")).toBe("toy");
  await load(model, source, device, { dtype: "q8_0" });
  await expect(save(model, memorySink())).rejects.toThrow("write GGUF instead");
  const gguf = memorySink();
  await save(model, gguf, { format: "gguf" });
  const again = await openGguf(memorySource(gguf.bytes()));
  const before = await readTensorBytes(weightsOf(model), "blocks.2.mlp.up.weight");
  await load(model, again, device);
  expect(model.blocks[2]!.mlp.up.weight.dtype).toBe("q8_0");
  expect(await readTensorBytes(weightsOf(model), "blocks.2.mlp.up.weight", { chunkBytes: 34 })).toEqual(before);
});

test("a model is saved to a path in the format of its ending", async () => {
  const folder = await mkdtemp(join(tmpdir(), "wick-save-"));
  try {
    using device = cpu();
    using model = new Toy();
    initParameters(model, device, torchCpu(5));
    for (const name of ["toy.safetensors", "toy.gguf"]) {
      await save(model, join(folder, name));
      const source = await openWeights(join(folder, name));
      expect(await readTensorBytes(source, "embed.weight")).toEqual(await readTensorBytes(weightsOf(model), "embed.weight"));
      await source.close();
    }
    await expect(save(model, join(folder, "toy.bin"))).rejects.toThrow(
      /toy\.bin ends in neither \.safetensors nor \.gguf; name the format$/,
    );
    expect((await readdir(folder)).sort()).toEqual(["toy.gguf", "toy.safetensors"]);
  } finally {
    await rm(folder, { recursive: true });
  }
});

test("a class that a bundler renamed keeps its author's name", () => {
  const _Toy = class _Toy extends Toy {};
  expect(summary(new _Toy()).name).toBe("Toy");
});
