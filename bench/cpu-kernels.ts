// CPU kernels at the shapes of real models: medians over interleaved rounds, by the wall clock and by processor time (which a busy
// machine disturbs less), and as a share of the multiply-add peak measured between the runs.
// Run: npx tsx --conditions=@wick/source bench/cpu-kernels.ts [--threads=N] [--v8=fma|wide] [--rounds=N] [--only=regexp] [--json]
import { cpus, loadavg } from "node:os";
import { parseArgs } from "node:util";
import { createCpuBackend } from "../packages/tensor/src/backends/cpu/index.ts";
import type { DType } from "../packages/tensor/src/dtype.ts";
import { bytesOf } from "../packages/tensor/src/dtype.ts";
import { contiguousLayout, permuteLayout } from "../packages/tensor/src/layout.ts";
import { binaryNode, inputNode, unaryNode } from "../packages/tensor/src/ops/expr.ts";
import type { View } from "../packages/tensor/src/view.ts";
import { peakMeter, processorMs } from "./cpu-peak.ts";

const { values: options } = parseArgs({
  options: {
    threads: { type: "string", default: "1" },
    v8: { type: "string" },
    rounds: { type: "string", default: "7" },
    only: { type: "string", default: "" },
    json: { type: "boolean", default: false },
  },
});
const threads = Number(options.threads);
const v8 = options.v8 === "fma" || options.v8 === "wide" ? ({ v8: options.v8 } as const) : {};
const backend = createCpuBackend({ kernels: "wasm", threads, ...v8 });
const { kernels } = backend;

function view(shape: number[], dtype: DType = "f32"): View {
  const count = shape.reduce((a, b) => a * b, 1);
  const buffer = backend.allocate(bytesOf(dtype, count), "bench");
  const floats = Float32Array.from({ length: Math.min(count, 65_536) }, (_, i) => ((i * 7919) % 1000) / 1000 - 0.5);
  const pattern =
    dtype === "f32"
      ? new Uint8Array(floats.buffer)
      : new Uint8Array(Uint16Array.from(new Uint32Array(floats.buffer), (u) => u >>> 16).buffer);
  const safe = dtype === "f32" || dtype === "bf16" ? pattern : pattern.map((v) => v & 0x3f);
  for (let at = 0; at < buffer.byteLength; at += safe.length) backend.write(buffer, at, safe.subarray(0, buffer.byteLength - at));
  return { buffer, dtype, layout: contiguousLayout(shape) };
}

const turned = (v: View): View => ({ ...v, layout: permuteLayout(v.layout, [1, 0]) });

interface Case {
  readonly name: string;
  readonly unit: "GFLOP/s" | "GB/s";
  /** Operations or bytes of one run. */
  readonly work: number;
  readonly run: () => void | Promise<void>;
}

function product(name: string, m: number, k: number, n: number, dtype: DType): Case {
  const [a, b, out] = [view([m, k]), turned(view([n, k], dtype)), view([m, n])];
  return { name: `${name} ${dtype}`, unit: "GFLOP/s", work: 2 * m * n * k, run: () => kernels.matmul(out, { a, b }, {}) };
}

function attentionCases(): Case[] {
  const [q, o] = [view([1, 8, 1024, 64]), view([1, 8, 1024, 64])];
  const half = view([1, 8, 1024, 64], "bf16");
  const seen = { ...view([1024, 1024], "u8"), layout: { shape: [1, 8, 1024, 1024], strides: [0, 0, 1024, 1], offset: 0 } };
  const attention = (kind: string, inputs: Parameters<typeof kernels.attention>[1], causal = false): Case => ({
    name: `attention 1024x8x64${kind}`,
    unit: "GFLOP/s",
    work: (causal ? 2 : 4) * 8 * 1024 * 1024 * 64,
    run: () => kernels.attention(o, inputs, { scale: 0.125, causal }),
  });
  return [
    attention("", { q, k: q, v: q }),
    attention(" causal", { q, k: q, v: q }, true),
    attention(" bf16 keys", { q, k: half, v: half }),
    attention(" byte mask", { q, k: q, v: q, mask: seen }),
  ];
}

