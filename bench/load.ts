// Loads a synthetic sharded bf16 checkpoint tensor by tensor: highest JS heap plus external memory above the baseline, and the rate
// against `cat` over the same files and plain writes of the same pieces, in alternating rounds (all from a warm page cache); medians.
// With --dtype instead: a model of Linear layers loaded in that format, as `load` does it.
// Run: tsx --conditions=@wick/source --expose-gc bench/load.ts [--gb 2] [--device cpu|webgpu] [--dtype q4_K --threads 2] [--dir FOLDER] [--rounds 3] [--keep] [--json]
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, rmSync } from "node:fs";
import { open } from "node:fs/promises";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Linear, load, Module, repeat } from "@wick/nn";
import {
  cpu,
  type Device,
  type DType,
  openWeights,
  type WeightSource,
  type WritableTensor,
  webgpu,
  writeFileAtomically,
  writeSafetensors,
} from "@wick/tensor";

const { values: flags } = parseArgs({
  options: {
    gb: { type: "string", default: "2" },
    device: { type: "string", default: "none" },
    dir: { type: "string", default: join(tmpdir(), "wick-bench-load") },
    keep: { type: "boolean", default: false },
    rounds: { type: "string", default: "3" },
    dtype: { type: "string" },
    threads: { type: "string" },
    json: { type: "boolean", default: false },
  },
});
const totalBytes = Number(flags.gb) * 1e9;
const SHARD_BYTES = 2e9;
const ROWS = 12_288;
const COLUMNS = 3072;
const TENSOR_BYTES = ROWS * COLUMNS * 2;
const MIB = 2 ** 20;

/** Random bf16 of magnitudes from 0.008 to 2. */
const noise = new Uint8Array(8 * MIB).map((_, i) => {
  const byte = (Math.imul(i, 2654435761) >>> 24) & 255;
  return i % 2 === 1 ? (byte & 0x83) | 0x3c : byte;
});

function* filler(bytes: number): Generator<Uint8Array> {
  for (let at = 0; at < bytes; at += noise.length) yield noise.subarray(0, Math.min(noise.length, bytes - at));
}

/** Writes the shards and returns their paths. */
async function writeShards(): Promise<string[]> {
  mkdirSync(flags.dir, { recursive: true });
  const tensors = Math.ceil(totalBytes / TENSOR_BYTES);
  const perShard = Math.floor(SHARD_BYTES / TENSOR_BYTES);
  const paths: string[] = [];
  for (let first = 0; first < tensors; first += perShard) {
    const path = join(flags.dir, `model-${flags.gb}gb-${String(first).padStart(5, "0")}.safetensors`);
    paths.push(path);
    if (existsSync(path)) continue;
    const shard: WritableTensor[] = [];
    for (let i = first; i < Math.min(first + perShard, tensors); i++) {
      shard.push({ name: `blocks.${i}.weight`, dtype: "bf16", shape: [ROWS, COLUMNS], bytes: () => filler(TENSOR_BYTES) });
    }
    await writeFileAtomically(path, (sink) => writeSafetensors(sink, shard));
  }
  return paths;
}

function catMs(paths: readonly string[]): number {
  const start = performance.now();
  const { status } = spawnSync("sh", ["-c", 'cat "$@" > /dev/null', "sh", ...paths]);
  if (status !== 0) throw new Error(`cat ended with ${status}`);
  return performance.now() - start;
}

const loadScript = `
import sys, time
from safetensors import safe_open
start, total = time.perf_counter(), 0
for path in sys.argv[1:]:
    with safe_open(path, "pt") as f:
        for name in f.keys():
            t = f.get_tensor(name).clone()
            total += t.numel() * t.element_size()
print(time.perf_counter() - start)
`;

