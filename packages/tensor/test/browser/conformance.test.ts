// The golden rows of every op in a browser, WebGPU through navigator.gpu: a spread of rows of every op and dtype, or all of them
// with WICK_CONFORMANCE=all.
import { cpu, type Device, memorySource, openSafetensors, readTensorBytes, webgpu } from "@wick/tensor";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Row, runRow, type Stored } from "../conformance/run.ts";
import { sampleRows } from "../conformance/sample.ts";

const all = import.meta.env["WICK_CONFORMANCE"] === "all";
const files = import.meta.glob<string>("../goldens/ops-*.{json,safetensors}", { query: "?url", import: "default", eager: true });
const families = Object.keys(files)
  .filter((path) => path.endsWith(".json"))
  .map((path) => path.slice("../goldens/ops-".length, -".json".length));

async function readFamily(family: string): Promise<{ rows: readonly Row[]; stored: Stored }> {
  const read = async (kind: string) => new Uint8Array(await (await fetch(files[`../goldens/ops-${family}.${kind}`]!)).arrayBuffer());
  const rows = JSON.parse(new TextDecoder().decode(await read("json"))) as Row[];
  const source = await openSafetensors(memorySource(await read("safetensors"), family));
  const stored = new Map<string, Uint8Array>();
  for (const name of source.entries.keys()) stored.set(name, await readTensorBytes(source, name));
  return { rows, stored };
}

describe.each(["webgpu", "cpu"] as const)("%s", (kind) => {
  let device: Device;
  beforeAll(async () => {
    device = kind === "webgpu" ? await webgpu() : cpu();
  });
  afterAll(() => device.destroy());

  test.each(families)("%s", { timeout: 900_000 }, async (family) => {
    const { rows, stored } = await readFamily(family);
    const problems: string[] = [];
    for (const row of all ? rows : sampleRows(rows, 2, 1)) {
      const problem = await runRow(device, row, stored, 4);
      if (problem) problems.push(problem);
    }
    expect(problems).toEqual([]);
  });
});
