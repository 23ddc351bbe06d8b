// What is derived from a buffer's contents: found again while they stay, forgotten with them, its memory reused only when it cannot be in use.
import { expect, test } from "vitest";
import { DerivedWords } from "../src/backends/webgpu/derived.ts";
import type { Store } from "../src/backends/webgpu/store.ts";

const storeOf = (id: number): Store => ({
  id,
  gpu: {} as GPUBuffer,
  sizeBytes: 256,
  epoch: 0,
  version: 0,
  derived: undefined,
  failed: false,
});

function words(): { derived: DerivedWords; created: () => number } {
  let count = 0;
  return { derived: new DerivedWords(() => storeOf(1000 + count++)), created: () => count };
}

test("is the same until the next write, then computed anew in the same memory", () => {
  const { derived, created } = words();
  const store = storeOf(1);
  const first = derived.of(store, "largest");
  first.isKnown = true;
  expect(derived.of(store, "largest")).toBe(first);
  expect(derived.of(store, "another").isKnown).toBe(false);
  expect(created()).toBe(2);
  store.version++;
  const next = derived.of(store, "largest");
  expect(next.isKnown).toBe(false);
  expect(created()).toBe(2);
});

test("slices without end are forgotten, but what a call was just given is not given away", () => {
  const { derived } = words();
  const store = storeOf(1);
  const given = Array.from({ length: 200 }, (_, i) => derived.of(store, `slice ${i}`).buffer);
  expect(new Set(given).size).toBe(200);
  expect(store.derived!.byKey.size).toBeLessThanOrEqual(64);
});
