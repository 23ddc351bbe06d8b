// wick generate, as a user runs it: the picture, its record, and every way it can go wrong.
import { createHash } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { decodePng, encodePng, readPngText } from "@wick/image";
import { afterAll, describe, expect, test } from "vitest";
import { openSession, temporaryFolder, wick as wickProcess } from "./cli-process.ts";

const session = openSession();
const { wick } = session;
const folder = temporaryFolder();
let runs = 0;
afterAll(() => {
  session.close();
  folder.remove();
});

/** A new folder for a test. */
function newFolder(): string {
  const path = join(folder.path, String(runs++));
  mkdirSync(path);
  return path;
}

const quick = ["--device", "cpu", "--steps", "1"];
const sha256 = (file: string) => createHash("sha256").update(readFileSync(file)).digest("hex");

describe("a picture", () => {
  test("is written with a record of how it was made; the same command in another process gives the same bytes", async () => {
    const cwd = newFolder();
    const args = ["generate", "a", "red", "apple", ...quick, "--seed", "7", "--guidance", "2.5", "--negative", "a fox", "--json"];
    const [first, second] = await Promise.all([wick([...args, "-o", "a.png"], { cwd }), wickProcess([...args, "-o", "b.png"], { cwd })]);
    expect([first.code, second.code], first.stderr + second.stderr).toEqual([0, 0]);
    const { pictures } = JSON.parse(first.stdout);
    const png = readFileSync(join(cwd, "a.png"));
    const texts = readPngText(png);
    expect(decodePng(png)).toMatchObject({ width: 64, height: 64 });
    expect(pictures).toMatchObject([{ file: "a.png", record: { prompt: "a red apple", seed: "7", index: 0 } }]);
    expect(JSON.parse(texts["wick"]!)).toEqual(pictures[0].record);
    expect(pictures[0].record).toMatchObject({
      negativePrompt: "a fox",
      steps: 1,
      guidance: 2.5,
      rng: "torch-cpu",
      noiseDType: "f32",
      model: { name: "embedded", pipeline: "ZImagePipeline" },
      versions: { wick: "0.1.0", node: process.versions.node },
    });
    const weights = new URL("../../tiny-zimage/model/transformer/diffusion_pytorch_model.safetensors", import.meta.url).pathname;
    expect(pictures[0].record.model.files["transformer/diffusion_pytorch_model.safetensors"].sha256).toBe(sha256(weights));
    expect(texts["parameters"]).toBe(
      "a red apple\nNegative prompt: a fox\nSteps: 1, Sampler: euler, CFG scale: 2.5, Seed: 7, Size: 64x64, Model: embedded, Version: wick 0.1.0",
    );
    expect(sha256(join(cwd, "b.png"))).toBe(sha256(join(cwd, "a.png")));
    expect(readdirSync(cwd).sort()).toEqual(["a.png", "b.png"]);
  });

  test("gets a free name from its prompt, and several get numbers", async () => {
    const cwd = newFolder();
    writeFileSync(join(cwd, "a-fox-seed-0-1.png"), "mine");
    const { code, stdout } = await wick(["generate", "A fox!", ...quick, "--count", "2"], { cwd });
    expect(code).toBe(0);
    expect(stdout).toMatch(/^a-fox-seed-0-1-2\.png\na-fox-seed-0-2\.png\n64 x 64, 1 step, seed 0, embedded on cpu/);
    expect(readFileSync(join(cwd, "a-fox-seed-0-1.png"), "utf8")).toBe("mine");
    expect(sha256(join(cwd, "a-fox-seed-0-1-2.png"))).not.toBe(sha256(join(cwd, "a-fox-seed-0-2.png")));
  });

  test("of a prompt the embedded model does not know comes with a warning and the nearest names", async () => {
    const cwd = newFolder();
    const { code, stdout, stderr } = await wick(["generate", "a red aple", ...quick, "--json"], { cwd });
    expect(code).toBe(0);
    expect(stderr).toContain(
      'warning: the embedded model draws 532 emoji and "a red aple" is not one of them; the nearest are "red apple"',
    );
    expect(JSON.parse(stdout).warnings).toHaveLength(1);
  });

  test("is made without a word under --quiet", async () => {
    const cwd = newFolder();
    const { code, stdout, stderr } = await wick(["generate", "a fox", ...quick, "-q", "-o", "fox.png"], { cwd });
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: "", stderr: "" });
    expect(existsSync(join(cwd, "fox.png"))).toBe(true);
  });
});

