import { torchCpu, WeightsError } from "@wick/tensor";
import { expect, test } from "vitest";
import { Linear, load, Module, param, repeat, weightsOf, withInitial } from "../src/index.ts";
import { memoryDevice } from "./memory-device.ts";
import { memoryWeights, ramp } from "./memory-weights.ts";

class Block extends Module {
  readonly proj = new Linear(4, 4, { bias: false });
  readonly gate = new Linear(4, 2);
}
class Variant extends Module {
  readonly blocks = repeat(2, () => new Block());
  readonly scale = param(3);
}

const released = () => memoryWeights({ "blocks.0.proj.weight": ramp([4, 4], 1, 0.5), "blocks.1.proj.weight": ramp([4, 4], 2, 0.5) });
const paths = ["**.gate.**", "scale"];

test("new parts begin as initialization makes them, old ones come from the checkpoint, and a trained variant from its own", async () => {
  const [model, device] = [new Variant(), memoryDevice()];
  const closed = {
    paths,
    generator: torchCpu(0),
    values: ({ path }: { path: string }) => (path === "scale" ? Float32Array.of(1, 2, 3) : undefined),
  };
  const source = withInitial(await released(), model, closed);
  expect(source.added).toMatchInlineSnapshot(`
    [
      "blocks.0.gate.weight",
      "blocks.0.gate.bias",
      "blocks.1.gate.weight",
      "blocks.1.gate.bias",
      "scale",
    ]
  `);
  await load(model, source, device);
  expect([...(await model.scale.toArray())]).toEqual([1, 2, 3]);
  expect((await model.blocks[1]!.proj.weight.toArray())[0]).toBe(2);
  // The bound of PyTorch's nn.Linear(4, 2) is 1/2; equal seeds give equal weights.
  const gate = (await model.blocks[0]!.gate.weight.toArray()) as Float32Array;
  expect(gate.every((v) => Math.abs(v) <= 0.5) && gate.some((v) => v !== 0)).toBe(true);
  expect(gate).toEqual(
    torchCpu(0)
      .rand(8)
      .map((u) => Math.fround(u * 1 - 0.5)),
  );

  const [again, other] = [new Variant(), memoryDevice()];
  const reopened = withInitial(weightsOf(model), again, { paths, generator: torchCpu(9) });
  expect(reopened.added).toEqual([]);
  await load(again, reopened, other, { dtype: "bf16" });
  expect([...(await again.scale.toArray())]).toEqual([1, 2, 3]);
  for (const m of [model, again]) m.unload();
  expect([device.liveBytes, other.liveBytes]).toEqual([0, 0]);
});

test("only what the globs name may be missing", async () => {
  const [model, device] = [new Variant(), memoryDevice()];
  const options = { paths: ["**.gate.**"], generator: torchCpu(0) };
  await expect(load(model, withInitial(await released(), model, options), device)).rejects.toThrowErrorMatchingInlineSnapshot(`
    [CheckpointMismatchError: load: the checkpoint does not fit Variant: 1 missing, 0 unused, 0 misshapen
      1 missing from the checkpoint:
        scale
      if the model has these and its checkpoint has not, give them initial values: withInitial(source, model, …)]
  `);
  await expect(load(model, await released(), device)).rejects.toThrow(/withInitial/);
});

test("globs that name nothing, and values that are none, are errors", async () => {
  const [model, base, generator] = [new Variant(), await released(), torchCpu(0)];
  expect(() => withInitial(base, model, { paths: ["**.gates.**"], generator })).toThrowErrorMatchingInlineSnapshot(
    `[WeightsError: withInitial: no parameter of Variant matches **.gates.**]`,
  );
  expect(() => withInitial(base, model, { paths, generator })).toThrowErrorMatchingInlineSnapshot(
    `[WeightsError: withInitial: no rule of initialization for scale f32 [3]; give their values in the option values]`,
  );
  const short = () => new Float32Array(2);
  expect(() => withInitial(base, model, { paths, generator, values: short })).toThrow(WeightsError);
});
