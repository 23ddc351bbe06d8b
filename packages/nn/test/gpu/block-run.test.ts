// Passes that pause between blocks, on a GPU: how far they record ahead of it, and what an abort leaves to run.
import { type BlockRun, initParameters, Linear, Module, repeat, runBlocksAsync } from "@wick/nn";
import { cpu, type Device, hold, type Tensor, torchCpu, webgpu } from "@wick/tensor";
import { expect, test, vi } from "vitest";

const kinds = ["silu", "sin", "exp", "tanh"] as const;

/** Blocks of two products, and an op that only this block has: each compiles a kernel of its own between work for the GPU. */
class Stack extends Module {
  readonly layers = repeat(kinds.length, () => new Linear(16, 16));
  *run(x: Tensor): BlockRun<Tensor> {
    using state = hold(x.copy());
    for (const [i, layer] of this.layers.entries()) {
      yield layer;
      state.update((v) => layer.forward(layer.forward(v)[kinds[i]!]()));
    }
    return state.release();
  }
}

type Call = "submit" | "done" | "compile";

/** What the driver is asked from now on, in order. */
function listen(device: Device): Call[] {
  const gpu = (device.backend as unknown as { readonly device: GPUDevice }).device;
  const { queue } = gpu;
  const [submit, done, compile] = [queue.submit.bind(queue), queue.onSubmittedWorkDone.bind(queue), gpu.createComputePipeline.bind(gpu)];
  const calls: Call[] = [];
  vi.spyOn(queue, "submit").mockImplementation((commands) => {
    if ([...commands].length > 0) calls.push("submit");
    return submit(commands);
  });
  vi.spyOn(queue, "onSubmittedWorkDone").mockImplementation(() => done().then(() => void calls.push("done") as undefined));
  vi.spyOn(gpu, "createComputePipeline").mockImplementation((descriptor) => {
    calls.push("compile");
    return compile(descriptor);
  });
  return calls;
}

/** A device that counts as software and ends a submission with every product. */
async function eagerSoftware(): Promise<Device> {
  const device = await webgpu({ software: true });
  Object.assign(device.backend.capabilities, { submitFlops: 0 });
  return device;
}

function makeStack(device: Device): Stack {
  const model = new Stack();
  initParameters(model, device, torchCpu(0));
  return model;
}

test("a software adapter compiles no kernel while others run, and gets each block when it has run the one before", async () => {
  using device = await eagerSoftware();
  using model = makeStack(device);
  using x = device.ones([16, 16]);
  await device.idle();
  const calls = listen(device);
  using out = await runBlocksAsync(device, model.run(x));
  const numbers = await out.toArray();
  let running = 0;
  const most = { whileCompiling: 0, atOnce: 0 };
  for (const call of calls) {
    if (call === "submit") running++;
    else if (call === "done") running = 0;
    else most.whileCompiling = Math.max(most.whileCompiling, running);
    most.atOnce = Math.max(most.atOnce, running);
  }
  expect(calls.filter((call) => call === "compile").length).toBeGreaterThanOrEqual(kinds.length);
  expect(most.whileCompiling).toBe(0);
  // Two products, what follows the last one, and the copy of the input or the result.
  expect(most.atOnce).toBeLessThanOrEqual(4);
  using reference = cpu();
  using same = makeStack(reference);
  using expected = await runBlocksAsync(reference, same.run(reference.ones([16, 16])));
  const wanted = await expected.toArray();
  for (const [i, value] of numbers.entries()) expect(value).toBeCloseTo(Number(wanted[i]), 5);
});

test("after an abort nothing more is submitted, and all that was has run", async () => {
  using device = await eagerSoftware();
  using model = makeStack(device);
  using x = device.ones([16, 16]);
  await device.idle();
  const bytes = device.liveBytes;
  const calls = listen(device);
  const stop = new AbortController();
  let before = 0;
  const abort = (_: Module, index: number): void => {
    if (index !== 2) return;
    before = calls.length;
    stop.abort(new Error("enough"));
  };
  await expect(runBlocksAsync(device, model.run(x), { signal: stop.signal, before: abort })).rejects.toThrow("enough");
  expect(before).toBeGreaterThan(0);
  expect(calls.slice(before)).toEqual([]);
  expect(calls.lastIndexOf("submit")).toBeLessThan(calls.lastIndexOf("done"));
  expect(device.liveBytes).toBe(bytes);
});
