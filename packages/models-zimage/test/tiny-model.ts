// The embedded trained model and its PyTorch reference outputs, for tests on any device.
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { localFolder } from "@wick/hub";
import { type OpenZImageOptions, type ZImagePipeline, zImage } from "@wick/models-zimage";
import { type Device, memorySource, openSafetensors, readTensorBytes, type Tensor } from "@wick/tensor";
import { relativeL2 } from "@wick/testing";
import { tinyZImage } from "@wick/tiny-zimage";

/** Prompt, seed and guidance of every committed reference. */
export const references = ["a red apple", "fox"].flatMap((prompt) =>
  [0, 1].flatMap((seed) => [0, 3].map((guidance) => ({ prompt, seed, guidance }))),
);
export type Reference = (typeof references)[number];

export const openTiny = (device: Device, options: Partial<OpenZImageOptions> = {}): Promise<ZImagePipeline> =>
  zImage(device, {
    files: localFolder(fileURLToPath(tinyZImage.modelUrl)),
    defaults: { width: 64, height: 64, steps: tinyZImage.defaults.steps, guidance: tinyZImage.defaults.guidance },
    ...options,
  });

/** f32 values of one reference file by name. */
export async function readReference(
  name: string,
): Promise<(key: string) => Promise<{ values: Float32Array; shape: readonly number[]; bytes: Uint8Array }>> {
  const place = new URL(`../../tiny-zimage/test/reference-outputs/${name}.safetensors`, import.meta.url);
  const source = await openSafetensors(memorySource(await readFile(place), name));
  return async (key) => {
    const bytes = await readTensorBytes(source, key);
    return { bytes, values: new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4), shape: source.entries.get(key)!.shape };
  };
}

export const fileName = ({ prompt, seed, guidance }: Reference): string => `${prompt.replaceAll(" ", "-")}_seed${seed}_g${guidance}`;

/** Relative L2 of every step's latents, and of the decoded picture, against PyTorch from the same noise. */
export async function compareWithReference(pipe: ZImagePipeline, reference: Reference): Promise<{ steps: number[]; image: number }> {
  const read = await readReference(fileName(reference));
  const [noise, latents, decoded] = [await read("noise"), await read("latents_steps"), await read("decoded")];
  using start = pipe.device.fromBytes(noise.bytes, [1, 16, 8, 8], "f32", "noise");
  const run = pipe.steps({ prompt: reference.prompt, guidance: reference.guidance, latents: start });
  const steps: number[] = [];
  for (;;) {
    const step = await run.next();
    if (step.done) return { steps, image: await decodedError(pipe, step.value, decoded.values) };
    const got = (await step.value.latents.toArray()) as Float32Array;
    steps.push(relativeL2(got, latents.values.subarray(steps.length * got.length, (steps.length + 1) * got.length)));
  }
}

async function decodedError(pipe: ZImagePipeline, latents: Tensor, expected: Float32Array): Promise<number> {
  using owned = latents;
  const vae = await pipe.parts.vae.ensure(pipe.device);
  using image = vae.decode(owned);
  return relativeL2((await image.toArray()) as Float32Array, expected);
}
