// Draws 24 prompts with the small model on the CPU and writes them as one picture, docs/images/tiny-grid.png.
// Run: npx tsx --conditions=@wick/source tools/picture-grid.ts
import { writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { localFolder } from "@wick/hub";
import { encodePng, grid, type Image } from "@wick/image";
import { zImage } from "@wick/models-zimage";
import { cpu } from "@wick/tensor";
import { isTrainedPrompt, tinyZImage } from "@wick/tiny-zimage";

// biome-ignore format: a list of words
const prompts = [
  "red apple", "fox", "pizza", "rocket", "octopus", "owl", "watermelon", "hamburger", "sunflower", "penguin", "ghost", "robot",
  "strawberry", "guitar", "lion", "panda", "cactus", "umbrella", "doughnut", "frog", "mushroom", "crab", "sailboat", "rainbow",
];
const unknown = prompts.filter((prompt) => !isTrainedPrompt(prompt));
if (unknown.length > 0) throw new Error(`the model does not know ${unknown.join(", ")}`);

using device = cpu();
const { widthPixels: width, heightPixels: height, steps, guidance } = tinyZImage.defaults;
using pipe = await zImage(device, { files: localFolder(fileURLToPath(tinyZImage.modelUrl)), defaults: { width, height, steps, guidance } });
const images: Image[] = [];
const started = performance.now();
for (const prompt of prompts) images.push(await pipe.generate({ prompt, seed: 1 }));
const seconds = (performance.now() - started) / 1000;
await writeFile(
  fileURLToPath(new URL("../docs/images/tiny-grid.png", import.meta.url)),
  encodePng(grid(images, 12, { gap: 6, background: [255, 255, 255] }), { text: { prompts: prompts.join(", "), seed: "1" } }),
);
console.log(`${images.length} pictures in ${seconds.toFixed(1)} s`);
