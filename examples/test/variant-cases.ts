// The composed models against diffusers at tiny widths, on any device.
import { load } from "@wick/nn";
import { type Device, hold, scope } from "@wick/tensor";
import { relativeL2 } from "@wick/testing";
import { goldenInput, readModuleGolden } from "@wick/testing/module-golden";
import { Chroma, type ChromaConfig } from "../variants/chroma.ts";
import { Lumina2, type Lumina2Config, lumina2 } from "../variants/lumina2.ts";

const tinyLumina: Lumina2Config = {
  ...lumina2,
  width: 48,
  heads: 4,
  kvHeads: 2,
  layers: 2,
  refinerLayers: 1,
  ffnWidth: 192,
  latentChannels: 4,
  captionWidth: 20,
  ropeAxes: [4, 4, 4],
};
const tinyChroma: ChromaConfig = {
  inChannels: 16,
  width: 36,
  heads: 3,
  doubleBlocks: 2,
  singleBlocks: 2,
  textWidth: 20,
  ropeAxes: [4, 4, 4],
  approximator: { channels: 64, width: 24, layers: 2 },
};

const open = (name: string) => readModuleGolden(new URL(`./goldens/${name}.safetensors`, import.meta.url));

/** Relative L2 of a tiny Lumina 2 against diffusers. */
export async function lumina2Error(device: Device, changes: Partial<Lumina2Config> = {}): Promise<number> {
  const golden = await open("lumina2");
  using model = new Lumina2({ ...tinyLumina, ...changes });
  await load(model, golden.weights, device);
  const [latents, cap] = [goldenInput(golden, "latents"), goldenInput(golden, "cap")];
  const time = goldenInput(golden, "t").values[0]!;
  using out = hold(
    scope(() => {
      const x = device.tensor(latents.values as Float32Array, latents.shape);
      return model.forward(x, time, device.tensor(cap.values as Float32Array, cap.shape));
    }),
  );
  return relativeL2((await out.value.toArray()) as Float32Array, golden.outputs.get("output")!.values);
}

/** Relative L2 of a tiny Chroma against diffusers. */
export async function chromaError(device: Device, changes: Partial<ChromaConfig> = {}): Promise<number> {
  const golden = await open("chroma");
  using model = new Chroma({ ...tinyChroma, ...changes });
  await load(model, golden.weights, device);
  const [img, txt] = [goldenInput(golden, "img"), goldenInput(golden, "txt")];
  const positions = Array.from({ length: 15 }, (_, i) => [0, Math.floor(i / 5), i % 5]);
  const sigma = goldenInput(golden, "t").values[0]!;
  using out = hold(
    scope(() => {
      const x = device.tensor(img.values as Float32Array, img.shape);
      return model.forward(x, positions, device.tensor(txt.values as Float32Array, txt.shape), sigma);
    }),
  );
  return relativeL2((await out.value.toArray()) as Float32Array, golden.outputs.get("output")!.values);
}
