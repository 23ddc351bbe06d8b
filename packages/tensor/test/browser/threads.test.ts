// The CPU device in a page that is not cross-origin isolated, where memory cannot be shared: one thread, the same numbers.
import { cpu } from "@wick/tensor";
import { expect, test } from "vitest";
import { createCpuBackend } from "../../src/backends/cpu/index.ts";
import { plainKernels } from "../../src/backends/cpu/kernels/plain.ts";
import { expectClose, Lab } from "../cpu/lab.ts";
import { quantizedOnThreads } from "../quantized-on-threads.ts";

test("a page that is not isolated gets one thread, whatever is asked for", async () => {
  expect((globalThis as { crossOriginIsolated?: boolean }).crossOriginIsolated).toBe(false);
  const device = cpu({ threads: 4 });
  expect(device.capabilities.threads).toBe(1);
  device.destroy();

  const lab = new Lab(createCpuBackend({ kernels: "wasm", threads: 4 }));
  const operands = { a: lab.random([130, 300]), b: lab.random([300, 200], "f32", 2) };
  const [fast, plain] = [lab.out([130, 200]), lab.out([130, 200])];
  lab.backend.kernels.matmul(fast, operands, {});
  plainKernels.matmul(plain, operands, {});
  expectClose(await lab.numbers(fast), await lab.numbers(plain));
  lab.backend.destroy();
});

test("pages that may not share memory quantize weights on threads all the same", async () => {
  expect(await quantizedOnThreads()).toEqual({ different: 0, ready: 2 });
});
