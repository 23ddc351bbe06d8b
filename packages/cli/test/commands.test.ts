// The commands beside generate, as a user runs them, each with its ways to fail.
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { decodePng, encodePng } from "@wick/image";
import { cpu, DeviceError, type DeviceErrorReason, memorySink, writeSafetensors } from "@wick/tensor";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CliError } from "../src/cli-error.ts";
import { lackOf } from "../src/commands/doctor.ts";
import { CommandDevice, gpuFailureText, hiddenDrivers, isUnusableGpu } from "../src/open-device.ts";
import { previewFor } from "../src/preview-kinds.ts";
import { openSession, temporaryFolder } from "./cli-process.ts";

const session = openSession();
const { wick } = session;
const folder = temporaryFolder();
const cwd = folder.path;
const model = fileURLToPath(new URL("../../tiny-zimage/model", import.meta.url));
const transformer = join(model, "transformer");
afterAll(() => {
  session.close();
  folder.remove();
});

/** A safetensors file of f32 vectors. */
async function writeTensors(name: string, tensors: Readonly<Record<string, readonly number[]>>): Promise<void> {
  const sink = memorySink();
  await writeSafetensors(
    sink,
    Object.entries(tensors).map(([key, values]) => ({
      name: key,
      dtype: "f32",
      shape: [values.length],
      bytes: () => [new Uint8Array(Float32Array.from(values).buffer)],
    })),
  );
  writeFileSync(join(cwd, name), sink.bytes());
}

beforeAll(async () => {
  await writeTensors("a.safetensors", { first: [1, 2, 2], second: [3, 4], third: [1] });
  await writeTensors("b.safetensors", { first: [1, 2, 2], second: [3, 5], third: [1.000001] });
  await writeTensors("c.safetensors", { first: [1, 2], other: [1] });
  writeFileSync(join(cwd, "cut.safetensors"), readFileSync(join(cwd, "a.safetensors")).subarray(0, 100));
  writeFileSync(join(cwd, "page.safetensors"), "<!doctype html><html>please log in</html>");
  writeFileSync(join(cwd, "plain.png"), encodePng({ width: 1, height: 1, rgb: new Uint8Array(3) }));
  writeFileSync(join(cwd, "later.png"), encodePng({ width: 1, height: 1, rgb: new Uint8Array(3) }, { text: { wick: '{"format":2}' } }));
  const record = { format: 1, prompt: "a fox", seed: "x", count: 1, index: 0, model: { name: "embedded" }, device: { kind: "cpu" } };
  writeFileSync(
    join(cwd, "seedless.png"),
    encodePng({ width: 1, height: 1, rgb: new Uint8Array(3) }, { text: { wick: JSON.stringify(record) } }),
  );
  writeFileSync(join(cwd, "cut.png"), readFileSync(join(cwd, "plain.png")).subarray(0, 40));
  mkdirSync(join(cwd, "empty"));
  mkdirSync(join(cwd, "shards"));
  for (const i of [1, 3])
    writeFileSync(join(cwd, `shards/m-0000${i}-of-00003.safetensors`), readFileSync(join(cwd, `${i === 1 ? "a" : "c"}.safetensors`)));
});

