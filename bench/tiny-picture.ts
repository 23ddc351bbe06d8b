// The embedded model's picture (64 x 64, 12 steps, guidance 3): whole cold processes to PNG, from the built packages and from the sources, and
// warm in one process. Beside them, when WICK_PYTHON names a python with torch, diffusers and transformers: PyTorch with 2 threads, cold and warm.
// Everything alternates round by round, because machines differ by the hour: the ratio to PyTorch of the same run is the figure that counts.
// Run: npm run build && npx tsx --conditions=@wick/source bench/tiny-picture.ts [rounds]. Prints JSON: medians and spread, with the machine's load.
import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { cpus, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const rounds = Number(process.argv[2] ?? 5);
const repository = fileURLToPath(new URL("..", import.meta.url));
const python = process.env["WICK_PYTHON"];
const sampler = join(repository, "tools/reference/tiny-zimage/sample.py");
const options = ["generate", "a red apple", "--device", "cpu", "--quiet", "--out"];
const threads = String(Math.min(2, cpus().length));
const env = { ...process.env, OMP_NUM_THREADS: threads, MKL_NUM_THREADS: threads };

/** The command from the sources, as bin/wick.mjs starts it where nothing was built. */
const fromSources = `
import { run } from ${JSON.stringify(new URL("../packages/cli/src/index.ts", import.meta.url).href)};
process.exitCode = await run(process.argv.slice(1));`;

/** Draws a picture for every line that comes in, and answers with its milliseconds; ready after five, when V8 has compiled most. */
const warmPictures = `
import { createInterface } from "node:readline";
import { localFolder } from "@wick/hub";
import { zImage } from "@wick/models-zimage";
import { cpu } from "@wick/tensor";
import { tinyZImage } from "@wick/tiny-zimage";
import { fileURLToPath } from "node:url";
const defaults = { width: 64, height: 64, steps: 12, guidance: 3 };
const pipe = await zImage(cpu(), { files: localFolder(fileURLToPath(tinyZImage.modelUrl)), defaults });
for (let i = 0; i < 5; i++) await pipe.generate({ prompt: "a red apple" });
console.log("ready");
for await (const seed of createInterface({ input: process.stdin })) {
  const started = performance.now();
  await pipe.generate({ prompt: "a red apple", seed: Number(seed) });
  console.log(performance.now() - started);
}`;

/** A process that draws warm pictures when asked to. */
class Painter {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #lines: AsyncIterator<string>;

  constructor(command: string, args: readonly string[]) {
    this.#child = spawn(command, args, { cwd: repository, env });
    this.#child.stderr.resume();
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  /** Waits for the first pictures, which are not measured. */
  async ready(): Promise<this> {
    const { value, done } = await this.#lines.next();
    if (done || value !== "ready") throw new Error(`a warm process ended before it was ready: ${this.#child.spawnargs.join(" ")}`);
    return this;
  }

  /** Milliseconds of a picture. */
  async draw(seed: number): Promise<number> {
    this.#child.stdin.write(`${seed}\n`);
    return Number((await this.#lines.next()).value);
  }

  stop(): void {
    this.#child.kill();
  }
}

interface Contestant {
  readonly name: string;
  readonly measure: (round: number) => number | Promise<number>;
}

/** Start of a process to its end, PNG written. */
function coldMs(command: string, args: readonly string[]): number {
  const started = performance.now();
  const { status, stderr } = spawnSync(command, args, { encoding: "utf8", cwd: repository, env });
  if (status !== 0) throw new Error(`${command} failed: ${stderr}`);
  return performance.now() - started;
}

const sourceFlags = ["--conditions=@wick/source", "--import", "tsx", "--input-type=module", "--eval"];

async function contestants(folder: string, painters: Painter[]): Promise<readonly Contestant[]> {
  const png = join(folder, "apple.png");
  const warm = async (command: string, args: readonly string[]): Promise<Contestant["measure"]> => {
    const painter = new Painter(command, args);
    painters.push(painter);
    await painter.ready();
    return (round) => painter.draw(round);
  };
  const all: Contestant[] = [];
  if (existsSync(join(repository, "packages/cli/dist/index.js"))) {
    const bin = join(repository, "packages/cli/bin/wick.mjs");
    all.push({ name: "cold, built", measure: () => coldMs(process.execPath, [bin, ...options, png]) });
    all.push({ name: "warm, built", measure: await warm(process.execPath, ["--input-type=module", "--eval", warmPictures]) });
  }
  all.push({ name: "cold, sources", measure: () => coldMs(process.execPath, [...sourceFlags, fromSources, "--", ...options, png]) });
  all.push({ name: "warm, sources", measure: await warm(process.execPath, [...sourceFlags, warmPictures]) });
  if (python) {
    all.push({ name: "cold, PyTorch", measure: () => coldMs(python, [sampler, "a red apple", "--out", png]) });
    all.push({ name: "warm, PyTorch", measure: await warm(python, [sampler, "a red apple", "--warm", "--out", png]) });
  }
  return all;
}

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;

/** Times in the order of the rounds, and their ratio to PyTorch's of the same rounds. */
function summary(times: readonly number[], torch: readonly number[] | undefined): object {
  const [medianMs, minMs, maxMs] = [median(times), Math.min(...times), Math.max(...times)].map(Math.round);
  const ratio = torch && Math.round(median(times.map((ms, i) => ms / torch[i]!)) * 100) / 100;
  return { medianMs, minMs, maxMs, ...(ratio === undefined ? {} : { overPyTorch: ratio }) };
}

const folder = mkdtempSync(join(tmpdir(), "wick-bench-"));
const painters: Painter[] = [];
try {
  const all = await contestants(folder, painters);
  const times = new Map<string, number[]>(all.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (const { name, measure } of round % 2 === 0 ? all : all.toReversed()) times.get(name)!.push(await measure(round));
  }
  const rows = all.map(({ name }) => [name, summary(times.get(name)!, times.get(`${name.slice(0, 4)}, PyTorch`))]);
  const machine = { cpu: cpus()[0]?.model, cores: cpus().length, node: process.version, load: loadavg()[0] };
  process.stdout.write(`${JSON.stringify({ machine, rounds, ...Object.fromEntries(rows) }, undefined, 2)}\n`);
} finally {
  for (const painter of painters) painter.stop();
  rmSync(folder, { recursive: true });
}
