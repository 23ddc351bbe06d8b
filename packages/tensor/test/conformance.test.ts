// Every op against PyTorch on the CPU backend, on both kernel sets.
import { cpu } from "@wick/tensor";
import { describe, expect, test } from "vitest";
import { families, readFamily } from "./conformance/goldens.ts";
import { runRow } from "./conformance/run.ts";

describe.each(families)("%s", async (family) => {
  const { rows, stored } = await readFamily(family);
  const ops = [...new Set(rows.map((r) => r.op))];
  test.each(ops)("%s", async (op) => {
    using device = cpu();
    const problems: string[] = [];
    for (const row of rows.filter((r) => r.op === op)) {
      const problem = await runRow(device, row, stored);
      if (problem) problems.push(problem);
    }
    expect(problems).toEqual([]);
  });
});
