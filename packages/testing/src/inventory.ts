// The committed name and shape lists of released checkpoints (packages/testing/inventories), as sources without bytes.
import { readFileSync } from "node:fs";
import type { WeightEntry, WeightSource } from "@wick/tensor";

/** Names and shapes of `packages/testing/inventories/<name>.json`. */
export function readInventory(name: string): Record<string, readonly number[]> {
  const path = new URL(`../inventories/${name}.json`, import.meta.url);
  return JSON.parse(readFileSync(path, "utf8")) as Record<string, readonly number[]>;
}

/** A bf16 checkpoint of these tensors whose bytes cannot be read: for tests of names and shapes. */
export function inventorySource(inventory: Readonly<Record<string, readonly number[]>>): WeightSource {
  const entries = new Map<string, WeightEntry>();
  for (const [name, shape] of Object.entries(inventory)) {
    const byteLength = 2 * shape.reduce((a, b) => a * b, 1);
    entries.set(name, { name, shape, dtype: "bf16", storedDtype: "BF16", byteLength, file: "inventory" });
  }
  return {
    entries,
    metadata: new Map(),
    stream: (name) => {
      throw new Error(`an inventory has no bytes: ${name}`);
    },
    async close() {},
  };
}

/** Names and shapes of a source, sorted by name, to compare with an inventory. */
export const shapesOf = (source: WeightSource): [string, readonly number[]][] =>
  sortedShapes([...source.entries].map(([name, { shape }]) => [name, shape]));

/** Sorts [name, shape] pairs by name. */
export const sortedShapes = (pairs: Iterable<readonly [string, readonly number[]]>): [string, readonly number[]][] =>
  [...pairs].map(([n, s]): [string, readonly number[]] => [n, [...s]]).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
