// The transformer against diffusers, module by module and end to end, and against the checkpoint's list of names.

import { ZImage, zImageTurbo } from "@wick/models-zimage";
import { namedParameters } from "@wick/nn";
import { cpu } from "@wick/tensor";
import { relativeL2 } from "@wick/testing";
import { readInventory } from "@wick/testing/inventory";
import { describe, expect, test } from "vitest";
import { batchError, exactParity } from "./parity-cases.ts";

describe("against diffusers", () => {
  test("every module agrees", async () => {
    using device = cpu();
    const compared = await exactParity(device);
    expect(compared.length).toBe(57);
    expect(device.liveBytes).toBe(0);
  });

  test("a batch of unequal prompts at an odd size agrees", async () => {
    using device = cpu();
    const { got, want } = await batchError(device);
    expect(relativeL2(got, want)).toBeLessThan(1e-5);
    expect(device.liveBytes).toBe(0);
  });

  test.each([
    ["eps", { eps: 1e-6 }],
    ["rope theta", { ropeTheta: 10_000 }],
    ["rope axes", { ropeAxes: [6, 4, 6] }],
  ])("a wrong %s is noticed", async (_, changes) => {
    using device = cpu();
    await expect(exactParity(device, changes)).rejects.toThrow(/first to diverge/);
  });

  test("a wrong timestep scale is noticed", async () => {
    using device = cpu();
    const { got, want } = await batchError(device, { timestepScale: 999 });
    expect(relativeL2(got, want)).toBeGreaterThan(1e-3);
  });
});

test("names and shapes are the released checkpoint's: 521 of 521", () => {
  const ours = Object.fromEntries([...namedParameters(new ZImage(zImageTurbo))].map(([name, p]) => [name, [...p.shape]]));
  const theirs = readInventory("z-image");
  expect(Object.keys(theirs).length).toBe(521);
  expect(ours).toEqual(theirs);
});