/** The safetensors package with PyTorch copying every tensor into memory of its own, imports not counted; undefined without it. */
function torchMs(paths: readonly string[]): number | undefined {
  const python = process.env["WICK_PYTHON"];
  if (!python) return undefined;
  const { status, stdout } = spawnSync(python, ["-c", loadScript, ...paths], { encoding: "utf8" });
  return status === 0 ? Number(stdout) * 1000 : undefined;
}

/** Rate at which this process can copy the files through one 16 MiB buffer: what Node itself allows. */
async function plainReadMs(paths: readonly string[]): Promise<number> {
  const buffer = new Uint8Array(16 * MIB);
  const start = performance.now();
  for (const path of paths) {
    const file = await open(path);
    while ((await file.read(buffer, 0, buffer.length)).bytesRead > 0);
    await file.close();
  }
  return performance.now() - start;
}

const heldBytes = (): number => {
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
};

/** Highest memory since creation beyond the baseline: JS heap plus external memory, and the process as a whole. */
class Watch {
  peakBytes = 0;
  peakResidentBytes = 0;
  private readonly baseline = heldBytes();
  private readonly baselineResident = process.memoryUsage.rss();
  sample(): void {
    this.peakBytes = Math.max(this.peakBytes, heldBytes() - this.baseline);
    this.peakResidentBytes = Math.max(this.peakResidentBytes, process.memoryUsage.rss() - this.baselineResident);
  }
}

async function* watched(pieces: AsyncIterable<Uint8Array>, watch: Watch): AsyncGenerator<Uint8Array> {
  let passed = 0;
  for await (const piece of pieces) {
    // Looking takes as long as reading a small piece.
    if (Math.floor(passed / (16 * MIB)) !== Math.floor((passed += piece.length) / (16 * MIB))) watch.sample();
    yield piece;
  }
}

async function loadAll(weights: WeightSource, device: Device | undefined, watch: Watch): Promise<number> {
  let loaded = 0;
  for (const entry of weights.entries.values()) {
    const pieces = watched(weights.stream(entry.name), watch);
    if (!device) for await (const piece of pieces) loaded += piece.length;
    else {
      const tensor = await device.upload(entry.shape, entry.dtype, pieces, entry.name);
      loaded += entry.byteLength;
      tensor.dispose();
    }
    watch.sample();
  }
  return loaded;
}

async function openDevice(): Promise<Device | undefined> {
  if (flags.device === "none") return undefined;
  return flags.device === "webgpu" ? webgpu() : cpu();
}

/** The same tensors written in the same pieces from one array that stays warm: what the adapter allows. */
async function plainUploadMs(weights: WeightSource, device: Device): Promise<number> {
  const piece = new Uint8Array(2 * MIB).fill(1);
  const start = performance.now();
  for (const { shape, dtype, byteLength, name } of weights.entries.values()) {
    const pieces = Array.from({ length: Math.ceil(byteLength / piece.length) }, (_, i) => piece.subarray(0, byteLength - i * piece.length));
    const tensor = await device.upload(shape, dtype, pieces, name);
    tensor.dispose();
  }
  await device.idle();
  return performance.now() - start;
}

/** Seconds and memory of a model loaded as another format. */
async function loadModel(weights: WeightSource, device: Device, dtype: DType): Promise<void> {
  const count = weights.entries.size;
  class Layers extends Module {
    readonly blocks = repeat(count, () => new Linear(COLUMNS, ROWS, { bias: false }));
  }
  const model = new Layers();
  const threads = flags.threads === undefined ? {} : { threads: Number(flags.threads) };
  for (let r = 0; r < Number(flags.rounds); r++) {
    const [watch, start, before] = [new Watch(), performance.now(), process.cpuUsage()];
    await load(model, weights, device, { dtype, ...threads, onProgress: () => watch.sample() });
    await device.idle();
    const seconds = (performance.now() - start) / 1e3;
    const { user, system } = process.cpuUsage(before);
    const values = (count * TENSOR_BYTES) / 2;
    const rate = `${(values / seconds / 1e6).toFixed(1)} M values/s, ${(values / (user + system)).toFixed(1)} per second of processor time`;
    const peak = `${(watch.peakBytes / MIB).toFixed(0)} MiB beside the device, resident ${(watch.peakResidentBytes / MIB).toFixed(0)} MiB`;
    console.log(`${(count * TENSOR_BYTES) / 1e9} GB of bf16 as ${dtype} in ${seconds.toFixed(2)} s: ${rate}; ${peak}`);
    model.unload();
  }
}

