// The path of the released models, against a hub on this machine that serves their file lists: download, interruption, resume, offline.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { decodePng, encodePng } from "@wick/image";
import { type MockHub, startMockHub } from "@wick/testing/mock-hub";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openSession, temporaryFolder } from "./cli-process.ts";
import { fluxRedux, fluxSchnell, type RepositoryFiles, zImageTurbo } from "./released-repositories.ts";

const session = openSession();
const { wick } = session;
const folder = temporaryFolder();
let hub: MockHub;
beforeAll(async () => {
  hub = await startMockHub();
});
afterAll(async () => {
  await hub.close();
  session.close();
  folder.remove();
});

let schnell: Promise<RepositoryFiles> | undefined;
const fluxSchnellOnce = (): Promise<RepositoryFiles> => (schnell ??= fluxSchnell());

const released: readonly [string, string, () => Promise<RepositoryFiles>, string][] = [
  ["Tongyi-MAI/Z-Image-Turbo", "f32", zImageTurbo, "text_encoder/model-00001-of-00003.safetensors"],
  ["black-forest-labs/FLUX.1-schnell", "bf16", fluxSchnellOnce, "text_encoder_2/model-00001-of-00002.safetensors"],
];

describe.each(released)("%s", (name, noiseDType, files, large) => {
  const cwd = join(folder.path, name.replace("/", "-"));
  const size = ["--width", "32", "--height", "32", "--steps", "2", "--device", "cpu"];
  const args = ["generate", "a lighthouse in fog", "--model", name, ...size, "--retries", "0"];
  const run = (...more: string[]) => wick([...args, ...more], { cwd, env: { HF_ENDPOINT: hub.endpoint, HF_HOME: join(cwd, "cache") } });
  const asked = (from = 0) =>
    hub.requests.slice(from).filter((r) => r.method === "GET" && r.path.includes("safetensors") && !r.path.includes("index"));

  beforeAll(async () => {
    mkdirSync(cwd);
    hub.addRepo(name, { files: await files() });
  });

  let arrivedBytes = 0;

  test("a broken download says how to go on, and leaves no picture", async () => {
    hub.misbehave({ match: `cdn/${name}/-/${large}`, kind: "closeEarly", bytes: 100_000 });
    const { code, stderr } = await run("-o", "first.png");
    hub.behave();
    expect(stderr).toMatch(/\nwick: .*broke after \d+ of \d+ bytes; run again to resume\n$/);
    // On a busy machine the connection may break before all that was sent has arrived.
    arrivedBytes = Number(/broke after (\d+)/.exec(stderr)![1]);
    expect(arrivedBytes).toBeGreaterThan(0);
    expect(arrivedBytes).toBeLessThanOrEqual(100_000);
    expect(code).toBe(1);
  });

  test("the next run resumes it and ends in a picture, with download progress and the model in the record", async () => {
    const before = hub.requests.length;
    const { code, stdout, stderr } = await run("-o", "first.png", "--json");
    expect(code, stderr).toBe(0);
    expect(stderr).toMatch(/downloading .*: [\d.]+ k?M?B of [\d.]+ M?k?B/);
    expect(
      asked(before)
        .filter((r) => r.path.endsWith(large))
        .map((r) => r.range),
    ).toContain(`bytes=${arrivedBytes}-`);
    const { record } = JSON.parse(stdout).pictures[0];
    expect(record).toMatchObject({ width: 32, height: 32, steps: 2, noiseDType, model: { name, revision: hub.commit(name) } });
    expect(record.model.files[large].sha256).toMatch(/^[0-9a-f]{64}$/);
    expect(Object.keys(record.model.files).filter((path) => path.startsWith("transformer/")).length).toBeGreaterThanOrEqual(4);
    expect(decodePng(readFileSync(join(cwd, "first.png")))).toMatchObject({ width: 32, height: 32 });
  });

  test("offline it makes the same bytes from the cache, without a request, also as reproduce", async () => {
    const before = hub.requests.length;
    const { code, stderr } = await run("-o", "second.png", "--offline");
    expect(code, stderr).toBe(0);
    expect(readFileSync(join(cwd, "second.png"))).toEqual(readFileSync(join(cwd, "first.png")));
    const again = await wick(["reproduce", "second.png", "--offline"], { cwd, env: { HF_HOME: join(cwd, "cache") } });
    expect(again.stdout).toMatch(/^second\.png: identical, byte for byte/);
    expect(hub.requests.length).toBe(before);
  });

  test("within the least memory it asks for, it makes the same picture", async () => {
    const refused = await run("-o", "third.png", "--offline", "--max-memory", "1kB");
    expect(refused.stderr).toMatch(/wick: plan: \w+ needs .*, --max-memory is 0\.0 MiB: .* or --max-memory [\d.]+MB\n$/);
    expect(refused.stderr).not.toMatch(/DType|elsewhere|: true/);
    const [, enough] = / or --max-memory ([\d.]+MB)\n$/.exec(refused.stderr)!;
    const { code, stderr } = await run("-o", "third.png", "--offline", "--max-memory", enough!);
    expect(code, stderr).toBe(0);
    expect(decodePng(readFileSync(join(cwd, "third.png"))).rgb).toEqual(decodePng(readFileSync(join(cwd, "first.png"))).rgb);
  });

  test("inspect reads headers only", async () => {
    const before = hub.sentBytes();
    const env = { HF_ENDPOINT: hub.endpoint, HF_HOME: join(cwd, "empty") };
    const { code, stdout, stderr } = await wick(["inspect", name, "--json"], { cwd, env });
    expect(code, stderr).toBe(0);
    const report = JSON.parse(stdout);
    expect(report.revision).toBe(hub.commit(name));
    expect(report.parts.transformer.architecture).toMatch(/Z-Image|FLUX\.1 schnell/);
    expect(report.bytes).toBeGreaterThan(2e6);
    expect(hub.sentBytes() - before).toBeLessThan(0.3 * report.bytes);
  });
});

