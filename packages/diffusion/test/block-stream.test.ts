// Weights that come and go: what is kept, what comes in while another block runs, and what happens when reading fails or is stopped.
import { type EnsureOptions, LazyModel } from "@wick/diffusion";
import { type BlockRun, Linear, Module, repeat, runBlocksAsync } from "@wick/nn";
import { cpu, type Device, hold, type Tensor, type WeightSource } from "@wick/tensor";
import { expect, test, vi } from "vitest";

/** A layer of 8 x 8, 256 bytes of weights. */
class Stack extends Module {
  readonly layers: readonly Linear[] = repeat(5, () => new Linear(8, 8, { bias: false }));
  *run(x: Tensor): BlockRun<Tensor> {
    using state = hold(x.copy());
    for (const layer of this.layers) {
      yield layer;
      state.update((y) => layer.forward(y));
    }
    return state.release();
  }
}
const layerBytes = 256;

/** Every layer is twice the identity; `log` gets the names read, `fail` throws for one of them. */
function source(log: string[], fail?: string, pause = 0): WeightSource {
  const name = (i: number) => `layers.${i}.weight`;
  const entry = (i: number) =>
    ({ name: name(i), shape: [8, 8], dtype: "f32", storedDtype: "F32", byteLength: layerBytes, file: "memory" }) as const;
  const twice = Float32Array.from({ length: 64 }, (_, i) => (i % 9 === 0 ? 2 : 0));
  return {
    entries: new Map([0, 1, 2, 3, 4].map((i) => [name(i), entry(i)])),
    metadata: new Map(),
    async *stream(wanted, options) {
      log.push(`read ${wanted[7]}`);
      if (pause > 0) await new Promise((resolve) => setTimeout(resolve, pause));
      options?.signal?.throwIfAborted();
      if (wanted === name(Number(fail))) throw new Error("the disk is gone");
      yield new Uint8Array(twice.buffer.slice(0));
    },
    close: async () => void log.push("closed"),
  };
}

async function stackWith(device: Device, streamBytes: number, log: string[], fail?: string, pause = 0) {
  const model = new Stack();
  const lazy = new LazyModel({ name: "stack", model, blocks: model.layers, open: async () => source(log, fail, pause) });
  await lazy.ensure(device, { streamBytes });
  return lazy;
}

async function run(lazy: LazyModel<Stack>, device: Device, log: string[], signal?: AbortSignal): Promise<number> {
  using x = device.ones([1, 8]);
  const { before, after } = lazy.driver(signal);
  const index = (block: Module) => lazy.model.layers.indexOf(block as Linear);
  const driver = {
    signal,
    before: async (block: Module, i: number) => {
      await before?.(block, i);
      log.push(`run ${index(block)}`);
    },
    after,
  };
  using out = hold(await runBlocksAsync(device, lazy.model.run(x), driver));
  return (await out.value.toArray())[0] as number;
}

test("the next block is read while one runs, and the first of the next run while the last one does", async () => {
  using device = cpu();
  const log: string[] = [];
  using lazy = await stackWith(device, 3 * layerBytes, log);
  expect(lazy.streamedBlocks).toBe(4);
  expect(log).toEqual(["read 0"]);
  expect(await run(lazy, device, log)).toBe(32);
  expect(log).toEqual(["read 0", "run 0", "read 1", "read 2", "run 1", "read 3", "run 2", "read 4", "run 3", "read 1", "run 4"]);
  expect(await run(lazy, device, log)).toBe(32);
  await lazy.settle();
  lazy.release();
  expect(device.liveBytes).toBe(0);
});

test("weights come in only when the device has run what was recorded before: until then the driver keeps what was released", async () => {
  using device = cpu();
  const log: string[] = [];
  const { idle } = device.backend;
  vi.spyOn(device.backend, "idle").mockImplementation(async () => {
    log.push("waits");
    await idle.call(device.backend);
    log.push("idle");
  });
  const model = new Stack();
  using lazy = new LazyModel({ name: "stack", model, open: async () => source(log) });
  await lazy.ensure(device);
  expect(log.slice(0, 3)).toEqual(["waits", "idle", "read 0"]);
  const read = log.length;
  await lazy.ensure(device);
  expect(log.length).toBe(read);
});

