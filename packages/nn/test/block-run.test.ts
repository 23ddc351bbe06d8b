// Passes that pause between blocks: what their hooks are told, and what an abort leaves behind.
import { type BlockRun, Linear, Module, repeat, runBlocksAsync } from "@wick/nn";
import { cpu, hold, type Tensor } from "@wick/tensor";
import { expect, test, vi } from "vitest";

class Stack extends Module {
  readonly layers: readonly Linear[] = repeat(3, () => new Linear(2, 2));
  *run(x: Tensor): BlockRun<Tensor> {
    using state = hold(x.copy());
    for (const layer of this.layers) {
      yield layer;
      state.update((y) => y.add(1));
    }
    return state.release();
  }
}

test.each(["before", "after"] as const)("%s alone is told every block with its number", async (hook) => {
  using device = cpu();
  using x = device.zeros([2]);
  const model = new Stack();
  const seen: (readonly [number, number])[] = [];
  using out = await runBlocksAsync(device, model.run(x), {
    [hook]: (block: Module, index: number) => void seen.push([model.layers.indexOf(block as Linear), index]),
  });
  expect(await out.toArray()).toEqual(Float32Array.of(3, 3));
  expect(seen).toEqual([0, 1, 2].map((i) => [i, i]));
});

test("a device that is behind is waited for before each block, and an abort ends the wait", async () => {
  using device = cpu();
  const waits = vi.spyOn(device.backend, "idle");
  const run = async (options = {}): Promise<void> => {
    using x = device.zeros([2]);
    using out = await runBlocksAsync(device, new Stack().run(x), options);
    expect(await out.toArray()).toEqual(Float32Array.of(3, 3));
  };
  await run();
  expect(waits).toHaveBeenCalledTimes(0);
  Object.assign(device.backend, { isBehind: true });
  await run();
  expect(waits).toHaveBeenCalledTimes(3);
  const stop = new AbortController();
  waits.mockImplementation(() => {
    setTimeout(() => stop.abort(new Error("enough")));
    return new Promise(() => {});
  });
  await expect(run({ signal: stop.signal })).rejects.toThrow("enough");
  expect(device.liveBytes).toBe(0);
});

test("an abort between blocks rejects with its reason and releases everything", async () => {
  using device = cpu();
  using x = device.zeros([2]);
  const stop = new AbortController();
  const before = (_: Module, index: number) => index === 1 && stop.abort(new Error("enough"));
  await expect(runBlocksAsync(device, new Stack().run(x), { signal: stop.signal, before: (b, i) => void before(b, i) })).rejects.toThrow(
    "enough",
  );
  expect(device.liveBytes).toBe(x.byteLength);
});
