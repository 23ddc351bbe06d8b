// A prompt becomes a PNG, through the pipeline that runs the released Z-Image models; here with the small model that comes with Wick.
// Run: npm run example -- 04 "a red apple" apple.png
import { writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { localFolder } from "@wick/hub";
import { encodePng, grid, type Image } from "@wick/image";
import { zImage } from "@wick/models-zimage";
import { cpu, hold } from "@wick/tensor";
import { isTrainedPrompt, nearestNames, tinyZImage } from "@wick/tiny-zimage";

const [prompt = "a red apple", out = "picture.png"] = process.argv.slice(2);
if (!isTrainedPrompt(prompt)) console.log(`"${prompt}" is not among its emoji; nearest: ${nearestNames(prompt, 3).join(", ")}`);

using device = cpu(); // or: await webgpu()
const { widthPixels: width, heightPixels: height, steps, guidance } = tinyZImage.defaults;
// The real model: files: huggingFace("Tongyi-MAI/Z-Image-Turbo"), dtype: "q8_0", and no defaults.
using pipe = await zImage(device, { files: localFolder(fileURLToPath(tinyZImage.modelUrl)), defaults: { width, height, steps, guidance } });

// Ctrl-C stops within a block and gives all memory back.
const stop = new AbortController();
process.once("SIGINT", () => stop.abort());

// Step by step, with a look at the picture after each; `await pipe.generate({ prompt })` is the short form.
const run = pipe.steps({ prompt, seed: 1, signal: stop.signal });
const film: Image[] = [];
let step = await run.next();
for (; !step.done; step = await run.next()) {
  const { index, count, sigma, next, elapsedMs } = step.value;
  console.log(`step ${index + 1} of ${count}: sigma ${sigma.toFixed(3)} to ${next.toFixed(3)} in ${elapsedMs.toFixed(0)} ms`);
  film.push((await step.value.preview())[0]!);
}
using latents = hold(step.value);
const [image] = await pipe.decode(latents.value);

await writeFile(out, encodePng(image!, { text: { prompt, seed: "1" } }));
const filmName = out.replace(/(\.png)?$/, "-steps.png");
await writeFile(filmName, encodePng(grid(film, 6, { gap: 4 })));
console.log(`${out}: ${image!.width} x ${image!.height}, the picture after every step is in ${filmName}`);
