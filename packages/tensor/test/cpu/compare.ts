// Runs one kernel on the plain loops and on generated code with three threads and with one, and compares.
import { expect, vi } from "vitest";
import { createCpuBackend } from "../../src/backends/cpu/index.ts";
import { plainKernels } from "../../src/backends/cpu/kernels/plain.ts";
import type { DType } from "../../src/dtype.ts";
import type { KernelTable, OpName } from "../../src/ops/table.ts";
import type { View } from "../../src/view.ts";
import { expectClose, Lab } from "./lab.ts";

/** What the engine has beyond its defaults: fused multiply-add before Node 22, 256-bit vectors from Node 24. */
const beyond = Number(process.versions.node.split(".")[0]) >= 24 ? "wide" : "fma";
export const labs = [
  new Lab(createCpuBackend({ kernels: "plain" })),
  new Lab(createCpuBackend({ kernels: "wasm", plainBelow: 0, threads: 3 })),
  new Lab(createCpuBackend({ kernels: "wasm", plainBelow: 0, threads: 1, v8: beyond })),
] as const;

/** Relative L2 against the plain loops by dtype of the result. */
export const storeTolerance = { f32: 1e-6, f16: 5e-4, bf16: 4e-3 } as const;

/** Runs one kernel on all backends, twice on the threaded one, and compares; the fast ones must not fall back. */
export async function compare(
  shape: number[],
  dtype: DType,
  run: (lab: Lab, kernels: KernelTable, out: View) => void,
  tolerance = 1e-6,
): Promise<void> {
  const results: number[][] = [];
  const fallbacks = (Object.keys(plainKernels) as OpName[]).map((op) => vi.spyOn(plainKernels, op));
  for (const lab of [...labs, labs[1]]) {
    const out = lab.out(shape, dtype);
    run(lab, lab.backend.kernels, out);
    results.push(await lab.numbers(out));
    lab.backend.release(out.buffer);
  }
  for (const spy of fallbacks) {
    expect(spy, "the fast path must cover this").not.toHaveBeenCalled();
    spy.mockRestore();
  }
  for (const fast of results.slice(1)) expectClose(fast, results[0]!, tolerance);
  expect(results[3]).toEqual(results[1]);
}
