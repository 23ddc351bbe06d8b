// Names and shapes of the KL autoencoder in both layouts, against inventories of the reference classes.
import { readFileSync } from "node:fs";
import { invert, remap, renameAll, traceName, translate } from "@wick/tensor";
import { inventorySource, readInventory, shapesOf, sortedShapes } from "@wick/testing/inventory";
import { expect, test } from "vitest";
import { autoencoderKlFromBfl, autoencoderKlNames } from "../src/index.ts";

const diffusers = readInventory("autoencoder-kl");
const bfl = readInventory("autoencoder-kl-bfl");

test("BFL's autoencoder becomes ours, also inside of an all-in-one file", () => {
  expect(Object.keys(bfl)).toHaveLength(244);
  for (const prefix of ["", "first_stage_model.", "vae."]) {
    const ours = translate(
      renameAll(inventorySource(bfl), (n) => prefix + n),
      autoencoderKlNames,
    );
    expect(ours.dialect).toBe("black-forest-labs");
    expect(shapesOf(ours)).toEqual(sortedShapes(Object.entries(diffusers)));
  }
});

test("ours becomes BFL's", () => {
  const theirs = remap(inventorySource(diffusers), invert(autoencoderKlFromBfl));
  expect(shapesOf(theirs)).toEqual(sortedShapes(Object.entries(bfl)));
});

test("every tensor gets the name that BFL's reference converter gives it", () => {
  const golden = readFileSync(new URL("./goldens/kl-bfl-names.json", import.meta.url), "utf8");
  const { names } = JSON.parse(golden) as { names: Record<string, string> };
  for (const [ours, theirs] of Object.entries(names)) {
    const traces = ours === theirs ? [{ ours }] : traceName(autoencoderKlFromBfl, theirs);
    expect(traces, theirs).toEqual([{ ours }]);
  }
});

test("diffusers' layout needs no rules", () => {
  expect(translate(inventorySource(diffusers), autoencoderKlNames).dialect).toBe("diffusers");
});