describe("wick", () => {
  test("teaches by example, for every command", async () => {
    const main = await wick(["--help"]);
    expect(main.code).toBe(0);
    expect(main.stdout).toContain('wick generate "a red apple"');
    expect(main.stdout).toContain("Exit codes: 0 done, 1 failed, 2 wrong usage, 3 compared and found different, 130 stopped by Ctrl-C.");
    const names = [...main.stdout.matchAll(/^ {2}([a-z]+)[ |]/gm)]
      .map(([, name]) => name!)
      .filter((name) => name !== "help" && name !== "wick");
    expect(names).toEqual(["generate", "reproduce", "inspect", "convert", "compare", "bench", "doctor", "completion"]);
  });

  test("alone shows the help", async () => {
    const [alone, help] = [await wick([]), await wick(["--help"])];
    expect(alone).toEqual(help);
  });

  test("names the adapters there are when --adapter fits none", () => {
    const detail = 'no adapter is called "GeForce"; the option "adapter" takes a part of llvmpipe (LLVM 15.0.6, 256 bits)';
    expect(gpuFailureText(new DeviceError("webgpu", "unknown-adapter", detail))).toBe(
      'no adapter is called "GeForce"; --adapter takes a part of llvmpipe (LLVM 15.0.6, 256 bits)',
    );
    expect(gpuFailureText(new Error("anything else"))).toBe("anything else");
  });

  test("goes on without a card that cannot be used, and reports a wrong option", () => {
    const wrapped = (reason: DeviceErrorReason) =>
      new CliError("no WebGPU device", 1, { cause: new DeviceError("webgpu", reason, "why; what to do") });
    for (const reason of ["no-dawn", "dawn-failed", "no-adapter", "no-device", "wrong-results", "lost"] as const)
      expect(isUnusableGpu(wrapped(reason))).toBe(true);
    for (const reason of ["bad-option", "unknown-adapter"] as const) expect(isUnusableGpu(wrapped(reason))).toBe(false);
    expect(isUnusableGpu(new Error("a fault of our own"))).toBe(false);
  });

  test("doctor says what is missing, by the reason of the device's error", () => {
    const said = (reason: DeviceErrorReason): string => {
      const { what, remedy } = lackOf(new CliError("x", 1, { cause: new DeviceError("webgpu", reason, "what is wrong; what to do") }));
      return `${what}: ${remedy}`;
    };
    expect(said("no-dawn")).toMatch(/^Dawn, the WebGPU implementation for Node: npm install webgpu \(it is optional/);
    expect(said("dawn-failed")).toBe("a Dawn that starts: npm install webgpu again, on this system; the CPU works without (what is wrong)");
    expect(said("wrong-results")).toBe("a driver that computes right: update it; the CPU works without (what is wrong)");
    expect(said("unknown-adapter")).toBe("a GPU as asked for: what is wrong; what to do");
    expect(said("no-adapter")).toMatch(
      /^a (GPU|WebGPU adapter, although there is a graphics card): .*the CPU works without \(what is wrong\)$/,
    );
  });

  test("looks at hardware only where there is some, unless the user has chosen drivers", () => {
    expect(hiddenDrivers("linux", { PATH: "/bin" })).toEqual({ VK_LOADER_DRIVERS_DISABLE: "*lvp_icd*" });
    expect(hiddenDrivers("linux", { VK_DRIVER_FILES: "/usr/share/vulkan/icd.d/lvp_icd.x86_64.json" })).toEqual({});
    expect(hiddenDrivers("darwin", {})).toEqual({});
  });

  test("leaves its device to the end of the process after Ctrl-C: destroying it would wait for what it computes", () => {
    const stop = new AbortController();
    const device = cpu();
    for (const isDestroyed of [false, true]) {
      if (!isDestroyed) stop.abort();
      new CommandDevice(device, isDestroyed ? new AbortController().signal : stop.signal)[Symbol.dispose]();
      if (isDestroyed) expect(() => device.ones([1])).toThrow("the device was destroyed");
      else device.ones([1]).dispose();
    }
  });

  test("completes commands and options in bash", async () => {
    const { stdout } = await wick(["completion", "bash"]);
    const ask = (...words: string[]) =>
      execFileSync(
        "bash",
        [
          "--norc",
          "-c",
          `${stdout}\nCOMP_WORDS=(${words.join(" ")} ""); COMP_CWORD=$(( \${#COMP_WORDS[@]} - 1 )); COMP_WORDS[COMP_CWORD]="$LAST"; _wick; echo "\${COMPREPLY[*]}"`,
        ],
        {
          encoding: "utf8",
          env: { LAST: last, PATH: process.env["PATH"] },
        },
      ).trim();
    let last = "ge";
    expect(ask("wick")).toBe("generate");
    last = "--gui";
    expect(ask("wick", "generate")).toBe("--guidance");
    last = "";
    expect(ask("wick", "generate", "--device")).toBe("auto cpu webgpu");
    expect(ask("wick", "generate", "--matmul-precision")).toBe("highest high");
    expect(ask("wick", "completion")).toBe("bash zsh fish");
  });
});

test("NO_COLOR turns pictures of characters off unless they are asked for", () => {
  expect(previewFor("auto", {})).toBe("auto");
  expect(previewFor("auto", { NO_COLOR: "" })).toBe("auto");
  expect(previewFor("auto", { NO_COLOR: "1" })).toBe("off");
  expect(previewFor("blocks", { NO_COLOR: "1" })).toBe("blocks");
});

test("completion scripts for zsh and fish name every command", async () => {
  const [zsh, fish] = await Promise.all([wick(["completion", "zsh"]), wick(["completion", "fish"])]);
  for (const name of ["generate", "inspect", "doctor"]) {
    expect(zsh.stdout).toContain(`    ${name}) _arguments `);
    expect(fish.stdout).toContain(`complete -c wick -n __fish_use_subcommand -a ${name} -d `);
  }
  expect(zsh.stdout).toMatch(/'--out\[[^']*\]:value:_files'.*\n {4}reproduce\)/);
  expect(zsh.stdout).toContain("    completion) _arguments '1:what:(bash zsh fish)' ;;");
  expect(fish.stdout).toMatch(/-s o -l out -d '[^\n]*' -r\n/);
});

