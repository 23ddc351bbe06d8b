// Z-Image from a transformer's single file: the other parts come from companions, and files that cannot be told apart are refused.
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { localFolder } from "@wick/hub";
import { zImage } from "@wick/models-zimage";
import { cpu, type Device } from "@wick/tensor";
import { tinyZImage } from "@wick/tiny-zimage";
import { afterAll, beforeAll, expect, test } from "vitest";

const companions = localFolder(fileURLToPath(tinyZImage.modelUrl));
const weights = fileURLToPath(new URL("transformer/diffusion_pytorch_model.safetensors", tinyZImage.modelUrl));
const defaults = { width: 64, height: 64, steps: 2, guidance: 0 };
let device: Device;
let folder: string;
beforeAll(() => {
  device = cpu();
  folder = mkdtempSync(join(tmpdir(), "wick-single-"));
  copyFileSync(weights, join(folder, "mine.safetensors"));
});
afterAll(() => {
  expect(device.liveBytes).toBe(0);
  device.destroy();
  rmSync(folder, { recursive: true });
});

async function pictureOf(options: Omit<Parameters<typeof zImage>[1], "defaults">): Promise<Uint8Array> {
  using pipe = await zImage(device, { ...options, defaults });
  return (await pipe.generate({ prompt: "a fox", seed: 1 })).rgb;
}

test("a file, a folder with one such file, and a named one draw what the repository draws", async () => {
  const whole = await pictureOf({ files: companions });
  expect(await pictureOf({ files: localFolder(join(folder, "mine.safetensors")), companions })).toEqual(whole);
  expect(await pictureOf({ files: localFolder(folder), companions })).toEqual(whole);
  expect(await pictureOf({ files: companions, transformer: "transformer/*.safetensors" })).toEqual(whole);
});

test("a file alone, and files that cannot be told apart, are refused", async () => {
  await expect(zImage(device, { files: localFolder(join(folder, "mine.safetensors")) })).rejects.toThrow(
    /is a transformer alone; pass companions: a repository that has configs, text encoder and VAE, such as Tongyi-MAI\/Z-Image-Turbo$/,
  );
  copyFileSync(weights, join(folder, "other.safetensors"));
  await expect(zImage(device, { files: localFolder(folder), companions })).rejects.toThrow(
    /mine\.safetensors, other\.safetensors; name its file with the option transformer$/,
  );
  rmSync(join(folder, "other.safetensors"));
});
