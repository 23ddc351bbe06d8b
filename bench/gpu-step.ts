// One denoising step of FLUX.1-dev or Z-Image at the real width with random weights: time, memory, upload rate and where the time goes.
// Run: npx tsx --conditions=@wick/source bench/gpu-step.ts --model flux1-dev|z-image [--size 1024] [--dtype bf16|q8_0] [--steps 5]
//   [--blocks N] [--text N] [--device webgpu|cpu] [--tier plain|subgroups|matrix] [--precision highest|high] [--profile]. Prints a line and, last,
//   one line of JSON.
import { parseArgs } from "node:util";
import { Flux, flux1Dev, imagePositions, textPositions } from "@wick/models-flux";
import { ZImage, zImageTurbo } from "@wick/models-zimage";
import { load, type Module } from "@wick/nn";
import {
  cpu,
  type Device,
  type DType,
  type Float32MatmulPrecision,
  hold,
  scope,
  summarizeProfile,
  type Tensor,
  type WebGpuOptions,
  webgpu,
} from "@wick/tensor";
import { commandOutput, commit, machine } from "./machine.ts";
import { values } from "./peers/data.mjs";
import { syntheticWeights } from "./synthetic-weights.ts";

const { values: flags } = parseArgs({
  options: {
    model: { type: "string", default: "flux1-dev" },
    size: { type: "string", default: "1024" },
    dtype: { type: "string", default: "bf16" },
    steps: { type: "string", default: "5" },
    blocks: { type: "string" },
    text: { type: "string" },
    device: { type: "string", default: "webgpu" },
    tier: { type: "string" },
    precision: { type: "string", default: "highest" },
    profile: { type: "boolean", default: false },
  },
});
const size = Number(flags.size);
const limit = flags.blocks === undefined ? Number.POSITIVE_INFINITY : Number(flags.blocks);
const write = (text: string): void => void process.stdout.write(`${text}\n`);

const random = (device: Device, seed: number, ...shape: number[]): Tensor =>
  device.tensor(
    values(
      shape.reduce((a, b) => a * b, 1),
      seed,
    ),
    shape,
  );

/** A model, what one step of it runs, and the floating-point operations of its products and attention. */
interface Subject {
  readonly model: Module;
  readonly tokens: number;
  readonly flops: number;
  prepare(device: Device): () => Tensor;
}

function fluxSubject(): Subject {
  const config = {
    ...flux1Dev,
    doubleBlocks: Math.min(flux1Dev.doubleBlocks, limit),
    singleBlocks: Math.min(flux1Dev.singleBlocks, limit),
  };
  const model = new Flux(config);
  const [side, text] = [size / 16, Number(flags.text ?? 512)];
  const tokens = side * side + text;
  const perBlock = 2 * tokens * 12 * config.width ** 2 + 4 * tokens ** 2 * config.width;
  const flops = (config.doubleBlocks + config.singleBlocks) * perBlock;
  const prepare = (device: Device) => {
    const context = hold(
      scope(() => model.context(random(device, 1, 1, text, config.textWidth), textPositions(text), imagePositions(side, side))),
    );
    const [img, y] = [random(device, 2, 1, side * side, config.inChannels), random(device, 3, 1, config.vectorWidth)];
    return () => scope(() => runToEnd(model.run(img, model.condition({ sigma: [0.7], y, guidance: [3.5] }), context.value)));
  };
  return { model, tokens, flops, prepare };
}

function zImageSubject(): Subject {
  const config = {
    ...zImageTurbo,
    layers: Math.min(zImageTurbo.layers, limit),
    refinerLayers: Math.min(zImageTurbo.refinerLayers, limit),
  };
  const model = new ZImage(config);
  const [side, text] = [size / 16, Number(flags.text ?? 128)];
  const perToken = 2 * (4 * config.width ** 2 + 3 * config.width * config.ffnWidth);
  const cost = (tokens: number, blocks: number) => blocks * (tokens * perToken + 4 * tokens ** 2 * config.width);
  const flops = cost(side * side + text, config.layers) + cost(side * side, config.refinerLayers);
  const prepare = (device: Device) => {
    const caption = random(device, 1, text, config.captionWidth);
    const latents = random(device, 2, 1, config.latentChannels, size / 8, size / 8);
    const context = hold(scope(() => model.context([caption], { height: size / 8, width: size / 8 })));
    return () => scope(() => model.forward(latents, [0.7], context.value));
  };
  return { model, tokens: side * side + text, flops, prepare };
}

function runToEnd(run: Generator<unknown, Tensor>): Tensor {
  for (;;) {
    const { done, value } = run.next();
    if (done) return value;
  }
}

async function openDevice(): Promise<Device> {
  if (flags.device === "cpu") return cpu();
  const float32MatmulPrecision = flags.precision as Float32MatmulPrecision;
  return webgpu({ float32MatmulPrecision, ...(flags.tier ? { tier: flags.tier as NonNullable<WebGpuOptions["tier"]> } : {}) });
}

