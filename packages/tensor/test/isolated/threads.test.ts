// Threads in a cross-origin isolated page: workers share the memory and really take tasks.
import { describe, expect, test } from "vitest";
import { createCpuBackend } from "../../src/backends/cpu/index.ts";
import { type CpuBuffer, CpuMemory } from "../../src/backends/cpu/memory.ts";
import { ArenaSource } from "../../src/backends/cpu/wasm/arena.ts";
import { WasmEngine } from "../../src/backends/cpu/wasm/engine.ts";
import { wasmKernels } from "../../src/backends/cpu/wasm/kernels.ts";
import { contiguousLayout } from "../../src/layout.ts";
import type { View } from "../../src/view.ts";
import { probeWasm } from "../../src/wasm/features.ts";
import { values } from "../cpu/lab.ts";
import { quantizedOnThreads } from "../quantized-on-threads.ts";

const [m, k, n] = [300, 700, 512];
const scope = globalThis as unknown as { crossOriginIsolated: boolean; navigator: { hardwareConcurrency: number } };

/** A product on `threads` threads: `run` computes it once more and gives its values. */
function product(threads: number) {
  const { fma, shared } = probeWasm();
  const source = new ArenaSource({ shared, threads });
  const engine = new WasmEngine({ fma, shared, pinned: false, tileRows: fma ? 6 : 5, tileVectors: 2 }, source, threads);
  const memory = new CpuMemory(source, Number.POSITIVE_INFINITY);
  const view = (shape: readonly [number, number], seed: number): View & { buffer: CpuBuffer } => {
    const buffer = memory.allocate(4 * shape[0] * shape[1], "test") as CpuBuffer;
    buffer.array("f32").set(values(shape[0] * shape[1], seed));
    return { buffer, dtype: "f32", layout: contiguousLayout(shape) };
  };
  const [a, b, out] = [view([m, k], 1), view([k, n], 2), view([m, n], 3)];
  const kernels = wasmKernels(engine, 0);
  const run = () => {
    out.buffer.array("f32").fill(Number.NaN);
    kernels.matmul(out, { a, b }, {});
    return [...out.buffer.array("f32")];
  };
  return { engine, run };
}

describe("a cross-origin isolated page", () => {
  test("lets memory be shared, and the device uses every core", () => {
    expect(scope.crossOriginIsolated).toBe(true);
    const backend = createCpuBackend();
    expect(backend.capabilities.threads).toBe(Math.min(32, scope.navigator.hardwareConcurrency));
    backend.destroy();
  });

  test("runs tasks on a worker, with the numbers of one thread", async () => {
    const [one, two] = [product(1), product(2)];
    const expected = one.run();
    // A worker joins once its script has loaded, for which the page must get a turn.
    const deadline = performance.now() + 30_000;
    while (!(two.engine.tasksDone[1]! > 0) && performance.now() < deadline) {
      expect(two.run()).toEqual(expected);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    expect(two.engine.tasksDone[1]).toBeGreaterThan(0);
    two.engine.stop();
  });
});

test("weights are quantized on threads, from memory they share", async () => {
  expect(await quantizedOnThreads()).toEqual({ different: 0, ready: 2 });
});
