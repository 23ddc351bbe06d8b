// The trained tiny model end to end on WebGPU against PyTorch, from the same noise: all eight references, or on SwiftShader, where they take
// ten minutes, each prompt once (WICK_PARITY=all runs all there too; it also prints the errors).
import type { ZImagePipeline } from "@wick/models-zimage";
import { type Device, webgpu } from "@wick/tensor";
import { afterAll, beforeAll, expect, test } from "vitest";
import { compareWithReference, openTiny, type Reference, references } from "../tiny-model.ts";

const { WICK_PARITY: asked, WICK_TEST_DRIVER: driver = "" } = process.env;
const all = asked === "all" || !/swiftshader/i.test(driver);
/** Each prompt once, with and without guidance. */
const chosen = references.filter((r) => all || ((r.prompt === "fox") === (r.guidance === 3) && r.seed === (r.guidance === 3 ? 1 : 0)));

let device: Device;
let pipe: ZImagePipeline;
beforeAll(async () => {
  device = await webgpu();
  pipe = await openTiny(device);
});
afterAll(() => {
  pipe[Symbol.dispose]();
  expect(device.liveBytes).toBe(0);
  device.destroy();
});

test.each<Reference>(chosen)("$prompt, seed $seed, guidance $guidance", { timeout: 900_000 }, async (reference) => {
  const { steps, image } = await compareWithReference(pipe, reference);
  if (asked) process.stdout.write(`${JSON.stringify({ ...reference, worstStep: Math.max(...steps), image, on: device.description })}\n`);
  expect(steps.length).toBe(12);
  expect(Math.max(...steps)).toBeLessThan(1e-4);
  expect(image).toBeLessThan(1e-4);
});

test("the same request gives the same bytes twice", { timeout: 900_000 }, async () => {
  const request = { prompt: "fox", seed: 7, steps: 1, guidance: 0 };
  const first = await pipe.generate(request);
  expect((await pipe.generate(request)).rgb).toEqual(first.rgb);
});
