// FLUX.1 configurations as values. Every number is from black-forest-labs/flux @ 802fb47 src/flux/util.py (`configs`) unless it says otherwise.
import type { FluxConfig } from "./flux1.ts";

/** `flux-dev`; transformer/config.json of black-forest-labs/FLUX.1-dev says the same. */
export const flux1Dev: FluxConfig = {
  inChannels: 64,
  outChannels: 64,
  vectorWidth: 768,
  textWidth: 4096,
  width: 3072,
  mlpRatio: 4,
  heads: 24,
  doubleBlocks: 19,
  singleBlocks: 38,
  ropeAxes: [16, 56, 56],
  ropeTheta: 10_000,
  guidance: true,
  // src/flux/modules/layers.py: LayerNorm and RMSNorm, timestep_embedding (256 wide, time_factor 1000).
  eps: 1e-6,
  timestepWidth: 256,
  timestepScale: 1000,
};

/** `flux-schnell`: no guidance number. */
export const flux1Schnell: FluxConfig = { ...flux1Dev, guidance: false };

/** `flux-dev-krea`: the network of dev. */
export const flux1KreaDev: FluxConfig = flux1Dev;

/** `flux-dev-kontext`: the network of dev; reference tokens follow the image tokens. */
export const flux1KontextDev: FluxConfig = flux1Dev;

/** `flux-dev-fill`: latents 64, masked image 64, mask 256. */
export const flux1FillDev: FluxConfig = { ...flux1Dev, inChannels: 384 };

/** `flux-dev-depth`: latents 64, depth map 64. */
export const flux1DepthDev: FluxConfig = { ...flux1Dev, inChannels: 128 };

/** `flux-dev-canny`: latents 64, edges 64. */
export const flux1CannyDev: FluxConfig = { ...flux1Dev, inChannels: 128 };