/** Rate of plain writes of the same amount: what the adapter allows. */
async function plainUploadGBsOf(device: Device): Promise<number> {
  const [piece, count] = [new Uint8Array(64 * 2 ** 20).fill(1), 8];
  const start = performance.now();
  for (let i = 0; i < count; i++) {
    using _ = device.fromBytes(piece, [piece.length], "u8", "plain upload");
    await device.idle();
  }
  return (piece.length * count) / (performance.now() - start) / 1e6;
}

const megabytesUsed = (): number | undefined => {
  const used = commandOutput("nvidia-smi", ["--query-gpu=memory.used", "--format=csv,noheader,nounits"])?.split("\n")[0];
  return used === undefined ? undefined : Number(used);
};

/** Milliseconds until the result is there; the readback of a few values is the proof that it was computed. */
async function timed(step: () => Tensor): Promise<{ ms: number; meanAbs: number }> {
  const start = performance.now();
  using out = step();
  await out.device.idle();
  const ms = performance.now() - start;
  using few = scope(() => out.reshape(-1).narrow(0, 0, Math.min(4096, out.size)).abs().mean().copy());
  return { ms, meanAbs: Number((await few.toArray())[0]) };
}

/** Loads the weights; what that took beside plain writes. */
async function loadWeights(
  model: Module,
  device: Device,
): Promise<{ weightBytes: number; loadMs: number; loadGBs: number; plainUploadGBs: number }> {
  const weights = syntheticWeights(model, flags.dtype as DType);
  const weightBytes = [...weights.entries.values()].reduce((sum, e) => sum + e.byteLength, 0);
  const plainUploadGBs = await plainUploadGBsOf(device);
  const start = performance.now();
  await load(model, weights, device);
  await device.idle();
  const loadMs = performance.now() - start;
  return { weightBytes, loadMs, loadGBs: weightBytes / loadMs / 1e6, plainUploadGBs };
}

/** Times of a cold step and of the others, memory, and where the time goes. */
async function measureSteps(step: () => Tensor, device: Device, flops: number) {
  const cold = await timed(step);
  const runs = [];
  for (let i = 0; i < Number(flags.steps); i++) runs.push(await timed(step));
  const usedMegabytes = megabytesUsed();
  const profile = flags.profile ? await device.profile(() => step().dispose()) : [];
  const times = runs.map((r) => r.ms).sort((a, b) => a - b);
  const medianMs = times[Math.floor((times.length - 1) / 2)]!;
  if (!runs.every((r) => Number.isFinite(r.meanAbs) && r.meanAbs > 0))
    throw new Error(`the result is not finite: ${runs.map((r) => r.meanAbs)}`);
  return {
    ...{ coldMs: cold.ms, medianMs, lowMs: times[0], highMs: times.at(-1), tflops: flops / medianMs / 1e9 },
    ...{ peakDeviceBytes: device.memory().peakBytes, usedMegabytes, meanAbs: runs[0]?.meanAbs },
    ops: summarizeProfile(profile).slice(0, 12),
  };
}

async function main(): Promise<void> {
  const subject = flags.model === "flux1-dev" ? fluxSubject() : flags.model === "z-image" ? zImageSubject() : undefined;
  if (!subject) throw new Error(`--model is flux1-dev or z-image, got ${flags.model}`);
  using device = await openDevice();
  const { tier, float32MatmulPrecision: precision } = device.capabilities;
  if (precision !== flags.precision) {
    write(
      JSON.stringify({ benchmark: "step", model: flags.model, tier, absent: `${tier} kernels have one precision, not ${flags.precision}` }),
    );
    return;
  }
  const { model, tokens, flops } = subject;
  const loaded = await loadWeights(model, device);
  device.resetPeak();
  const step = subject.prepare(device);
  await device.idle();
  const measured = await measureSteps(step, device, flops);
  const blocks = flags.blocks === undefined ? "all" : limit;
  const { description } = device;
  const result = {
    ...{ benchmark: "step", library: "wick", date: new Date().toISOString(), commit: commit(), machine: machine() },
    ...{ device: description, tier, precision, model: flags.model, blocks, size, tokens, dtype: flags.dtype },
    ...loaded,
    ...measured,
  };
  const title = `wick ${flags.model} ${size}x${size}, ${tokens} tokens, ${flags.dtype}, ${blocks} blocks, ${description} (${tier}, ${precision})`;
  const times = `step ${measured.medianMs.toFixed(0)} ms (${measured.tflops.toFixed(2)} TFLOP/s), cold ${measured.coldMs.toFixed(0)} ms`;
  const memory = `${(measured.peakDeviceBytes / 1e9).toFixed(1)} GB peak`;
  write(`${title}: ${times}, ${memory}, load ${loaded.loadGBs.toFixed(2)} GB/s of ${loaded.plainUploadGBs.toFixed(2)}`);
  for (const op of measured.ops.slice(0, 6))
    write(`  ${op.op.padEnd(16)} ${op.count}x ${op.elapsedMs.toFixed(1)} ms, ${op.gflopsPerSecond.toFixed(0)} GFLOP/s`);
  write(JSON.stringify(result));
  model.unload();
}

await main();
