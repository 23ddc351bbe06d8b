// "high" rounds operands to TF32's mantissa and no further; "highest" keeps f32's accuracy; on the fragments of hardware that is not here.
import { describe, expect, it } from "vitest";
import { errorsOf, exact, rounded } from "../gpu/precision.ts";
import { all, simulated, vendorNames, vendors } from "./vendors.ts";

const halves = vendorNames.filter((v) => vendors[v].matrix.input === "f16");

describe.each(all ? halves : (["NVIDIA", "Intel, 16 lanes"] as const))("%s", (vendor) => {
  it.each(Object.keys(rounded))("%s", { timeout: 60_000 }, async (name) => {
    const { options } = simulated(vendor);
    const { highest, high } = await errorsOf(rounded[name]!, options);
    expect(highest).toBeLessThan(2e-6);
    expect(high).toBeGreaterThan(1e-4);
    expect(high).toBeLessThan(1e-3);
  });
});

it("f16 operands are the same at both, and f32 fragments round nothing", async () => {
  const f16 = await errorsOf(exact["f16 x f16"]!, simulated("NVIDIA").options);
  expect(Math.max(f16.highest, f16.high)).toBeLessThan(1e-6);
  const apple = await errorsOf(rounded["f32 x f32"]!, simulated("Apple").options);
  expect(apple.high).toBe(apple.highest);
  expect(apple.high).toBeLessThan(2e-6);
});
