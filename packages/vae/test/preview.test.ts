// The linear preview against its definition, written out.
import { cpu, torchCpu } from "@wick/tensor";
import { type Numbers, relativeL2 } from "@wick/testing";
import { expect, test } from "vitest";
import { flux1Rgb, latentPreview } from "../src/index.ts";

test("every pixel is the clamped linear map of its channels", async () => {
  using device = cpu();
  using latents = device.randn([2, 16, 3, 5], torchCpu(7));
  const z = (await latents.toArray()) as Float32Array;
  const expected = new Float64Array(2 * 3 * 15);
  for (let b = 0; b < 2; b++) {
    for (let colour = 0; colour < 3; colour++) {
      for (let p = 0; p < 15; p++) {
        let sum = flux1Rgb.bias[colour]!;
        for (let c = 0; c < 16; c++) sum += z[(b * 16 + c) * 15 + p]! * flux1Rgb.weights[c]![colour]!;
        expected[(b * 3 + colour) * 15 + p] = Math.min(1, Math.max(-1, sum));
      }
    }
  }
  using image = latentPreview(latents);
  expect(image.shape).toEqual([2, 3, 3, 5]);
  expect(relativeL2((await image.toArray()) as Numbers, expected)).toBeLessThan(1e-6);
});

test("values outside of -1…1 are clamped, and the table is that of its source", async () => {
  using device = cpu();
  using bright = device.full([1, 16, 1, 1], 100);
  using image = latentPreview(bright);
  const sums = [0, 1, 2].map((colour) => flux1Rgb.weights.reduce((sum, row) => sum + row[colour]!, 0));
  expect(sums.map((s) => Number(s.toFixed(4)))).toEqual([-0.0492, 0.13, 0.1755]);
  expect([...(await image.toArray())]).toEqual(sums.map((s) => Math.sign(s)));
});

test("latents of another network are refused", () => {
  using device = cpu();
  using four = device.zeros([1, 4, 8, 8]);
  expect(() => latentPreview(four)).toThrowErrorMatchingInlineSnapshot(
    `[ShapeError: latentPreview: latents are [b, 16, h, w]: full f32 [1, 4, 8, 8]]`,
  );
});
