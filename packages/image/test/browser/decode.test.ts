// In a real browser: JPEG and WebP by the browser's decoder, PNG written and read by our own code.
import { expect, test } from "vitest";
import { decodeImage, decodePng, encodePng, ImageFormatError, ImageSizeError } from "../../src/index.ts";
import goldens from "../goldens/pillow.json";

function bytesOf(base64: string): Uint8Array {
  return Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
}

test.each(["jpeg", "jpeg-turned", "webp"] as const)("%s decodes as Pillow does, within 4 of 255", async (name) => {
  const stored = goldens.lossy[name];
  const image = await decodeImage(bytesOf(stored.file));
  expect([image.width, image.height, image.alpha]).toEqual([stored.width, stored.height, undefined]);
  const expected = bytesOf(stored.rgb);
  const largest = image.rgb.reduce((most, value, i) => Math.max(most, Math.abs(value - expected[i]!)), 0);
  expect(largest).toBeLessThanOrEqual(4);
});

test("broken and too large files are errors of ours", async () => {
  const jpeg = bytesOf(goldens.lossy.jpeg.file);
  await expect(decodeImage(jpeg.subarray(0, 100))).rejects.toBeInstanceOf(ImageFormatError);
  await expect(decodeImage(jpeg, { maxPixels: 100 })).rejects.toBeInstanceOf(ImageSizeError);
});

test("the same PNG bytes as in Node", () => {
  const png = encodePng({ width: 2, height: 1, rgb: Uint8Array.of(1, 2, 3, 4, 5, 6) }, { text: { seed: "42" } });
  const hex = Array.from(png, (value) => value.toString(16).padStart(2, "0")).join("");
  expect(hex).toBe(
    "89504e470d0a1a0a0000000d49484452000000020000000108020000007b40e8dd000000077445587473656564003432afad4e3c0000000d49444154789c63646462060200003c00112077a5e40000000049454e44ae426082",
  );
  expect(decodePng(png).text).toEqual({ seed: "42" });
});
