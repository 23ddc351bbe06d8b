// The file of tunings: kept per adapter, shared by commands, refused when it holds something else.
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Tuning } from "@wick/tensor";
import { afterAll, beforeAll, expect, test } from "vitest";
import { keepTuning, readTunings, tuningFile } from "../src/tuning-file.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wick-tuning-"));
});
afterAll(() => rm(folder, { recursive: true }));

test("each adapter has one tuning, the latest", async () => {
  const path = join(folder, "deep", "tuning.json");
  expect(await readTunings(path)).toEqual([]);
  const one: Tuning = { adapter: "one", tier: "matrix", variants: { "large half": "matrix 4x2" }, attention: { "f32 attention": "tiled" } };
  const two: Tuning = { adapter: "two", tier: "plain", variants: {} };
  await keepTuning(one, path);
  await keepTuning({ ...one, tier: "plain" }, path);
  await keepTuning(two, path);
  await keepTuning(one, path);
  expect(await readTunings(path)).toEqual([two, one]);
});

test("only what a tuning is goes into the file", async () => {
  const path = join(folder, "tuning.json");
  await keepTuning({ adapter: "one", tier: "plain", variants: {}, measured: [1, 2, 3] } as Tuning, path);
  expect(JSON.parse(await readFile(path, "utf8"))).toEqual({ tunings: [{ adapter: "one", tier: "plain", variants: {} }] });
});

test.each([
  "",
  "{",
  "null",
  "[]",
  '{"tunings":[{"adapter":1}]}',
  '{"tunings":[{"adapter":"a","tier":"plain","variants":null}]}',
  '{"tunings":[{"adapter":"a","tier":"plain","variants":{},"attention":null}]}',
])("a file that holds %s is refused, and replaced by the next tuning", async (text) => {
  const path = join(folder, "broken.json");
  await writeFile(path, text);
  await expect(readTunings(path)).rejects.toThrow(/broken\.json holds no tunings; delete it, or run wick doctor --tune again/);
  await keepTuning({ adapter: "one", tier: "plain", variants: {} }, path);
  expect(await readTunings(path)).toHaveLength(1);
});

test("the folder follows the system's convention", () => {
  expect(tuningFile({ XDG_CACHE_HOME: "/c" })).toBe(join("/c", "wick", "tuning.json"));
  expect(tuningFile({})).toMatch(/\.cache.wick.tuning\.json$/);
});