test("without room for two, blocks are read one by one", async () => {
  using device = cpu();
  const log: string[] = [];
  using lazy = await stackWith(device, layerBytes, log);
  device.resetPeak();
  expect(await run(lazy, device, log)).toBe(32);
  expect(log).toEqual([0, 1, 2, 3, 4].flatMap((i) => [`read ${i}`, `run ${i}`]));
  // Beside one layer: the input, a state and its successor.
  expect(device.peakBytes).toBeLessThanOrEqual(layerBytes + 4 * 64);
});

test("a failure while reading ahead is thrown when the block is due, and nothing stays", async () => {
  using device = cpu();
  const log: string[] = [];
  using lazy = await stackWith(device, 3 * layerBytes, log, "3");
  await expect(run(lazy, device, log)).rejects.toThrow("the disk is gone");
  expect(log).toContain("run 2");
  expect(log).not.toContain("run 3");
  await lazy.settle();
  expect(device.liveBytes).toBe(layerBytes);
});

test("an abort stops a block on its way in; the next run reads it again", async () => {
  using device = cpu();
  const log: string[] = [];
  using lazy = await stackWith(device, 3 * layerBytes, log, undefined, 20);
  const stop = new AbortController();
  setTimeout(() => stop.abort(new Error("enough")), 30);
  await expect(run(lazy, device, log, stop.signal)).rejects.toThrow("enough");
  await lazy.settle();
  expect(device.liveBytes).toBe(layerBytes);
  expect(await run(lazy, device, log)).toBe(32);
});

test("a run that ends while a block is in leaves no more than what stays", async () => {
  using device = cpu();
  using lazy = await stackWith(device, 3 * layerBytes, []);
  const stop = new AbortController();
  const { before, after } = lazy.driver(stop.signal);
  using x = device.ones([1, 8]);
  const driver = {
    signal: stop.signal,
    before: async (block: Module, index: number) => {
      await before?.(block, index);
      if (index === 2) stop.abort(new Error("enough"));
    },
    after,
  };
  await expect(runBlocksAsync(device, lazy.model.run(x), driver)).rejects.toThrow("enough");
  await lazy.settle();
  expect(device.liveBytes).toBe(layerBytes + x.byteLength);
});

test("a run is stopped while the device still computes a block; nothing waits for that", async () => {
  using device = cpu();
  const log: string[] = [];
  using lazy = await stackWith(device, 3 * layerBytes, log);
  const stop = new AbortController();
  vi.spyOn(device.backend, "idle").mockImplementation(() => {
    setImmediate(() => stop.abort(new Error("enough")));
    return new Promise(() => {});
  });
  await expect(run(lazy, device, log, stop.signal)).rejects.toThrow("enough");
  await lazy.settle();
  expect(device.liveBytes).toBe(layerBytes);
});

test("beginning to stream reports every weight that stays, of the bytes that come in then", async () => {
  using device = cpu();
  const model = new Stack();
  using lazy = new LazyModel({ name: "stack", model, blocks: model.layers, open: async () => source([]) });
  const seen: string[] = [];
  const onProgress: EnsureOptions["onProgress"] = (stage, { name, loadedBytes, totalBytes }) =>
    seen.push(`${stage} ${name} ${loadedBytes}/${totalBytes}`);
  await lazy.ensure(device, { streamBytes: 4 * layerBytes, onProgress });
  expect(seen).toEqual(["stack layers.0.weight 256/512", "stack layers.1.weight 512/512"]);
});

test("releasing while a block comes in gives all memory back and closes the file after it", async () => {
  using device = cpu();
  const log: string[] = [];
  const lazy = await stackWith(device, 3 * layerBytes, log, undefined, 5);
  await run(lazy, device, log);
  lazy.release();
  expect(log.at(-1)).toBe("run 4");
  await lazy.ensure(device);
  expect(log.indexOf("closed")).toBeLessThan(log.lastIndexOf("read 0"));
  lazy.release();
  expect(device.liveBytes).toBe(0);
});
