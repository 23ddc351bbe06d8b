// Names and shapes of both autoencoders in both layouts, against inventories of the reference classes.
import { readFileSync } from "node:fs";
import { type Module, namedParameters } from "@wick/nn";
import { invert, remap, renameAll, traceName, translate } from "@wick/tensor";
import { inventorySource, readInventory, shapesOf, sortedShapes } from "@wick/testing/inventory";
import { expect, test } from "vitest";
import { AutoencoderKl, AutoencoderTiny, autoencoderKlFromBfl, autoencoderKlNames, autoencoderTinyNames, joinTaesd } from "../src/index.ts";

const diffusers = readInventory("autoencoder-kl");
const bfl = readInventory("autoencoder-kl-bfl");
const taef1 = readInventory("taef1");

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

const parametersOf = (model: Module) => sortedShapes([...namedParameters(model)].map(([name, p]) => [name, p.shape]));

test("the released configurations have these tensors, no more and no less", () => {
  expect(parametersOf(new AutoencoderKl())).toEqual(sortedShapes(Object.entries(diffusers)));
  expect(Object.keys(taef1)).toHaveLength(134);
  expect(parametersOf(new AutoencoderTiny())).toEqual(sortedShapes(Object.entries(taef1)));
});

/** Layers of taesd.py with parameters: convolutions with and without bias, and blocks of three convolutions. */
const taesdEncoder = { conv: [0, 14], bare: [2, 6, 10], block: [1, 3, 4, 5, 7, 8, 9, 11, 12, 13] };
const taesdDecoder = { conv: [1, 19], bare: [7, 12, 17], block: [3, 4, 5, 8, 9, 10, 13, 14, 15, 18] };

function taesdNames({ conv, bare, block }: typeof taesdEncoder): string[] {
  const parts = [...conv, ...block.flatMap((i) => [0, 2, 4].map((j) => `${i}.conv.${j}`))];
  return [...parts.flatMap((part) => [`${part}.weight`, `${part}.bias`]), ...bare.map((i) => `${i}.weight`)];
}

/** Shapes by position: both halves list their tensors in the order of our names. */
function taesdFile(layout: typeof taesdEncoder, half: string, shift: number) {
  return inventorySource(
    Object.fromEntries(
      taesdNames(layout).map((name) => {
        const layer = Number.parseInt(name, 10);
        return [name, taef1[`${half}.layers.${layer - shift}${name.slice(String(layer).length)}`] ?? []];
      }),
    ),
  );
}

test("the two files of the original tiny autoencoder become ours", () => {
  const [encoder, decoder] = [taesdFile(taesdEncoder, "encoder", 0), taesdFile(taesdDecoder, "decoder", 1)];
  expect(encoder.entries.size + decoder.entries.size).toBe(134);
  const ours = translate(joinTaesd(encoder, decoder), autoencoderTinyNames);
  expect(ours.dialect).toBe("taesd");
  expect(shapesOf(ours)).toEqual(sortedShapes(Object.entries(taef1)));
});

test("the tiny autoencoder of diffusers needs no rules", () => {
  expect(translate(inventorySource(taef1), autoencoderTinyNames).dialect).toBe("diffusers");
});
