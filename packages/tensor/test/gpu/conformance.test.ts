// Every op against PyTorch on WebGPU. Software drivers compile each kernel for a long time, so a spread of
// rows runs by default; WICK_CONFORMANCE=all runs all of them (in 90 seconds on SwiftShader, in 35 minutes on lavapipe, whose compiler is slower;
// two cores each), WICK_TIER=plain|subgroups|matrix forces a tier.
import { type Device, webgpu } from "@wick/tensor";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { families, readFamily } from "../conformance/goldens.ts";
import { runRow } from "../conformance/run.ts";
import { sampleRows } from "../conformance/sample.ts";
import { forcedTier } from "./pair.ts";

/** f32 sums are ordered for parallel hardware, so the gate is 4e-6 where the CPU's (which sums in f64) is 1e-6. */
const factor = 4;
const all = process.env["WICK_CONFORMANCE"] === "all";

describe("WebGPU", () => {
  let device: Device;
  beforeAll(async () => {
    device = await webgpu(forcedTier);
  });
  afterAll(() => device.destroy());

  describe.each(families)("%s", async (family) => {
    const { rows, stored } = await readFamily(family);
    const chosen = all ? rows : sampleRows(rows, 4, 2);
    const ops = [...new Set(chosen.map((r) => r.op))];
    test.each(ops)("%s", { timeout: all ? 3_600_000 : 600_000 }, async (op) => {
      const problems: string[] = [];
      for (const row of chosen.filter((r) => r.op === op)) {
        const problem = await runRow(device, row, stored, factor);
        if (problem) problems.push(problem);
      }
      expect(problems).toEqual([]);
    });
  });
});