/** Zeros under these names, as a trainer might write them. */
async function writeZeros(file: string, shapes: Readonly<Record<string, readonly number[]>>): Promise<void> {
  const sink = memorySink();
  const zeros = (shape: readonly number[]) => () => [new Uint8Array(4 * shape.reduce((a, b) => a * b, 1))];
  await writeSafetensors(
    sink,
    Object.entries(shapes).map(([name, shape]) => ({ name, dtype: "f32" as const, shape, bytes: zeros(shape) })),
  );
  writeFileSync(join(cwd, file), sink.bytes());
}

describe("inspect, of adapters as trainers write them", () => {
  const kohya = "lora_unet_double_blocks_3_img_attn_qkv";
  test.each([
    [
      "kohya's for FLUX.1",
      { [`${kohya}.lora_down.weight`]: [4, 3072], [`${kohya}.lora_up.weight`]: [9216, 4], [`${kohya}.alpha`]: [], lora_te1_x: [1] },
      { kinds: ["LoRA"], ranks: [4], model: "FLUX.1", targets: 1, unused: 1 },
    ],
    [
      "PEFT's for Z-Image",
      { "transformer.layers.2.attention.to_q.lora_A.weight": [8, 3840], "transformer.layers.2.attention.to_q.lora_B.weight": [3840, 8] },
      { kinds: ["LoRA"], ranks: [8], model: "Z-Image", targets: 1, unused: 0 },
    ],
    [
      "LoHa",
      { "lora_unet_x.hada_w1_a": [8, 4], "lora_unet_x.hada_w1_b": [4, 8] },
      { kinds: ["LoHa"], ranks: [4], model: undefined, targets: 0, unused: 2 },
    ],
  ] as const)("%s", async (_, shapes, adapter) => {
    await writeZeros("adapter.safetensors", shapes);
    const { stdout } = await wick(["inspect", "adapter.safetensors", "--json"], { cwd });
    const facts = JSON.parse(stdout);
    // A header of 384 bytes begins with the 0x80 of a pickle.
    expect([facts.format, facts.architecture]).toEqual(["safetensors", "adapter (LoRA)"]);
    expect(facts.adapter).toEqual(JSON.parse(JSON.stringify(adapter)));
    const text = (await wick(["inspect", "adapter.safetensors"], { cwd })).stdout;
    expect(text).toMatch(adapter.model ? new RegExp(`made for +${adapter.model}: 1 weights`) : /LoHa, rank 4; LoHa is not read/);
  });
});

describe("inspect", () => {
  test("a checkpoint: format, architecture, parameters, memory", async () => {
    const { code, stdout } = await wick(["inspect", transformer, "--json", "--tensors", "layers.0.attention.to_*"], { cwd });
    expect(code).toBe(0);
    const facts = JSON.parse(stdout);
    expect(facts).toMatchObject({ architecture: "Z-Image", dialect: "z-image", tensors: 133, dtypes: { BF16: 133 } });
    expect(facts.bytes).toBe(2 * facts.parameters);
    expect(facts.memory.bf16).toBe(facts.bytes);
    expect(facts.memory.q8_0).toBeLessThan(0.65 * facts.bytes);
    expect(facts.tensorList.map((t: { name: string }) => t.name)).toEqual(
      ["k", "out.0", "q", "v"].map((n) => `layers.0.attention.to_${n}.weight`),
    );
  });

  test("names with control characters, which a terminal would obey, are shown", async () => {
    await writeTensors("evil.safetensors", { "a\x1b[31m\nb": [1] });
    const { stdout } = await wick(["inspect", "evil.safetensors", "--tensors"], { cwd });
    expect(stdout).toContain("a\\x1b[31m\\nb  F32  [1]\n");
  });

  test("a folder in diffusers layout, part by part", async () => {
    const { code, stdout } = await wick(["inspect", model], { cwd });
    expect(code).toBe(0);
    expect(stdout).toMatch(/pipeline +ZImagePipeline\n/);
    expect(stdout).toMatch(/transformer +Z-Image +8\.80 M +17\.6 MB/);
    expect(stdout).toMatch(/text_encoder +Qwen3 text encoder/);
  });
});

