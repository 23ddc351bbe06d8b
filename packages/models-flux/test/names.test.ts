// Names and shapes of all FLUX.1 checkpoints, against inventories of the reference classes.
import { namedParameters } from "@wick/nn";
import { invert, remap, renameAll, stripPrefix, translate } from "@wick/tensor";
import { inventorySource, readInventory, shapesOf, sortedShapes } from "@wick/testing/inventory";
import { describe, expect, test } from "vitest";
import {
  Flux,
  flux1CannyDev,
  flux1Dev,
  flux1FillDev,
  flux1FromDiffusers,
  flux1Kind,
  flux1Names,
  flux1Schnell,
  fluxConfigFromWeights,
  splitModulation,
} from "../src/index.ts";

const variants = { dev: [780, 1160, 64], schnell: [776, 1156, 64], fill: [780, 1160, 384], control: [780, 1160, 128] } as const;

describe.each(Object.entries(variants))("FLUX.1 %s", (variant, [originalCount, diffusersCount, inChannels]) => {
  const original = readInventory(`flux1-${variant}`);
  const diffusers = readInventory(`flux1-${variant}-diffusers`);

  test("diffusers' tensors become ours, all of them", () => {
    expect(Object.keys(diffusers)).toHaveLength(diffusersCount);
    const ours = translate(inventorySource(diffusers), flux1Names);
    expect(ours.dialect).toBe("diffusers");
    expect(ours.entries.size).toBe(originalCount);
    expect(shapesOf(ours)).toEqual(sortedShapes(Object.entries(original)));
  });

  test("ours become diffusers'", () => {
    const theirs = remap(inventorySource(original), invert(flux1FromDiffusers));
    expect(shapesOf(theirs)).toEqual(sortedShapes(Object.entries(diffusers)));
  });

  test("single files are recognised with and without their prefix", () => {
    for (const prefix of ["", "model.diffusion_model."]) {
      const file = renameAll(inventorySource(original), (name) => prefix + name);
      const ours = translate(file, flux1Names);
      expect(ours.dialect).toBe("black-forest-labs");
      expect(shapesOf(ours)).toEqual(sortedShapes(Object.entries(original)));
      expect(flux1Kind(ours.entries)).toEqual({
        variant,
        inChannels,
        guidance: variant !== "schnell",
        doubleBlocks: 19,
        singleBlocks: 38,
      });
    }
  });
});

test.each([
  ["dev", flux1Dev],
  ["schnell", flux1Schnell],
  ["fill", flux1FillDev],
  ["control", flux1CannyDev],
])("the model and its inventory agree in names and shapes, and the inventory tells the config: %s", (variant, config) => {
  const inventory = readInventory(`flux1-${variant}`);
  const ours = [...namedParameters(new Flux(config))].map(([name, p]): [string, readonly number[]] => [name, p.shape]);
  expect(sortedShapes(ours)).toEqual(sortedShapes(Object.entries(inventory)));
  expect(fluxConfigFromWeights(inventorySource(inventory).entries)).toEqual(config);
  const { modulation, trunk } = splitModulation(new Flux(config));
  const [first, second] = [[...namedParameters(modulation)], [...namedParameters(trunk)]];
  const size = (list: typeof first) => list.reduce((sum, [, p]) => sum + p.size, 0);
  expect([...first, ...second].map(([name]) => name).sort()).toEqual(Object.keys(inventory).sort());
  expect(size(first) / size([...first, ...second])).toBeCloseTo(0.274, 2);
});

test("tensors of an all-in-one file outside of the prefix are left out", () => {
  const names = { ...Object.fromEntries(Object.entries(readInventory("flux1-dev")).map(([n, s]) => [`model.diffusion_model.${n}`, s])) };
  const file = inventorySource({ ...names, "first_stage_model.decoder.conv_in.weight": [512, 16, 3, 3] });
  expect(stripPrefix(file, ...flux1Names.prefixes).entries.size).toBe(780);
});

test("the last modulation changes the order of its halves, nothing else does", () => {
  const swapped = Object.entries(flux1FromDiffusers).filter(([, recipe]) => typeof recipe === "object" && "swapHalves" in recipe);
  expect(swapped).toEqual([["final_layer.adaLN_modulation.1.{p}", { swapHalves: "norm_out.linear.{p}" }]]);
});

test("another model's file is refused", () => {
  expect(() => translate(inventorySource(readInventory("z-image")), flux1Names)).toThrowErrorMatchingInlineSnapshot(
    `[WeightsError: translate: not a FLUX.1 checkpoint in a known layout (black-forest-labs, diffusers): it has x_pad_token, cap_pad_token, all_x_embedder.2-1.weight, …]`,
  );
});