/** Runs that must fail: the arguments, the exit code, the one line. */
const failures: readonly [string, readonly string[], number, RegExp][] = [
  ["an unknown command", ["generat", "a fox"], 2, /^wick: unknown command 'generat' \(Did you mean generate\?\); see wick --help\n$/],
  [
    "an unknown option",
    ["generate", "a fox", "--step", "2"],
    2,
    /^wick: unknown option '--step' \(Did you mean --steps\?\); see wick generate --help\n$/,
  ],
  ["an option without its value", ["generate", "a fox", "--seed"], 2, /^wick: option '--seed <number>' argument missing; see/],
  [
    "a value out of range",
    ["generate", "a fox", "--steps", "0"],
    2,
    /^wick: .*argument '0' is invalid: a whole number in 1…1000 is needed; see/,
  ],
  [
    "a size the model cannot make",
    ["generate", "a fox", "--width", "70"],
    2,
    /^wick: generate: width is a multiple of 16, got 70; try 64\n$/,
  ],
  [
    "an unknown device",
    ["generate", "a fox", "--device", "gpu"],
    2,
    /^wick: .*'gpu' is invalid\. Allowed choices are auto, cpu, webgpu; see/,
  ],
  ["an unknown solver", ["generate", "a fox", "--solver", "ddim"], 2, /^wick: generate: unknown solver "ddim"; known are euler/],
  ["no prompt", ["generate"], 2, /^wick: the prompt is empty; say what to draw, such as wick generate "a red apple"\n$/],
  [
    "Redux with a model that is not FLUX",
    ["generate", "a fox", "--redux", "square.png"],
    2,
    /^wick: --redux is for FLUX; name such a model, as in --model black-forest-labs\/FLUX\.1-dev\n$/,
  ],
  [
    "a place of Redux without a picture",
    ["generate", "a fox", "--redux-model", "./redux"],
    2,
    /^wick: --redux-model needs --redux: a picture to vary\n$/,
  ],
  [
    "Redux as the model",
    ["generate", "a fox", "-m", "./redux"],
    1,
    /^wick: \.\/redux varies pictures for another model; use --model black-forest-labs\/FLUX\.1-dev --redux PICTURE --redux-model \.\/redux\n$/,
  ],
  ["a picture of Redux that is not there", ["generate", "--redux", "no.png"], 1, /^wick: .*no\.png/],
  [
    "an output that is not PNG",
    ["generate", "a fox", "-o", "fox.jpg"],
    2,
    /^wick: --out fox\.jpg does not end in \.png; pictures are written as PNG\n$/,
  ],
  [
    "an output folder that is not there",
    ["generate", "a fox", "-o", "no/fox.png"],
    1,
    /^wick: cannot write no\/fox\.png: there is no folder .*no; create it/,
  ],
  [
    "an output below a file",
    ["generate", "a fox", "-o", "file/fox.png"],
    1,
    /^wick: cannot write file\/fox\.png: .*file is not a folder; choose another --out\n$/,
  ],
  [
    "an output that is a folder",
    ["generate", "a fox", "-o", "folder.png"],
    1,
    /^wick: cannot write folder\.png: it is a folder; give the name of a file in it\n$/,
  ],
  [
    "a model that is not there",
    ["generate", "a fox", "-m", "./no-model"],
    1,
    /^wick: localFolder: no such file or folder: .*no-model; check the path\n$/,
  ],
  [
    "a name that is no model",
    ["generate", "a fox", "-m", "a b c"],
    1,
    /^wick: a b c: no such file or folder, and a repository is written org\/name; check the name\n$/,
  ],
  [
    "a folder that is no model",
    ["generate", "a fox", "-m", "folder.png"],
    1,
    /^wick: folder\.png has no model_index\.json and no file of FLUX\.1 or Z-Image; give a repository or folder in diffusers layout/,
  ],
  [
    "a model of another kind",
    ["generate", "a fox", "-m", "./other"],
    1,
    /^wick: \.\/other is a StableDiffusionPipeline, which is not supported; supported are ZImagePipeline/,
  ],
  [
    "a repository that is not downloaded, offline",
    ["generate", "a fox", "-m", "org/name", "--offline"],
    1,
    /^wick: huggingFace: org\/name@main is not in the cache .*; download it once while online/,
  ],
  ["no network", ["generate", "a fox", "-m", "org/name", "--retries", "0"], 1, /^wick: .*org\/name.*;.*\n$/],
];