describe("convert", () => {
  test("writes another format and number format, and compare measures what was lost", async () => {
    const converted = await wick(["convert", transformer, "t.gguf", "--dtype", "q8_0", "--json"], { cwd });
    expect(converted.code, converted.stderr).toBe(0);
    expect(JSON.parse(converted.stdout)).toMatchObject({ file: "t.gguf", tensors: 133 });
    expect((await wick(["inspect", "t.gguf"], { cwd })).stdout).toMatch(/format +GGUF\n.+\n.+Q8_0/);
    const compared = await wick(["compare", "t.gguf", transformer, "--json"], { cwd });
    expect(compared.code).toBe(3);
    const worst = Math.max(...JSON.parse(compared.stdout).differences.map((d: { relativeL2: number }) => d.relativeL2));
    expect(worst).toBeGreaterThan(1e-3);
    expect(worst).toBeLessThan(1e-2);
    expect((await wick(["compare", "t.gguf", transformer, "--tolerance", "0.01", "-q"], { cwd })).code).toBe(0);
  });

  test("makes a Z-Image file that draws, with companions, and is told from an unknown one", async () => {
    const draw = ["generate", "a fox", "--device", "cpu", "-W", "64", "-H", "64", "--steps", "2", "-q", "-m"];
    expect((await wick(["convert", transformer, "fused.gguf", "--layout", "fused"], { cwd })).code).toBe(0);
    const alone = await wick([...draw, "fused.gguf", "-o", "x.png"], { cwd });
    expect(alone).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/^wick: zImage: .*fused\.gguf is a transformer alone; pass --companions: /),
    });
    expect(await wick([...draw, "fused.gguf", "--companions", model, "-o", "single.png"], { cwd })).toMatchObject({ code: 0, stderr: "" });
    expect((await wick([...draw, model, "-o", "folder.png"], { cwd })).code).toBe(0);
    const [single, whole] = ["single.png", "folder.png"].map((name) => decodePng(readFileSync(join(cwd, name))).rgb);
    expect(single).toEqual(whole);
    expect((await wick(["reproduce", "single.png"], { cwd })).stdout).toMatch(/^single\.png: identical, byte for byte/);
    const unknown = await wick([...draw, "a.safetensors", "-o", "x.png"], { cwd });
    expect(unknown.stderr).toMatch(/^wick: a\.safetensors has no model_index\.json and no file of FLUX\.1 or Z-Image; /);
  });

  test("renames into another layout and back without a change, and compare sees through layouts", async () => {
    const vae = join(model, "vae");
    expect((await wick(["convert", vae, "bfl.safetensors", "--layout", "black-forest-labs"], { cwd })).code).toBe(0);
    expect((await wick(["inspect", "bfl.safetensors"], { cwd })).stdout).toContain("AutoencoderKL (black-forest-labs layout)");
    const { code, stdout } = await wick(["compare", "bfl.safetensors", vae, "--tolerance", "0"], { cwd });
    expect({ code, stdout }).toMatchObject({ code: 0, stdout: expect.stringMatching(/^\d+ tensors agree within 0 \(relative L2\)\n$/) });
  });
});

describe("compare", () => {
  test("finds the first tensor that diverges, with relative L2, max abs and its place", async () => {
    const { code, stdout } = await wick(["compare", "b.safetensors", "a.safetensors", "--json"], { cwd });
    expect(code).toBe(3);
    expect(JSON.parse(stdout)).toMatchObject({
      compared: 3,
      onlyLeft: [],
      onlyRight: [],
      firstDivergence: { name: "second", relativeL2: 0.2, maxAbs: 1, maxAt: 1 },
    });
  });

  test("reports other shapes and names that are on one side only", async () => {
    const { code, stdout } = await wick(["compare", "a.safetensors", "c.safetensors"], { cwd });
    expect(code).toBe(3);
    expect(stdout).toContain("first   shapes [3] and [2]");
    expect(stdout).toContain("only in the first: second, third\nonly in the second: other\n");
  });
});

