// Every op against PyTorch on the CPU backend: the plain loops, which sum in f64 and are the oracle, and the generated SIMD kernels,
// which sum in f32 lanes (gate 4e-6 instead of 1e-6).
import { cpu } from "@wick/tensor";
import { describe, expect, test } from "vitest";
import { families, readFamily } from "./conformance/goldens.ts";
import { runRow } from "./conformance/run.ts";

const sets = [
  { kernels: "plain", factor: 1 },
  // Small outputs too, which a device leaves to the plain loops because they are faster there.
  { kernels: "wasm", plainBelow: 0, factor: 4 },
  // 256-bit code, where the engine can make it.
  ...(Number(process.versions.node.split(".")[0]) >= 24 ? [{ kernels: "wasm", plainBelow: 0, v8: "wide", factor: 4 } as const] : []),
] as const;

describe.each(sets)("$kernels kernels", ({ factor, ...options }) =>
  describe.each(families)("%s", async (family) => {
    const { rows, stored } = await readFamily(family);
    const ops = [...new Set(rows.map((r) => r.op))];
    test.each(ops)("%s", async (op) => {
      using device = cpu(options);
      const problems: string[] = [];
      for (const row of rows.filter((r) => r.op === op)) {
        const problem = await runRow(device, row, stored, factor);
        if (problem) problems.push(problem);
      }
      expect(problems).toEqual([]);
    });
  }),
);
