// Names and shapes of Z-Image checkpoints in both layouts, against inventories of the reference class.
import { invert, remap, renameAll, translate } from "@wick/tensor";
import { inventorySource, readInventory, shapesOf, sortedShapes } from "@wick/testing/inventory";
import { expect, test } from "vitest";
import { zImageFromFused, zImageNames } from "../src/index.ts";

const original = readInventory("z-image");
const fused = readInventory("z-image-fused");

test("fused single files become ours, with and without prefix", () => {
  expect([Object.keys(original).length, Object.keys(fused).length]).toEqual([521, 453]);
  for (const prefix of ["", "model.diffusion_model."]) {
    const ours = translate(
      renameAll(inventorySource(fused), (n) => prefix + n),
      zImageNames,
    );
    expect(ours.dialect).toBe("fused");
    expect(shapesOf(ours)).toEqual(sortedShapes(Object.entries(original)));
  }
});

test("GGUF files store the pad tokens as vectors, and may carry a stray tensor", () => {
  const gguf = { ...fused, x_pad_token: [3840], cap_pad_token: [3840], "norm_final.weight": [3840] };
  expect(shapesOf(translate(inventorySource(gguf), zImageNames))).toEqual(sortedShapes(Object.entries(original)));
});

test("ours become the fused layout", () => {
  const theirs = remap(
    inventorySource(original),
    invert({ ...zImageFromFused, x_pad_token: "x_pad_token", cap_pad_token: "cap_pad_token" }),
  );
  expect(shapesOf(theirs)).toEqual(sortedShapes(Object.entries(fused)));
});

test("the released layout needs no rules; Lumina2 is another model", () => {
  expect(translate(inventorySource(original), zImageNames).dialect).toBe("z-image");
  const lumina2 = { ...fused, "cap_embedder.1.weight": [2304, 2304] };
  expect(() => translate(inventorySource(lumina2), zImageNames)).toThrowErrorMatchingInlineSnapshot(
    `[WeightsError: translate: not a Z-Image checkpoint in a known layout (z-image, fused): it has x_pad_token, cap_pad_token, x_embedder.weight, …]`,
  );
});
