// The composed models against diffusers at tiny widths, and their names against the released checkpoints' lists.
import { namedParameters } from "@wick/nn";
import { cpu } from "@wick/tensor";
import { readInventory } from "@wick/testing/inventory";
import { expect, test } from "vitest";
import { Chroma, chroma } from "../variants/chroma.ts";
import { Lumina2, lumina2 } from "../variants/lumina2.ts";
import { chromaError, lumina2Error } from "./variant-cases.ts";

test("Lumina 2 gives what diffusers gives", async () => {
  using device = cpu();
  expect(await lumina2Error(device)).toBeLessThan(1e-5);
  expect(await lumina2Error(device, { ropeAxes: [2, 4, 6] })).toBeGreaterThan(1e-4);
});

test("Chroma gives what diffusers gives", async () => {
  using device = cpu();
  expect(await chromaError(device)).toBeLessThan(1e-5);
  expect(await chromaError(device, { ropeAxes: [2, 4, 6] })).toBeGreaterThan(1e-4);
});

test.each([
  ["lumina2", new Lumina2(lumina2)],
  ["chroma", new Chroma(chroma)],
] as const)("names and shapes of %s are the released checkpoint's", (name, model) => {
  const ours = Object.fromEntries([...namedParameters(model)].map(([path, p]) => [path, [...p.shape]]));
  expect(ours).toEqual(readInventory(name));
});