describe("pictures to vary", () => {
  const name = "black-forest-labs/FLUX.1-schnell";
  const cwd = join(folder.path, "redux");
  const env = { HF_HOME: join(cwd, "cache") };
  const args = ["--model", name, "--width", "32", "--height", "32", "--steps", "1", "--device", "cpu"];
  const wickHere = (command: readonly string[], more: Record<string, string> = {}) => wick(command, { cwd, env: { ...env, ...more } });
  const square = (value: number) => encodePng({ width: 5, height: 4, rgb: Uint8Array.from({ length: 60 }, (_, i) => (i * value) % 256) });

  beforeAll(async () => {
    mkdirSync(cwd);
    hub.addRepo(name, { files: await fluxSchnellOnce() });
    hub.addRepo("black-forest-labs/FLUX.1-Redux-dev", { files: await fluxRedux() });
    writeFileSync(join(cwd, "a.png"), square(7));
    writeFileSync(join(cwd, "b.png"), square(11));
  }, 60_000);

  test("without a prompt need no text encoders, and are in the record", async () => {
    const { code, stdout, stderr } = await wickHere(["generate", ...args, "--redux", "a.png", "--json"], { HF_ENDPOINT: hub.endpoint });
    expect(code, stderr).toBe(0);
    const { file, record } = JSON.parse(stdout).pictures[0];
    expect(file).toBe("picture-seed-0.png");
    expect(record).toMatchObject({ prompt: "", redux: [{ path: "a.png", scale: 1 }], reduxModel: "black-forest-labs/FLUX.1-Redux-dev" });
    expect(Object.keys(record.model.files).filter((path) => path.startsWith("text_encoder"))).toEqual([]);
    const redux = await wickHere(["inspect", "black-forest-labs/FLUX.1-Redux-dev", "--json"], { HF_ENDPOINT: hub.endpoint });
    expect(JSON.parse(redux.stdout).parts).toMatchObject({
      image_embedder: { architecture: "Redux image embedder" },
      image_encoder: { architecture: "SigLIP vision encoder" },
    });
    const again = await wickHere(["reproduce", file, "--offline"]);
    expect(again.stdout, again.stderr).toMatch(/^picture-seed-0\.png: identical, byte for byte/);
  });

  test("are read by a Redux, and the model by parts, that lie elsewhere by now", async () => {
    const write = (files: RepositoryFiles, folderOf: (path: string) => string) => {
      for (const [path, contents] of Object.entries(files)) {
        const to = join(cwd, folderOf(path), path);
        mkdirSync(dirname(to), { recursive: true });
        writeFileSync(to, contents);
      }
    };
    write(await fluxRedux(), () => "redux-here");
    write(await fluxSchnellOnce(), (path) => (/^(vae\/|ae\.)/.test(path) ? "vae-here" : "model-here"));
    rmSync(join(cwd, "cache", "hub"), { recursive: true });
    const moved = ["--model", "./model-here", "--companions", "./vae-here", "--redux-model", "./redux-here"];
    const reproduced = (options: readonly string[]) => wickHere(["reproduce", "picture-seed-0.png", "--offline", ...options]);
    expect((await reproduced(moved.slice(0, 4))).stderr).toMatch(/FLUX\.1-Redux-dev/);
    expect((await reproduced([...moved.slice(0, 2), ...moved.slice(4)])).stderr).toMatch(/has neither vae\/ nor ae\.safetensors/);
    const { stdout, stderr } = await reproduced(moved);
    expect(stdout, stderr).toMatch(/^picture-seed-0\.png: the same pixels; changed since: vae\//);
  });

  test("are mixed beside a prompt by their strengths", async () => {
    const paint = async (out: string, ...more: string[]) => {
      const { code, stderr } = await wickHere(["generate", "a fox", ...args, "-o", out, ...more], { HF_ENDPOINT: hub.endpoint });
      expect(code, stderr).toBe(0);
      return decodePng(readFileSync(join(cwd, out))).rgb;
    };
    const mixed = await paint("mixed.png", "--redux", "a.png:1.5", "--redux", "b.png:0.5");
    expect(mixed).not.toEqual(await paint("other.png", "--redux", "a.png", "--redux", "b.png"));
    writeFileSync(join(cwd, "b.png"), square(13));
    const { code, stderr } = await wickHere(["reproduce", "mixed.png", "--offline"]);
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: "wick: b.png is not the file it was when the picture was made; bring that file back and run again\n",
    });
  });
});
