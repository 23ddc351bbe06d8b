// Every example of one file runs as its first lines say, in an empty folder, and prints what it promises.
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { decodePng } from "@wick/image";
import { afterAll, beforeAll, expect, test } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));
let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "wick-examples-"));
});
afterAll(() => rm(folder, { recursive: true }));

/** Standard output of an example; rejects when it fails or writes to standard error. */
async function run(name: string, ...args: string[]): Promise<string> {
  const loader = ["--import", new URL("../../node_modules/tsx/dist/loader.mjs", import.meta.url).href, "--conditions=@wick/source"];
  const command = [...loader, join(root, "examples", `${name}.ts`), ...args];
  const { stdout, stderr } = await promisify(execFile)(process.execPath, command, { cwd: folder, timeout: 55_000 });
  expect(stderr).toBe("");
  return stdout;
}

test("01-tensors: PyTorch's random numbers, an error with its operands, nothing left alive but what it holds", async () => {
  const out = await run("01-tensors");
  // torch.manual_seed(42); torch.randn(3)
  expect(out).toContain("torch.randn with seed 42: 0.3366903662681");
  expect(out).toContain("matmul: inner dimensions differ (3 and 4)");
  // x, w, y and tokens in f32; x again and its mean in bf16.
  expect(out).toContain(`${4 * (6 + 12 + 8 + 32) + 2 * (6 + 1)} bytes are alive`);
});

test("02-dit-block: a tap for every attention and block, and an attention function that matters", async () => {
  const out = await run("02-dit-block");
  expect(out.match(/^blocks\.\d(\.attn)?: root mean square \d\.\d+$/gm)).toHaveLength(6);
  expect(Number(/moves the result by ([\d.]+)/.exec(out)?.[1])).toBeGreaterThan(1e-3);
});

test("03-load-weights: both layouts, quantized, adapted, and a refusal that lists everything", async () => {
  const out = await run("03-load-weights");
  expect(out).toMatch(/Z-Image Turbo: 11\.46 GiB in bf16/);
  expect(out).toMatch(/in the z-image layout/);
  expect(out).toMatch(/in the fused layout/);
  expect(out).toMatch(/layers.*q8_0/);
  expect(out).toContain("merged: layers.0.attention.to_q.weight changed, 0 names unmatched");
  expect(out).toContain("to 1 layer of the quantized model");
  expect(out).toMatch(/as it should be: .*missing/);
});

test("04-text-to-image: a red apple and a film of twelve steps", async () => {
  const out = await run("04-text-to-image", "a red apple", "apple.png");
  expect(out.match(/^step /gm)).toHaveLength(12);
  const { text, ...image } = decodePng(await readFile(join(folder, "apple.png")));
  expect([image.width, image.height, text["prompt"]]).toEqual([64, 64, "a red apple"]);
  const centre = (32 * 64 + 32) * 3;
  expect(image.rgb[centre]!).toBeGreaterThan(image.rgb[centre + 1]! + 80);
  const film = decodePng(await readFile(join(folder, "apple-steps.png")));
  expect(film.width).toBeGreaterThan(6 * 64);
});

test("05-new-variant: two models that no package ships, and an attention function that matters", async () => {
  const out = await run("05-new-variant");
  expect(out).toContain("Lumina2: 2.61 billion parameters in 459 tensors");
  expect(out).toContain("Chroma: 8.90 billion parameters in 1023 tensors");
  expect(Number(/moves the velocity by ([\d.]+)/.exec(out)?.[1])).toBeGreaterThan(1e-3);
});
