// Reads the committed goldens in Node.
import { readFile } from "node:fs/promises";
import { openSafetensors } from "../../src/loaders/safetensors.ts";
import { memorySource } from "../../src/loaders/source.ts";
import { readTensorBytes } from "../../src/loaders/weight-source.ts";
import type { Row, Stored } from "./run.ts";

export const families = [
  "elementwise",
  "cast",
  "movement",
  "join",
  "reduce",
  "matmul",
  "conv",
  "index",
  "norm",
  "attention",
  "derived",
  "resample",
] as const;

const place = (name: string): URL => new URL(`../goldens/${name}`, import.meta.url);

export async function readFamily(family: string): Promise<{ rows: readonly Row[]; stored: Stored }> {
  const rows = JSON.parse(await readFile(place(`ops-${family}.json`), "utf8")) as Row[];
  const source = await openSafetensors(memorySource(await readFile(place(`ops-${family}.safetensors`)), family));
  const stored = new Map<string, Uint8Array>();
  for (const name of source.entries.keys()) stored.set(name, await readTensorBytes(source, name));
  return { rows, stored };
}
