// Names and shapes of Z-Image checkpoints in both layouts, against inventories of the reference class.
import { estimateBytes } from "@wick/nn";
import { type DType, invert, remap, renameAll, translate } from "@wick/tensor";
import { inventorySource, readInventory, shapesOf, sortedShapes } from "@wick/testing/inventory";
import { expect, test } from "vitest";
import { ZImage, zImageFromFused, zImageNames, zImageTurbo } from "../src/index.ts";

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

test("a quantized load takes what quantized releases take", () => {
  // Sizes of released files: Q8_0 7.2 GB, Q4_K 4.5 GB, bf16 12.3 GB.
  const model = new ZImage(zImageTurbo);
  const gigabytes = (dtype: DType) => Number((estimateBytes(model, dtype) / 1e9).toFixed(1));
  expect([gigabytes("bf16"), gigabytes("q8_0"), gigabytes("q4_K")]).toEqual([12.3, 7.2, 4.5]);
});
