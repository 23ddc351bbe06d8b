// Z-Image configurations as values.
import type { ZImageConfig } from "./z-image.ts";

/** Tongyi-MAI/Z-Image-Turbo transformer/config.json; Z-Image (Base) is the same network. */
export const zImageTurbo: ZImageConfig = {
  width: 3840,
  heads: 30,
  layers: 30,
  refinerLayers: 2,
  ffnWidth: 10_240,
  latentChannels: 16,
  patch: 2,
  captionWidth: 2560,
  conditionWidth: 256,
  timestepWidth: 1024,
  timestepScale: 1000,
  ropeAxes: [32, 48, 48],
  ropeLengths: [1536, 512, 512],
  ropeTheta: 256,
  eps: 1e-5,
};