const median = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1]!;

const paths = await writeShards();
catMs(paths);
const torch = torchMs(paths);
(globalThis as { gc?: () => void }).gc?.();
const device = await openDevice();
const watch = new Watch();
const start = performance.now();
const weights = await openWeights(paths);
const openedMs = performance.now() - start;
if (flags.dtype) {
  const target = device ?? cpu();
  await loadModel(weights, target, flags.dtype as DType);
  await weights.close();
  target.destroy();
  if (!flags.keep) rmSync(flags.dir, { recursive: true });
  process.exit();
}
const times: Record<"load" | "cat" | "plainRead" | "plainUpload", number[]> = { load: [], cat: [], plainRead: [], plainUpload: [] };
let loaded = 0;
for (let r = 0; r < Number(flags.rounds); r++) {
  times.cat.push(catMs(paths));
  times.plainRead.push(await plainReadMs(paths));
  const before = performance.now();
  loaded = await loadAll(weights, device, watch);
  await device?.idle();
  times.load.push(performance.now() - before);
  if (device) times.plainUpload.push(await plainUploadMs(weights, device));
}
const { entries } = weights;
await weights.close();
/** Of other work's time over that of loading in the same round. */
const ratio = (others: readonly number[]): string => median(others.map((ms, i) => ms / times.load[i]!)).toFixed(2);
const [elapsed, cat, plainRead] = [times.load, times.cat, times.plainRead].map((all) => median([...all])) as [number, number, number];
const devicePeak = device?.memory().peakBytes ?? 0;
const plainUpload = device && device.kind === "webgpu" ? median([...times.plainUpload]) : undefined;
const description = device?.description;
device?.destroy();
const rate = (ms: number): string => `${(loaded / ms / 1e6).toFixed(2)} GB/s`;
console.log(
  `${(loaded / 1e9).toFixed(1)} GB in ${paths.length} shards, ${entries.size} tensors; ${cpus()[0]?.model}, Node ${process.version}`,
);
console.log(`open ${openedMs.toFixed(1)} ms; load ${rate(elapsed)}${description ? ` into ${description}` : ""}`);
console.log(`cat ${rate(cat)} (ratio ${ratio(times.cat)}); plain reads ${rate(plainRead)} (ratio ${ratio(times.plainRead)})`);
const mib = (bytes: number): string => `${(bytes / MIB).toFixed(0)} MiB`;
const held = device ? `; the device's own memory beside that ${mib(devicePeak)}` : "";
console.log(`highest above the baseline: JS heap + external ${mib(watch.peakBytes)}${held}; resident ${mib(watch.peakResidentBytes)}`);
console.log(
  torch === undefined
    ? "PyTorch: missing (WICK_PYTHON)"
    : `PyTorch with safetensors ${rate(torch)} (ratio ${(torch / elapsed).toFixed(2)})`,
);
if (plainUpload !== undefined) console.log(`plain uploads ${rate(plainUpload)} (ratio ${ratio(times.plainUpload)})`);
if (flags.json) {
  const medians = { openedMs, loadMs: elapsed, catMs: cat, plainReadMs: plainRead, torchMs: torch, plainUploadMs: plainUpload };
  console.log(
    JSON.stringify({ benchmark: "load", device: description, bytes: loaded, ...medians, peakBytes: watch.peakBytes, devicePeak }),
  );
}
if (!flags.keep) rmSync(flags.dir, { recursive: true });
