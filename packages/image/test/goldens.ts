// Reads the Pillow goldens (tools/reference/images.py).
import { readFileSync } from "node:fs";
import type { Image } from "../src/index.ts";

interface Stored {
  readonly width: number;
  readonly height: number;
  readonly rgb: string;
  readonly alpha?: string;
}

interface Goldens {
  readonly resize: { source: Stored; cases: (Stored & { filter: "lanczos" | "bicubic" | "bilinear" | "box" })[] };
  readonly resizeAlpha: Goldens["resize"];
  readonly png: Record<string, Stored & { png: string }>;
  readonly texts: { png: string };
  readonly lossy: Record<string, Stored & { file: string }>;
  readonly rounding: { from: Stored & { values: string }; to: Stored & { values: string } };
}

export const goldens = JSON.parse(readFileSync(new URL("goldens/pillow.json", import.meta.url), "utf8")) as Goldens;

/** Bytes of a base64 string. */
export function bytesOf(base64: string): Uint8Array {
  return new Uint8Array(Buffer.from(base64, "base64"));
}

/** f32 values of a base64 string. */
export function floatsOf(base64: string): Float32Array {
  return new Float32Array(bytesOf(base64).buffer);
}

/** A stored picture. */
export function pictureOf({ width, height, rgb, alpha }: Stored): Image {
  return { width, height, rgb: bytesOf(rgb), ...(alpha === undefined ? {} : { alpha: bytesOf(alpha) }) };
}

/** Largest difference between two pictures of one size, over all bytes. */
export function largestDifference(a: Uint8Array, b: Uint8Array): number {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY;
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0);
}

/** A picture of smooth colour with noise, from a seed. */
export function testPicture(width: number, height: number, seed = 1, hasAlpha = false): Image {
  let state = seed;
  const next = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) >>> 24;
  const byte = (_: unknown, i: number) => (i * 3 + (next() >> 3)) & 255;
  const rgb = Uint8Array.from({ length: width * height * 3 }, byte);
  return hasAlpha ? { width, height, rgb, alpha: Uint8Array.from({ length: width * height }, byte) } : { width, height, rgb };
}
