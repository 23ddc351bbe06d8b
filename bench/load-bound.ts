// What two cores leave of the rate of plain uploads when they also read the file: bare reads into small warm buffers by one, two and three threads,
// plain uploads, both at once, and Wick's loader, in alternating rounds; GB/s by the clock and processor seconds a GB, medians.
// Run: npx tsx --conditions=@wick/source bench/load-bound.ts [--device cpu|webgpu] [--mb 400] [--rounds 5] [--piece-kib 2048] [--file PATH]
import { rmSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { cpus, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { cpu, type Device, openWeights, type WeightSource, webgpu, writeFileAtomically, writeSafetensors } from "@wick/tensor";

const { values: flags } = parseArgs({
  options: {
    device: { type: "string", default: "cpu" },
    mb: { type: "string", default: "400" },
    rounds: { type: "string", default: "5" },
    "piece-kib": { type: "string", default: "2048" },
    file: { type: "string", default: join(tmpdir(), "wick-load-bound.safetensors") },
  },
});
const pieceBytes = Number(flags["piece-kib"]) * 1024;
const tensorBytes = 40 * 2 ** 20;
const tensors = Math.max(1, Math.round((Number(flags.mb) * 1e6) / tensorBytes));
const totalBytes = tensors * tensorBytes;

async function writeFile(): Promise<void> {
  const filler = new Uint8Array(tensorBytes).map((_, i) => i * 31);
  const all = Array.from({ length: tensors }, (_, i) => ({
    ...{ name: `t${i}`, dtype: "bf16" as const, shape: [tensorBytes / 2] },
    bytes: () => [filler],
  }));
  await writeFileAtomically(flags.file, (sink) => writeSafetensors(sink, all));
}

/** Reads the whole file once, by as many of Node's threads at a time. */
async function readBare(file: FileHandle, threads: number): Promise<void> {
  let next = 0;
  const lane = async (): Promise<void> => {
    const buffer = buffers.pop() ?? new Uint8Array(pieceBytes);
    while (next < totalBytes) {
      const at = next;
      next += pieceBytes;
      await file.read(buffer, 0, pieceBytes, at);
    }
    buffers.push(buffer);
  };
  await Promise.all(Array.from({ length: threads }, lane));
}
const buffers: Uint8Array[] = [];

const warm = new Uint8Array(pieceBytes).fill(1);
/** Writes as many bytes in the same pieces from one warm array; turns of the event loop between them let reads go on. */
async function uploadPlain(device: Device, turns: boolean): Promise<void> {
  async function* pieces(): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < tensorBytes; at += pieceBytes) {
      if (turns) await new Promise(setImmediate);
      yield warm.subarray(0, Math.min(pieceBytes, tensorBytes - at));
    }
  }
  for (let i = 0; i < tensors; i++) (await device.upload([tensorBytes / 2], "bf16", pieces())).dispose();
  await device.idle();
}

async function loadFile(weights: WeightSource, device: Device): Promise<void> {
  for (const { name, shape, dtype } of weights.entries.values()) (await device.upload(shape, dtype, weights.stream(name))).dispose();
  await device.idle();
}

interface Times {
  readonly seconds: number[];
  readonly processor: number[];
}

async function measure(into: Times, work: () => Promise<unknown>): Promise<void> {
  const [before, start] = [process.cpuUsage(), performance.now()];
  await work();
  const { user, system } = process.cpuUsage(before);
  into.seconds.push((performance.now() - start) / 1e3);
  into.processor.push((user + system) / 1e6);
}

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1]!;

await writeFile();
const device = flags.device === "webgpu" ? await webgpu() : cpu();
const file = await open(flags.file);
const weights = await openWeights([flags.file]);
const works: Record<string, () => Promise<unknown>> = {
  "read, 1 thread": () => readBare(file, 1),
  "read, 2 threads": () => readBare(file, 2),
  "read, 3 threads": () => readBare(file, 3),
  "plain upload": () => uploadPlain(device, false),
  "both at once": () => Promise.all([readBare(file, 3), uploadPlain(device, true)]),
  "Wick's loader": () => loadFile(weights, device),
};
const times = Object.fromEntries(Object.keys(works).map((name): [string, Times] => [name, { seconds: [], processor: [] }]));
for (const work of Object.values(works)) await work();
for (let round = 0; round < Number(flags.rounds); round++)
  for (const [name, work] of Object.entries(works)) await measure(times[name]!, work);
await weights.close();
await file.close();
rmSync(flags.file);
const gigabytes = totalBytes / 1e9;
const write = (text: string): void => void process.stdout.write(`${text}\n`);
write(`${cpus()[0]?.model}, ${cpus().length} cores, load ${loadavg()[0]?.toFixed(1)}, Node ${process.version}, ${device.description}`);
for (const [name, { seconds, processor }] of Object.entries(times)) {
  const rate = (gigabytes / median(seconds)).toFixed(2);
  write(`${name.padEnd(16)} ${rate.padStart(6)} GB/s, ${(median(processor) / gigabytes).toFixed(3)} processor seconds a GB`);
}
device.destroy();
