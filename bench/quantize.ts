// Quantizing on load: a million values a second of every block format, one thread by processor time, and what a model of 10 billion takes.
// Run: npx tsx --conditions=@wick/source bench/quantize.ts [--rounds 3] [--json]
import { parseArgs } from "node:util";
import { bytesOf, type DType, dtypeInfo, isQuantized, quantizeInto, torchCpu } from "@wick/tensor";
import { commit, machine } from "./machine.ts";

const { values: flags } = parseArgs({ options: { rounds: { type: "string", default: "3" }, json: { type: "boolean", default: false } } });
const count = 1 << 22;
const values = torchCpu(1).randn(count, "f32") as Float32Array;

function secondsOf(run: () => void): number {
  const before = process.cpuUsage();
  run();
  return process.cpuUsage(before).user / 1e6;
}

const rows = (Object.keys(dtypeInfo) as DType[]).filter(isQuantized).map((dtype) => {
  const out = new Uint8Array(bytesOf(dtype, count));
  const rounds = Array.from({ length: Number(flags.rounds) }, () => secondsOf(() => quantizeInto(dtype, values, 0, out, 0, count)));
  const rate = count / Math.min(...rounds);
  return { dtype, millionValuesPerSecond: rate / 1e6, minutesFor10Billion: 1e10 / rate / 60 };
});

if (flags.json) process.stdout.write(`${JSON.stringify({ commit: commit(), machine: machine(), node: process.version, rows })}\n`);
else
  for (const r of rows)
    process.stdout.write(
      `${r.dtype.padEnd(8)} ${r.millionValuesPerSecond.toFixed(1).padStart(8)} M values/s  ${r.minutesFor10Billion.toFixed(1).padStart(6)} min for 10 billion\n`,
    );