describe("reproduce", () => {
  test("makes the same bytes again, and says what is different when something is", async () => {
    const settings = ["--device", "cpu", "--steps", "1", "--count", "2", "--matmul-precision", "high"];
    const made = await wick(["generate", "a fox", ...settings, "-o", "fox.png", "-q"], { cwd });
    expect(made.code).toBe(0);
    const again = await wick(["reproduce", "fox-2.png", "--json", "-o", "again.png"], { cwd });
    expect(JSON.parse(again.stdout)).toMatchObject({ sameBytes: true, samePixels: true, changes: [] });
    expect(again.code).toBe(0);
    expect(readFileSync(join(cwd, "again.png"))).toEqual(readFileSync(join(cwd, "fox-2.png")));
    // The CPU has one precision: the pixels are the same, the record is not.
    const exact = await wick(["reproduce", "fox-2.png", "--json", "--matmul-precision", "highest"], { cwd });
    expect(JSON.parse(exact.stdout)).toMatchObject({ sameBytes: false, samePixels: true, changes: ["matmul precision (high)"] });
    const picture = readFileSync(join(cwd, "fox-2.png"));
    const { text, ...image } = decodePng(picture);
    image.rgb[0]! ^= 4;
    writeFileSync(join(cwd, "touched.png"), encodePng(image, { text }));
    const touched = await wick(["reproduce", "touched.png"], { cwd });
    expect(touched.stdout).toMatch(/^touched\.png: 1 pixels differ, by at most 4 of 255 \(PSNR [\d.]+ dB\)/);
    expect(touched.code).toBe(3);
  });
});

describe("a picture made from a picture", () => {
  test("is made again from its record, unless the picture it started from has changed", async () => {
    const args = ["--device", "cpu", "--steps", "2", "--init", "start.png", "--mask", "mask.png", "--strength", "0.5"];
    writeFileSync(join(cwd, "start.png"), encodePng({ width: 20, height: 10, rgb: new Uint8Array(600).fill(90) }));
    writeFileSync(join(cwd, "mask.png"), encodePng({ width: 2, height: 1, rgb: Uint8Array.of(0, 0, 0, 255, 255, 255) }));
    expect((await wick(["generate", "a fox", ...args, "-o", "changed.png", "-q"], { cwd })).code).toBe(0);
    expect((await wick(["reproduce", "changed.png"], { cwd })).stdout).toMatch(/^changed\.png: identical, byte for byte/);
    writeFileSync(join(cwd, "start.png"), encodePng({ width: 20, height: 10, rgb: new Uint8Array(600).fill(91) }));
    const { code, stderr } = await wick(["reproduce", "changed.png"], { cwd });
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: "wick: start.png is not the file it was when the picture was made; bring that file back and run again\n",
    });
  });
});

test("bench reports times as figures, and with --profile where they go", async () => {
  const { code, stdout } = await wick(
    ["bench", "--device", "cpu", "--steps", "1", "--runs", "1", "--json", "-q", "--profile", "trace.json"],
    {
      cwd,
    },
  );
  expect(code).toBe(0);
  const figures = JSON.parse(stdout);
  expect(figures).toMatchObject({ picture: { width: 64, height: 64, steps: 1 }, device: { kind: "cpu" }, model: { name: "embedded" } });
  expect(figures.medianMillis).toBe(figures.warmMillis[0]);
  expect(figures.coldMillis).toBeGreaterThan(0);
  expect(figures.peakDeviceBytes).toBeGreaterThan(20e6);
  const { modules, ops, deviceMs } = figures.profile;
  expect(modules.map((m: { path: string }) => m.path)).toEqual(
    expect.arrayContaining(["text_encoder.embed_tokens", "transformer.layers.0", "vae.decoder"]),
  );
  expect(ops[0].elapsedMs).toBeLessThan(deviceMs);
  expect(JSON.parse(readFileSync(join(cwd, "trace.json"), "utf8")).traceEvents.length).toBeGreaterThan(100);
});