describe("one line, the right exit code and no file after", () => {
  test.each(failures)("%s", async (_, args, code, line) => {
    const cwd = newFolder();
    mkdirSync(join(cwd, "folder.png"));
    mkdirSync(join(cwd, "other"));
    writeFileSync(join(cwd, "file"), "");
    writeFileSync(join(cwd, "square.png"), encodePng({ width: 1, height: 1, rgb: Uint8Array.of(1, 2, 3) }));
    mkdirSync(join(cwd, "redux"));
    writeFileSync(join(cwd, "redux", "model_index.json"), '{"_class_name": "FluxPriorReduxPipeline"}');
    writeFileSync(join(cwd, "other", "model_index.json"), '{"_class_name": "StableDiffusionPipeline"}');
    const env = { HF_ENDPOINT: "http://127.0.0.1:9", HF_HOME: join(cwd, "cache") };
    const outcome = await wick([args[0]!, "--json", ...args.slice(1)], { cwd, env });
    expect(outcome.stderr).toMatch(line);
    expect(outcome.code).toBe(code);
    expect(JSON.parse(outcome.stdout).error).toEqual({ message: outcome.stderr.slice("wick: ".length, -1), exitCode: code });
    expect(
      readdirSync(cwd)
        .filter((name) => name !== "cache")
        .sort(),
    ).toEqual(["file", "folder.png", "other", "redux", "square.png"]);
  });
});

test.skipIf(process.getuid?.() === 0)("an output folder without permission (not tested as root, who may write anywhere)", async () => {
  const cwd = newFolder();
  chmodSync(cwd, 0o500);
  const { code, stderr } = await wick(["generate", "a fox", ...quick, "-o", "fox.png"], { cwd });
  expect({ code, stderr }).toMatchObject({ code: 1, stderr: expect.stringContaining("is not writable for you; choose another --out") });
});

test("Ctrl-C stops between blocks and leaves no file; nothing else that goes on keeps the process", async () => {
  const cwd = newFolder();
  let sent = 0;
  const stop = (text: string, kill: (signal: NodeJS.Signals) => void) => {
    if (sent || !text.includes("step 1/")) return;
    sent = Date.now();
    kill("SIGINT");
  };
  const env = { NODE_OPTIONS: '--import "data:text/javascript,setInterval(() => {}, 1000)"' };
  const args = ["generate", "a fox", "--device", "cpu", "--steps", "500", "-o", "fox.png"];
  const outcome = await wickProcess(args, { cwd, env, onStderr: stop });
  expect(outcome.code).toBe(130);
  expect(outcome.stderr).toMatch(/\nwick: stopped; no file was left behind\n$/);
  expect(Date.now() - sent).toBeLessThan(2000);
  expect(readdirSync(cwd)).toEqual([]);
});
