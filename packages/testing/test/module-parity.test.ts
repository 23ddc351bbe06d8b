// The parity check itself: it finds what it must find.
import { Linear, Module } from "@wick/nn";
import { cpu, scope, type Tensor } from "@wick/tensor";
import { expect, test } from "vitest";
import { inventorySource } from "../src/inventory.ts";
import type { GoldenTensor, ModuleGolden } from "../src/module-golden.ts";
import { expectModuleParity } from "../src/module-parity.ts";

class Pair extends Module {
  readonly first = new Linear(2, 2, { bias: false });
  readonly second = new Linear(2, 2, { bias: false });
  forward(x: Tensor): Tensor {
    return scope(() => this.second.forward(this.second.forward(this.first.forward(x))));
  }
}

const row = (...values: number[]): GoldenTensor => ({ shape: [1, 2], values: Float32Array.from(values) });

function golden(outputs: Record<string, GoldenTensor>): ModuleGolden {
  const shared = { name: "pair", config: {}, end: ["y"], tolerance: 1e-6, metadata: new Map<string, string>() };
  return { ...shared, inputs: new Map(), outputs: new Map(Object.entries(outputs)), weights: inventorySource({}) };
}

/** x = [1, 2]; the first layer doubles, the second swaps. */
const good = { "m.first": row(2, 4), "m.second": row(4, 2), "m.second#1": row(2, 4), y: row(2, 4) };

async function compare(outputs: Record<string, GoldenTensor>, options: Parameters<typeof expectModuleParity>[3] = {}) {
  using device = cpu();
  using model = new Pair();
  using double = device.tensor([2, 0, 0, 2], [2, 2]);
  using swap = device.tensor([0, 1, 1, 0], [2, 2]);
  model.first.weight.fill(double);
  model.second.weight.fill(swap);
  using x = device.tensor([1, 2], [1, 2]);
  return await expectModuleParity(model, golden(outputs), () => ({ y: model.forward(x) }), { prefix: "m.", ...options });
}

test("repeated calls are told apart, all outputs are compared in order of execution", async () => {
  const compared = await compare(good);
  expect(compared.map((c) => c.path)).toEqual(["m.first", "m.second", "m.second#1", "y"]);
  expect(compared.every((c) => c.error === 0)).toBe(true);
});

test("the first module that diverges is named", async () => {
  await expect(compare({ ...good, "m.second": row(4, 2.1), y: row(1, 4) })).rejects.toThrowErrorMatchingInlineSnapshot(
    `[Error: pair: the first to diverge is m.second: relative L2 error 2.213e-2 exceeds 1.0e-5; largest difference 1.000e-1 at [1]: 2 instead of 2.0999999046325684; the last that agrees is m.first (0.0e+0); 2 of 4 outputs diverge]`,
  );
});

test("a result alone that diverges is named too", async () => {
  await expect(compare({ ...good, y: row(1, 4) })).rejects.toThrow(/pair: the first to diverge is y: /);
});

test("an output that nothing was compared with is refused unless a reason is given", async () => {
  const more = { ...good, "m.third": row(0, 0) };
  await expect(compare(more)).rejects.toThrow("pair: no module or result was compared with m.third");
  await expect(compare(more, { absent: { "*.third": "fused into the second" } })).resolves.toHaveLength(4);
});

test("shapes must agree; a view or an expectation of our own makes them", async () => {
  const turned = { ...good, "m.first": { shape: [2, 1], values: Float32Array.of(2, 4) } };
  await expect(compare(turned)).rejects.toThrow("m.first: the shape is [1, 2] instead of [2, 1]");
  await expect(compare(turned, { view: { "m.first": (x) => x.t() } })).resolves.toHaveLength(4);
  const halved = { ...good, "m.first": row(1, 2) };
  const expected = { "m.first": (output: (path: string) => GoldenTensor, path: string) => output(path).values.map((v) => 2 * v) };
  await expect(compare(halved, { expected })).resolves.toHaveLength(4);
});

test("what a run leaves on the device is reported", async () => {
  using device = cpu();
  using model = new Pair();
  using one = device.tensor([2, 0, 0, 2], [2, 2]);
  model.first.weight.fill(one);
  const kept: Tensor[] = [];
  const run = () => {
    kept.push(device.zeros([3]));
    return { y: device.tensor([2, 4], [1, 2]) };
  };
  await expect(expectModuleParity(model, golden({ y: row(2, 4) }), run)).rejects.toThrow("pair: 24 bytes were not released");
  for (const t of kept) t.dispose();
});