test("doctor tries the CPU, and says of everything that is missing how to get it", async () => {
  const env = { HF_HOME: join(cwd, "empty"), TRANSFORMERS_OFFLINE: "1", HUGGING_FACE_HUB_TOKEN: "hf_x" };
  const { code, stdout } = await wick(["doctor", "--json"], { cwd, env });
  expect(code).toBe(0);
  const report = JSON.parse(stdout);
  expect(report.machine).toMatchObject({ wick: "0.1.0", node: process.versions.node });
  expect(report.cpu.productError).toBeLessThan(1e-5);
  expect(report.cache).toMatchObject({ folder: join(cwd, "empty", "hub"), exists: false, isWritable: true });
  // The older names of the Python library's variables count as they do for downloads.
  expect(report.cache).toMatchObject({ endpoint: "https://huggingface.co", offline: true, hasToken: true });
  for (const lack of report.lacks) expect(lack).toEqual({ what: expect.stringMatching(/./), remedy: expect.stringMatching(/./) });
  if (!report.gpu || report.gpu.software) expect(report.lacks).not.toEqual([]);
});

/** Runs that must fail: the arguments, the exit code, the one line. */
const failures: readonly [string, readonly string[], number, RegExp][] = [
  [
    "inspect a file that is not there",
    ["inspect", "no.safetensors"],
    1,
    /^wick: no\.safetensors: no such file or folder; check the path\n$/,
  ],
  ["inspect a cut file", ["inspect", "cut.safetensors"], 1, /^wick: openSafetensors: .*cut\.safetensors.*\n$/],
  ["inspect a web page", ["inspect", "page.safetensors"], 1, /^wick: openWeights: a web page, not a checkpoint \(a failed download\?\)/],
  [
    "inspect an empty folder",
    ["inspect", "empty"],
    1,
    /^wick: empty has no \.safetensors files; name a file, or the folder of one model part/,
  ],
  [
    "inspect without network",
    ["inspect", "org/name", "--retries", "0"],
    1,
    /^wick: .*org\/name.*; check .*, or add --offline to use the cache only\n$/,
  ],
  [
    "inspect offline what was not downloaded",
    ["inspect", "org/name", "--offline"],
    1,
    /^wick: huggingFace: org\/name@main is not in the cache .*; download it once while online, or point HF_HOME or --cache-dir at a cache that has it\n$/,
  ],
  [
    "draw with a folder that is not there",
    ["generate", "a fox", "-m", "my-model"],
    1,
    /^wick: my-model: no such file or folder, and a repository is written org\/name; check the name\n$/,
  ],
  ["inspect nothing", ["inspect"], 2, /^wick: missing required argument 'what'; see wick inspect --help\n$/],
  [
    "convert to an unknown format",
    ["convert", "a.safetensors", "a.bin"],
    2,
    /^wick: a\.bin: the ending names the format; use one of \.safetensors, \.gguf, \.npz\n$/,
  ],
  [
    "multiply at an unknown precision",
    ["generate", "a fox", "--matmul-precision", "medium"],
    2,
    /^wick: option '--matmul-precision <name>' argument 'medium' is invalid\. Allowed choices are highest, high; see wick generate --help\n$/,
  ],
  [
    "convert blocks into safetensors",
    ["convert", "a.safetensors", "x.safetensors", "--dtype", "q8_0"],
    2,
    /cannot hold q8_0 blocks; write a \.gguf\n$/,
  ],
  [
    "convert blocks into a format without them",
    ["convert", "t.gguf", "x.npz"],
    2,
    /^wick: t\.gguf holds q8_0 blocks, which \.npz cannot; add --dtype f32, or write a \.gguf\n$/,
  ],
  [
    "convert to a folder that is not there",
    ["convert", "a.safetensors", "no/x.gguf"],
    1,
    /^wick: cannot write no\/x\.gguf: there is no folder/,
  ],
  [
    "convert a file that is not there",
    ["convert", "no.safetensors", "x.gguf"],
    1,
    /^wick: no\.safetensors: no such file or folder; check the path\n$/,
  ],
  [
    "convert to an unknown layout",
    ["convert", transformer, "x.safetensors", "--layout", "kohya"],
    2,
    /^wick: Z-Image has no layout kohya; known are z-image/,
  ],
  [
    "convert an unknown model to a layout",
    ["convert", "a.safetensors", "x.safetensors", "--layout", "kohya"],
    1,
    /is not a model whose layouts are known; leave out --layout/,
  ],
  ["merge an adapter that does not fit", ["convert", transformer, "x.safetensors", "--lora", "a.safetensors"], 1, /^wick: .*;?.*\n$/],
  [
    "compare with a file that is not there",
    ["compare", "a.safetensors", "no.npz"],
    1,
    /^wick: no\.npz: no such file or folder; check the path\n$/,
  ],
  [
    "compare files without a name in common",
    ["compare", "a.safetensors", transformer],
    1,
    /have no tensor name in common: first against .*; rename one with wick convert --layout\n$/,
  ],
  ["reproduce a file that is not there", ["reproduce", "no.png"], 1, /^wick: no\.png: no such file or folder; check the path\n$/],
  [
    "reproduce a picture without a record",
    ["reproduce", "plain.png"],
    1,
    /^wick: plain\.png has no record of how it was made; only pictures that wick generate wrote have one\n$/,
  ],
  [
    "reproduce a record of a later version",
    ["reproduce", "later.png"],
    1,
    /^wick: the record in later\.png is damaged or of another version; make the picture again/,
  ],
  [
    "inspect a repository whose revision is given twice",
    ["inspect", "org/model@main", "--revision", "v1"],
    2,
    /^wick: the revision is given twice: org\/model@main and --revision v1\n$/,
  ],
  [
    "reproduce with a Redux what had none",
    ["reproduce", "fox-2.png", "--redux-model", "x"],
    2,
    /^wick: --redux-model: fox-2\.png was made without --redux; leave it out\n/,
  ],
  ["reproduce what is no picture", ["reproduce", "a.safetensors"], 1, /^wick: a\.safetensors: not a PNG file: it starts with .*\n$/],
  [
    "reproduce a record whose seed is none",
    ["reproduce", "seedless.png"],
    1,
    /^wick: the record in seedless\.png is damaged or of another version; make the picture again/,
  ],
  [
    "convert a file onto itself",
    ["convert", "a.safetensors", "./a.safetensors"],
    2,
    /^wick: the output is the input: \.\/a\.safetensors; choose another output\n$/,
  ],
  ["bench with a trace in no folder", ["bench", "--profile", "no/trace.json"], 1, /create it, or choose another --profile\n$/],
  ["start from a folder", ["generate", "a fox", "--init", "empty"], 1, /^wick: empty: this is a folder; give the name of a file in it\n$/],
  ["start from a cut picture", ["generate", "a fox", "--init", "cut.png"], 1, /^wick: cut\.png: the file is cut: .*\n$/],
  [
    "a revision of the embedded model",
    ["generate", "a fox", "--revision", "v1"],
    2,
    /^wick: --revision is for repositories, which embedded is not; leave it out\n$/,
  ],
  [
    "a revision of a folder",
    ["generate", "a fox", "-m", model, "--revision", "v1"],
    2,
    /^wick: --revision is for repositories, which .* is not; leave it out\n$/,
  ],
  [
    "convert a folder that lacks a shard",
    ["convert", "shards", "x.safetensors"],
    1,
    /^wick: openSafetensors: a shard is missing: .*m-00002-of-00003\.safetensors, beside .*m-00001-of-00003\.safetensors; download the rest of the checkpoint\n$/,
  ],
  ["complete for an unknown shell", ["completion", "tcsh"], 2, /Allowed choices are bash, zsh, fish; see wick completion --help\n$/],
  ["bench without a run", ["bench", "--runs", "0"], 2, /a whole number in 1…1000 is needed; see wick bench --help\n$/],
];

describe("one line, the right exit code and no file after", () => {
  let before: string[] = [];
  beforeAll(() => {
    before = readdirSync(cwd);
  });
  afterAll(() => expect(readdirSync(cwd)).toEqual(before));

  test.each(failures)("%s", async (_, args, code, line) => {
    const env = { HF_ENDPOINT: "http://127.0.0.1:9", HF_HOME: join(cwd, "empty") };
    const outcome = await wick(args, { cwd, env });
    expect(outcome.stderr).toMatch(line);
    expect(outcome.stderr.match(/\n/g)).toHaveLength(1);
    expect(outcome).toMatchObject({ code, stdout: "" });
  });
});