function ownCases(): Case[] {
  const cases = [product("matmul 512", 512, 512, 512, "f32"), product("matmul 1024", 1024, 1024, 1024, "f32")];
  for (const dtype of ["f32", "bf16", "f16", "q8_0", "q4_0", "q4_K"] as const)
    cases.push(product("linear 256x3840x10240", 256, 3840, 10240, dtype));
  const [image, filter, planes] = [view([1, 128, 64, 64]), view([128, 128, 3, 3]), view([1, 128, 64, 64])];
  const attrs = { stride: [1, 1], padding: [1, 1], dilation: [1, 1], groups: 1 } as const;
  cases.push({
    name: "conv 3x3 64x64x128",
    unit: "GFLOP/s",
    work: 2 * 4096 * 128 * 128 * 9,
    run: () => kernels.conv(planes, { x: image, weight: filter }, attrs),
  });
  cases.push(...attentionCases());
  const [x, y, g] = [view([4096, 1024]), view([4096, 1024]), view([1024])];
  const input = inputNode(0, "f32");
  const row = (name: string, moves: number, run: () => void): Case => ({
    name: `${name} 4096x1024`,
    unit: "GB/s",
    work: moves * 4 * 4096 * 1024,
    run,
  });
  cases.push(row("copy", 2, () => kernels.copy(y, { x }, {})));
  cases.push(row("add", 3, () => kernels.map(y, { inputs: [x, x] }, { expr: binaryNode("add", input, inputNode(1, "f32")) })));
  cases.push(row("gelu", 2, () => kernels.map(y, { inputs: [x] }, { expr: unaryNode("gelu", input) })));
  cases.push(row("softmax", 2, () => kernels.softmax(y, { x }, { log: false })));
  cases.push(row("rms norm", 2, () => kernels.norm(y, { x, weight: g }, { kind: "rms", eps: 1e-6 })));
  return cases;
}

const at = (list: readonly number[], share: number): number => list.toSorted((a, b) => a - b)[Math.floor(share * (list.length - 1))]!;

interface Sample {
  readonly wall: number;
  readonly processor: number;
}

async function sample({ work, run }: Case): Promise<Sample> {
  const [start, startProcessor] = [performance.now(), processorMs()];
  await run();
  return { wall: work / (performance.now() - start) / 1e6, processor: work / (processorMs() - startProcessor) / 1e6 };
}

/** Medians and quartiles; cases and the peak are interleaved round by round after two rounds of warming up. */
async function measure(cases: readonly Case[], rounds: number) {
  const peak = peakMeter(backend.capabilities.tier !== "wasm");
  const samples = cases.map((): Sample[] => []);
  const peaks: number[] = [];
  for (let round = -2; round < rounds; round++) {
    for (const [i, one] of cases.entries()) {
      const now = peak();
      const rates = await sample(one);
      if (round < 0) continue;
      samples[i]!.push(rates);
      peaks.push(now);
    }
  }
  const [top, best] = [at(peaks, 0.5), at(peaks, 1)];
  const rows = cases.map(({ name, unit }, i) => {
    const wall = samples[i]!.map((x) => x.wall);
    const processor = at(
      samples[i]!.map((x) => x.processor),
      0.5,
    );
    return {
      name,
      unit,
      median: at(wall, 0.5),
      low: at(wall, 0.25),
      high: at(wall, 0.75),
      processor,
      best: at(wall, 1),
      ofPeak: unit === "GFLOP/s" ? processor / top : undefined,
      ofBest: unit === "GFLOP/s" ? at(wall, 1) / best / threads : undefined,
    };
  });
  return { peak: top, best, rows };
}

const cases = ownCases().filter(({ name }) => new RegExp(options.only).test(name));
const { peak, best, rows } = await measure(cases, Number(options.rounds));
const machine = {
  cpu: cpus()[0]?.model,
  node: process.version,
  device: backend.description,
  load: loadavg()[0],
  peakPerThread: peak,
  bestPeakPerThread: best,
};
if (options.json) process.stdout.write(`${JSON.stringify({ machine, rows }, undefined, 2)}\n`);
else {
  process.stdout.write(`${machine.cpu}, Node ${machine.node}, ${machine.device}, load ${machine.load?.toFixed(1)}\n`);
  process.stdout.write(`multiply-add peak of one thread, median by processor time: ${peak.toFixed(1)} GFLOP/s, best ${best.toFixed(1)}\n`);
  for (const { name, unit, median, low, high, processor, best: most, ofPeak, ofBest } of rows) {
    const share =
      ofPeak === undefined
        ? ""
        : `, ${(100 * ofPeak).toFixed(0)} % of peak; best ${most.toFixed(1)}, ${(100 * ofBest!).toFixed(0)} % of the best peak`;
    const wall = `${median.toFixed(1).padStart(7)} ${unit} (${low.toFixed(1)} to ${high.toFixed(1)})`;
    process.stdout.write(`${name.padEnd(30)} ${wall}; per processor second ${processor.toFixed(1)}${share}\n`);
  }
}
backend.destroy();
