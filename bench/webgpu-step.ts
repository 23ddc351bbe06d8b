// What recording one denoising step of FLUX.1 costs on the host: the whole network at its released depth and a narrow width (recording costs the
// same at every width), 4,096 image and 512 text tokens, on Dawn's null backend, which executes nothing.
// Run: npx tsx --conditions=@wick/source bench/webgpu-step.ts [--rounds=N] [--width=N] [--json] [--matrix]. --matrix: as on an NVIDIA adapter.
import { cpus, loadavg } from "node:os";
import { parseArgs } from "node:util";
import { Flux, flux1Dev } from "@wick/models-flux";
import { load, namedParameters, runBlocks } from "@wick/nn";
import { hold, scope, type WeightEntry, type WeightSource, webgpu } from "@wick/tensor";
import { mainThreadMs } from "./thread-time.ts";

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "20" },
    width: { type: "string", default: "256" },
    json: { type: "boolean", default: false },
    matrix: { type: "boolean", default: false },
  },
});
const rounds = Number(options.rounds);
const width = Number(options.width);
const [textTokens, side] = [512, 64];
/** The system counts a thread's time in whole ticks, so a round is several steps. */
const stepsPerRound = 5;

/** bf16 zeros for every parameter. */
function zeroWeights(model: Flux): WeightSource {
  const entries = new Map<string, WeightEntry>();
  for (const [name, { shape, size }] of namedParameters(model))
    entries.set(name, { name, shape, dtype: "bf16", storedDtype: "BF16", byteLength: 2 * size, file: "zeros" });
  return {
    entries,
    metadata: new Map(),
    async *stream(name) {
      yield new Uint8Array(entries.get(name)!.byteLength);
    },
    async close() {},
  };
}

// "null" is a driver, not a GPU: tell the backend so that it takes the kernels of a GPU.
const nvidia = { tier: "matrix", matrix: { m: 16, n: 16, k: 16, input: "f16", subgroupSize: 32 } } as const;
using device = await webgpu({ driver: "null", software: false, ...(options.matrix ? nvidia : {}) });
using model = new Flux({ ...flux1Dev, width, heads: width / 128 });
await load(model, zeroWeights(model), device);
const positions = Array.from({ length: side * side }, (_, i) => [0, Math.floor(i / side), i % side]);
using inputs = hold(
  scope(() => ({
    img: device.zeros([1, side * side, 64]),
    y: device.zeros([1, 768]),
    context: model.context(
      device.zeros([1, textTokens, 4096]),
      Array.from({ length: textTokens }, () => [0, 0, 0]),
      positions,
    ),
  })),
);

/** One step as the sampler runs it: condition, blocks, x + v dt. */
function step(): void {
  scope(() => {
    const { img, y, context } = inputs.value;
    const condition = model.condition({ sigma: [0.5], y, guidance: [3.5] });
    const v = runBlocks(model.run(img, condition, context));
    img.add(v.mul(-0.05)).compute();
    return [];
  });
}

const median = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1]!;

const started = performance.now();
step();
device.flush();
const coldMs = performance.now() - started;
// The first step measures weights, too.
const dispatches = (await device.profile(step)).length;
const [wall, processor]: [number[], number[]] = [[], []];
for (let r = 0; r < rounds; r++) {
  await device.idle();
  const ran = mainThreadMs();
  for (let s = 0; s < stepsPerRound; s++) {
    const start = performance.now();
    step();
    device.flush();
    wall.push(performance.now() - start);
  }
  processor.push((mainThreadMs() - ran) / stepsPerRound);
}
const [warmWall, warmProcessor] = [wall.slice(wall.length >> 1), processor.slice(rounds >> 1)];
const result = {
  ...{ node: process.version, cpu: cpus()[0]?.model, load: loadavg()[0], width, dispatches },
  ...{ coldMs, warmMs: median(warmWall), fastestMs: Math.min(...warmWall), threadMs: median(warmProcessor) },
};
if (options.json) console.log(JSON.stringify(result));
else {
  const ms = (value: number) => `${value.toFixed(2)} ms`;
  console.log(`FLUX.1 step, ${dispatches} dispatches, warm: ${ms(result.threadMs)} of the main thread's time (first: ${ms(coldMs)})`);
  console.log(
    `  ${((1000 * result.threadMs) / dispatches).toFixed(2)} us a dispatch; by the clock ${ms(result.warmMs)}, fastest ${ms(result.fastestMs)}`,
  );
  console.log(`  Node ${result.node}, ${result.cpu}, load ${result.load?.toFixed(1)}`);
}
