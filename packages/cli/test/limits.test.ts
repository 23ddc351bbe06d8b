// wick generate and convert where something is short: memory, disk, patience; and adapters, which must fit.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { decodePng } from "@wick/image";
import { memorySink, openWeights, torchCpu, writeSafetensors } from "@wick/tensor";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openSession, temporaryFolder } from "./cli-process.ts";

const session = openSession();
const { wick } = session;
const folder = temporaryFolder();
const cwd = folder.path;
const binary = fileURLToPath(new URL("../bin/wick.mjs", import.meta.url));
const transformer = fileURLToPath(new URL("../../tiny-zimage/model/transformer/diffusion_pytorch_model.safetensors", import.meta.url));
const quick = ["--device", "cpu", "--steps", "1"];
afterAll(() => {
  session.close();
  folder.remove();
});
const rgbOf = (name: string): Uint8Array => decodePng(readFileSync(join(cwd, name))).rgb;

/** An adapter of rank 2 for the first block's queries. */
async function writeAdapter(name: string): Promise<void> {
  const source = await openWeights(transformer);
  const [out, width] = source.entries.get("layers.0.attention.to_q.weight")!.shape as [number, number];
  await source.close();
  const stream = torchCpu(1);
  const matrix = (key: string, shape: readonly number[]) => ({
    name: `layers.0.attention.to_q.${key}.weight`,
    dtype: "f32" as const,
    shape,
    bytes: () => [new Uint8Array(stream.randn(shape[0]! * shape[1]!).buffer as ArrayBuffer)],
  });
  const sink = memorySink();
  await writeSafetensors(sink, [matrix("lora_A", [2, width]), matrix("lora_B", [out, 2])]);
  writeFileSync(join(cwd, name), sink.bytes());
}

beforeAll(async () => {
  await writeAdapter("style.safetensors");
  const made = await wick(["generate", "a fox", ...quick, "-q", "-o", "plain.png"], { cwd });
  expect(made).toEqual({ code: 0, stdout: "", stderr: "" });
}, 60_000);

describe("--lora", () => {
  test("changes the picture by its scale, stands in the record, and is merged again by reproduce", async () => {
    const styled = await wick(["generate", "a fox", ...quick, "--lora", "style.safetensors:0.5", "--json", "-o", "styled.png"], { cwd });
    expect(styled.code, styled.stderr).toBe(0);
    expect(JSON.parse(styled.stdout).pictures[0].record.loras).toMatchObject([{ path: "style.safetensors", scale: 0.5 }]);
    expect(styled.stderr).toMatch(/^style\.safetensors: changes 1 weight$/m);
    expect(rgbOf("styled.png")).not.toEqual(rgbOf("plain.png"));
    const again = await wick(["reproduce", "styled.png"], { cwd });
    expect(again.stdout).toMatch(/^styled\.png: identical, byte for byte/);
    await wick(["generate", "a fox", ...quick, "--lora", "style.safetensors:0", "-q", "-o", "unchanged.png"], { cwd });
    expect(rgbOf("unchanged.png")).toEqual(rgbOf("plain.png"));
  });

  test("that is not for this model, or not there, ends in one line and no picture", async () => {
    const other = fileURLToPath(new URL("../../tiny-zimage/model/vae/diffusion_pytorch_model.safetensors", import.meta.url));
    const wrong = await wick(["generate", "a fox", ...quick, "--lora", "style.safetensors", "--lora", other, "-o", "no.png"], { cwd });
    expect(wrong).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(
        /^(.*\n){0,2}wick: .*vae\/diffusion_pytorch_model\.safetensors: none of \d+ tensors .*; is it for .*\n$/,
      ),
    });
    const missing = await wick(["generate", "a fox", ...quick, "--lora", "no.safetensors", "-o", "no.png"], { cwd });
    expect(missing).toMatchObject({ code: 1, stderr: "wick: no.safetensors: no such file or folder; check the path\n" });
    expect(readdirSync(cwd)).not.toContain("no.png");
  });
});

describe("--max-memory", () => {
  test("below the weights' size gives the same picture, block by block", async () => {
    const { code, stderr } = await wick(["generate", "a fox", ...quick, "--max-memory", "12MB", "-q", "-o", "small.png"], { cwd });
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(rgbOf("small.png")).toEqual(rgbOf("plain.png"));
  });

  test("that nothing fits says what would", async () => {
    const { code, stderr } = await wick(["generate", "a fox", ...quick, "--max-memory", "1MB", "-o", "no.png"], { cwd });
    expect(stderr).toMatch(/^wick: plan: \w+ needs .*, --max-memory is 1\.0 MiB: .*; use .* or --max-memory [\d.]+MB\n$/);
    expect(code).toBe(1);
    const [, enough] = / or --max-memory ([\d.]+MB)\n$/.exec(stderr)!;
    const made = await wick(["generate", "a fox", ...quick, "--max-memory", enough!, "-q", "-o", "least.png"], { cwd });
    expect(made).toEqual({ code: 0, stdout: "", stderr: "" });
    const unitless = await wick(["generate", "a fox", "--max-memory", "8"], { cwd });
    expect(unitless).toMatchObject({ code: 2, stderr: expect.stringContaining("a size with its unit is needed, such as 500MB") });
  });
});

test("a full disk: one line, and nothing is left of the file", async () => {
  const full = openSession({ preload: new URL("full-disk.ts", import.meta.url) });
  const place = join(cwd, "full");
  mkdirSync(place);
  try {
    for (const [file, args] of [
      ["fox.png", ["generate", "a fox", ...quick, "-o", "fox.png", "-q"]],
      ["model.gguf", ["convert", transformer, "model.gguf"]],
    ] as const) {
      const stderr = `wick: ${file}: no space is left on the disk; free some, or choose another disk\n`;
      expect(await full.wick(args, { cwd: place })).toEqual({ code: 1, stdout: "", stderr });
      expect(readdirSync(place)).toEqual([]);
    }
  } finally {
    full.close();
  }
});

// Only Unix has a device that is always full.
test.runIf(existsSync("/dev/full"))("results that cannot be written: one line, not a stack", () => {
  const full = openSync("/dev/full", "w");
  const { status, stderr } = spawnSync(process.execPath, [binary, "inspect", transformer], {
    stdio: ["ignore", full, "pipe"],
    encoding: "utf8",
  });
  closeSync(full);
  expect({ status, stderr }).toEqual({
    status: 1,
    stderr: "wick: standard output: no space is left on the disk; free some, or choose another disk\n",
  });
});

test.skipIf(process.platform === "win32")("a second Ctrl-C ends a command that does not stop (Windows has no such signals)", async () => {
  const script = fileURLToPath(new URL("deaf-command.ts", import.meta.url));
  const child = spawn(process.execPath, ["--conditions=@wick/source", "--import", "tsx", script], { stdio: ["ignore", "ignore", "pipe"] });
  const ended = once(child, "exit");
  const heard: string[] = [];
  for await (const text of child.stderr.setEncoding("utf8")) {
    heard.push(String(text).trim());
    child.kill("SIGINT");
  }
  expect(heard).toEqual(["running", "asked to stop"]);
  expect(await ended).toEqual([130, null]);
});
