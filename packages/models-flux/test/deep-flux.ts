// Pipelines of so many random blocks that they, and not the autoencoder, are what does not fit.

import type { Device, WeightSource } from "@wick/tensor";
import { randomWeights } from "@wick/testing/memory-weights";
import { Flux, type FluxPipeline, type FluxRequest } from "../src/index.ts";
import { configOf, type FluxGolden, openGolden } from "./parity-cases.ts";
import { type TinyOptions, tinyFlux } from "./tiny-flux.ts";

const drawn = new Map<FluxGolden, WeightSource>();

/** The golden's network with eight blocks of each kind. */
export async function deepFlux(device: Device, network: FluxGolden, options: TinyOptions): Promise<FluxPipeline> {
  const changes = { doubleBlocks: 8, singleBlocks: 8 };
  if (!drawn.has(network)) drawn.set(network, randomWeights(new Flux({ ...configOf(await openGolden(network)), ...changes })));
  return tinyFlux(device, network, { ...options, changes, decorate: () => drawn.get(network)! });
}

/** Room for all activations, and for this part of what streaming saves in the loop. */
export async function limitFor(
  device: Device,
  network: FluxGolden,
  request: FluxRequest,
  options: TinyOptions,
  part: number,
): Promise<number> {
  using pipe = await deepFlux(device, network, options);
  const { memory } = await pipe.plan(request);
  const { trunk, whole } = pipe.parts.transformer;
  const { total, least } = await (options.precomputeModulation ? trunk : whole).bytes();
  const needs = memory.stages.map(({ stage, activationBytes, peakBytes }) => {
    if (stage === "modulate") return activationBytes;
    return stage === "denoise" ? activationBytes + least + Math.floor(part * (total - least)) : peakBytes;
  });
  return Math.max(...needs);
}
