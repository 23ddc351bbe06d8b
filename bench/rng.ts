// Time of one latent's noise: 262,144 normals in every stream. Run: tsx --conditions=@wick/source bench/rng.ts
import { cpus } from "node:os";
import { torchCpu, torchCuda } from "@wick/tensor";

const COUNT = 262_144;

/** Median of five runs, in milliseconds. */
function medianMs(draw: () => unknown): number {
  draw();
  const times = Array.from({ length: 5 }, () => {
    const start = performance.now();
    draw();
    return performance.now() - start;
  });
  return times.sort((a, b) => a - b)[2]!;
}

const draws: [string, () => unknown][] = [
  ["torch-cpu randn f32", () => torchCpu(42).randn(COUNT)],
  ["torch-cpu randn f64", () => torchCpu(42).randn(COUNT, "f64")],
  ["torch-cpu randn bf16", () => torchCpu(42).randn(COUNT, "bf16")],
  ["torch-cpu-legacy randn bf16", () => torchCpu(42, "torch-cpu-legacy").randn(COUNT, "bf16")],
  ["torch-cpu-legacy randn f16", () => torchCpu(42, "torch-cpu-legacy").randn(COUNT, "f16")],
  ["torch-cpu rand f32", () => torchCpu(42).rand(COUNT)],
  ["torch-cuda randn f32", () => torchCuda(42).randn(COUNT)],
];
console.log(`${COUNT} values on ${cpus()[0]?.model ?? "unknown"}, Node ${process.version}`);
for (const [name, draw] of draws) console.log(`${name.padEnd(30)} ${medianMs(draw).toFixed(1).padStart(8)} ms`);
