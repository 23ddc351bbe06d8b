// The cases made of modules: one block of each model at its real width, and the included model. Weights are the same function of name and
// position as in peers/torch_modules.py, so that the results can be compared.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { localFolder } from "@wick/hub";
import { DoubleStreamBlock, flux1Dev, SingleStreamBlock } from "@wick/models-flux";
import { ZImage, ZImageBlock, zImage, zImageConfigFromJson, zImageTurbo } from "@wick/models-zimage";
import { fusedAttention, load, type Module, namedParameters, ropeTable } from "@wick/nn";
import { type Device, type DType, hold, openWeights, scope, type Tensor } from "@wick/tensor";
import { tinyZImage } from "@wick/tiny-zimage";
import { values } from "./peers/data.mjs";
import { type Spec, tensorIn } from "./wick-ops.ts";

/** 32-bit FNV-1a of a name: the seed of its weights. */
function seedOf(name: string): number {
  let hash = 0x811c9dc5;
  for (const c of name) hash = Math.imul(hash ^ c.charCodeAt(0), 0x01000193);
  return hash | 0;
}

/** Matrices of variance about 1 / in, in `dtype`; vectors of a norm around 1, others around 0, in f32. */
export function fillWeights(module: Module, device: Device, dtype: DType): void {
  for (const [name, parameter] of namedParameters(module)) {
    const isMatrix = parameter.rank === 2;
    const [scale, shift] = isMatrix ? [3.4 / Math.sqrt(parameter.dim(1)), 0] : /norm/.test(name) ? [0.2, 1] : [0.1, 0];
    const data = values(parameter.size, seedOf(name)).map((v) => v * scale + shift);
    using tensor = tensorIn(device, data, parameter.shape, isMatrix ? dtype : "f32", name);
    parameter.fill(tensor);
  }
}

const grid = (tokens: number, axis: number): number[][] => Array.from({ length: tokens }, (_, i) => [axis, Math.floor(i / 32), i % 32]);
const input = (device: Device, seed: number, ...shape: number[]): Tensor =>
  device.tensor(
    values(
      shape.reduce((a, b) => a * b, 1),
      seed,
    ),
    shape,
  );

type Make = (device: Device, spec: Spec) => Promise<() => Tensor | Promise<ArrayLike<number>>>;

const zImageBlock: Make = async (device, { tokens, dtype }) => {
  const block = new ZImageBlock(zImageTurbo, { modulated: true, attention: fusedAttention });
  fillWeights(block, device, dtype!);
  const [x, condition] = [input(device, 1, 1, tokens!, zImageTurbo.width), input(device, 2, 1, zImageTurbo.conditionWidth)];
  const rope = ropeTable(device, grid(tokens!, 1), { widths: zImageTurbo.ropeAxes, theta: zImageTurbo.ropeTheta });
  return () => block.forward(x, rope, { condition });
};

/** A quarter of the tokens, and at least one, are text. */
const textTokens = (tokens: number): number => (tokens >= 4608 ? 512 : tokens / 4);

const fluxRope = (device: Device, tokens: number, text: number) =>
  ropeTable(device, [...Array.from({ length: text }, () => [0, 0, 0]), ...grid(tokens - text, 0)], {
    widths: flux1Dev.ropeAxes,
    theta: flux1Dev.ropeTheta,
  });

const fluxDouble: Make = async (device, { tokens, dtype }) => {
  const text = textTokens(tokens!);
  const block = new DoubleStreamBlock(flux1Dev);
  fillWeights(block, device, dtype!);
  const [img, txt] = [input(device, 1, 1, tokens! - text, flux1Dev.width), input(device, 2, 1, text, flux1Dev.width)];
  const vec = input(device, 3, 1, flux1Dev.width);
  const rope = fluxRope(device, tokens!, text);
  return () => {
    const out = block.forward({ img, txt }, block.modulation(vec), rope);
    out.txt.compute();
    return out.img;
  };
};

const fluxSingle: Make = async (device, { tokens, dtype }) => {
  const block = new SingleStreamBlock(flux1Dev);
  fillWeights(block, device, dtype!);
  const [x, vec] = [input(device, 1, 1, tokens!, flux1Dev.width), input(device, 3, 1, flux1Dev.width)];
  const rope = fluxRope(device, tokens!, textTokens(tokens!));
  return () => block.forward(x, block.modulation.forward(vec)[0]!, rope);
};

const modelFolder = fileURLToPath(tinyZImage.modelUrl);

/** One prediction for a batch of two captions (24 and 12 tokens) on 8 x 8 latents. */
const tinyStep: Make = async (device) => {
  const config = zImageConfigFromJson(JSON.parse(readFileSync(`${modelFolder}/transformer/config.json`, "utf8")));
  const model = new ZImage(config);
  const weights = await openWeights(`${modelFolder}/transformer/diffusion_pytorch_model.safetensors`);
  await load(model, weights, device);
  await weights.close();
  const captions = [input(device, 1, 24, config.captionWidth), input(device, 2, 12, config.captionWidth)];
  const latents = input(device, 3, 2, 16, 8, 8);
  const context = hold(scope(() => model.context(captions, { height: 8, width: 8 })));
  return () => model.forward(latents, [0.75, 0.75], context.value);
};

/** Prompt to pixels: 64 x 64, 12 steps, guidance 3; the values are bytes / 255. */
const tinyPicture: Make = async (device) => {
  const pipe = await zImage(device, {
    files: localFolder(modelFolder),
    defaults: { width: 64, height: 64, steps: 12, guidance: 3 },
  });
  return async () => (await pipe.generate({ prompt: "a red apple", seed: 0 })).rgb;
};

/** By name of the case. */
export const wickModules: Readonly<Record<string, Make>> = { zImageBlock, fluxDouble, fluxSingle, tinyStep, tinyPicture };
