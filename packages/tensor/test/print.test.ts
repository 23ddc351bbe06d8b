// Printed tensors equal PyTorch's text (torch 2.13, made by tools/reference/ops/prints.py).
import { readFileSync } from "node:fs";
import { cpu, type PlainDType } from "@wick/tensor";
import { describe, expect, test } from "vitest";

interface Case {
  readonly name: string;
  readonly dtype: PlainDType;
  readonly shape: readonly number[];
  readonly values: readonly (number | string)[];
  readonly text: string;
}
const cases = JSON.parse(readFileSync(new URL("./goldens/print.json", import.meta.url), "utf8")) as Case[];
const value = (v: number | string): number =>
  v === "inf" ? Number.POSITIVE_INFINITY : v === "-inf" ? Number.NEGATIVE_INFINITY : Number(v);

describe("print", () => {
  test.each(cases)("$name", async ({ dtype, shape, values, text }) => {
    using device = cpu();
    using x = device.tensor(values.map(value), shape, { dtype });
    expect(await x.print()).toBe(text);
  });

  test("a description needs no values", () => {
    using device = cpu();
    using x = device.tensor([1, 2, 3, 4, 5, 6], [2, 3]);
    expect(`${x}`).toMatchInlineSnapshot(`"tensor f32 [2, 3]"`);
  });

  test("empty shapes name their size", async () => {
    using device = cpu();
    using x = device.zeros([2, 0, 3]);
    expect(await x.print()).toMatchInlineSnapshot(`"tensor([], size=[2, 0, 3])"`);
  });
});
