// Every file in examples/ runs to its end, prints what it promises and leaves nothing on its device.
import { execFile } from "node:child_process";
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";

const folder = fileURLToPath(new URL("../examples/", import.meta.url));
const examples = readdirSync(folder).filter((name) => name.endsWith(".ts"));

/** Words that each example must print. */
const promised: Record<string, string[]> = {
  "attention.ts": ["[1, 4, 16]"],
  "conv-and-norms.ts": ["[1, 3, 8, 8]", "[1, 2, 6]"],
  "linear.ts": ["tensor("],
  "load.ts": ["loaded qk.weight", "q8_0 [128, 64]", "2 missing, 4 unused"],
  "lora.ts": ["proj.weight"],
  "module.ts": ["blocks.0.mlp.0.weight", "0…2 Block", "bytes in bf16"],
  "positions-and-patches.ts": ["[1, 12, 64] 1", "[1, 4]"],
  "taps.ts": ["layers.0: ", "layers.2: "],
};

test("there is an expectation for every example", () => expect(examples.sort()).toEqual(Object.keys(promised)));

test.each(Object.entries(promised))("%s", async (name, words) => {
  const tsx = fileURLToPath(new URL("../../../node_modules/tsx/dist/cli.mjs", import.meta.url));
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [tsx, "--conditions=@wick/source", folder + name], {
    timeout: 60_000,
  });
  expect(stderr).toBe("");
  for (const word of words) expect(stdout).toContain(word);
});
