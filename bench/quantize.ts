// Quantizing on load: a million values a second of every block format, and what a model of 10 billion takes: the calling thread alone by processor time,
// or beside it threads as `load` uses them, by the clock. Pieces of f32 (or bf16) come from memory.
// Run: npx tsx --conditions=@wick/source bench/quantize.ts [--threads 2] [--from bf16] [--plain] [--only q4_K,q8_0] [--rounds 3] [--json]
import { parseArgs } from "node:util";
import {
  bytesOf,
  ConversionThreads,
  convertPieces,
  type DType,
  dtypeInfo,
  isQuantized,
  type QuantDType,
  quantizePlain,
  torchCpu,
} from "@wick/tensor";
import { commit, machine } from "./machine.ts";

const { values: flags } = parseArgs({
  options: {
    threads: { type: "string", default: "0" },
    from: { type: "string", default: "f32" },
    plain: { type: "boolean", default: false },
    only: { type: "string" },
    rounds: { type: "string", default: "3" },
    json: { type: "boolean", default: false },
  },
});
const pieceValues = 1 << 20;
const values = torchCpu(1).randn(pieceValues, "f32") as Float32Array;
const from = flags.from as "f32" | "bf16";
const threads = Number(flags.threads) > 0 ? new ConversionThreads(Number(flags.threads)) : undefined;

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

async function bytesOfPiece(): Promise<Uint8Array> {
  const bytes = new Uint8Array(values.buffer);
  if (from === "f32") return bytes;
  const parts: Uint8Array[] = [];
  for await (const part of convertPieces(once(bytes), "f32", from, "bench")) parts.push(part.slice());
  return new Uint8Array(Buffer.concat(parts));
}

const piece = await bytesOfPiece();

async function* pieces(count: number): AsyncGenerator<Uint8Array> {
  for (let i = 0; i < count; i++) yield piece;
}

async function convert(dtype: DType, count: number): Promise<void> {
  let bytes = 0;
  for await (const part of convertPieces(pieces(count), from, dtype, "bench", { threads })) bytes += part.length;
  if (bytes !== bytesOf(dtype, count * pieceValues)) throw new Error(`${bytes} bytes of ${dtype}`);
}

/** Seconds of the clock with threads, of this process without. */
async function secondsOf(run: () => void | Promise<void>): Promise<number> {
  const [clock, before] = [performance.now(), process.cpuUsage()];
  await run();
  const { user, system } = process.cpuUsage(before);
  return threads ? (performance.now() - clock) / 1e3 : (user + system) / 1e6;
}

/** Values a second, in rounds of about half a second; the first run warms up. */
async function rateOf(run: (count: number) => void | Promise<void>): Promise<number> {
  const short = await secondsOf(() => run(2));
  const count = Math.max(2, Math.min(512, Math.round((2 * 0.5) / short)));
  const rounds: number[] = [];
  for (let r = 0; r < Number(flags.rounds); r++) rounds.push(await secondsOf(() => run(count)));
  return (count * pieceValues) / Math.min(...rounds);
}

function plain(dtype: QuantDType, count: number): void {
  const out = new Uint8Array(bytesOf(dtype, pieceValues));
  for (let i = 0; i < count; i++) quantizePlain(dtype, values, 0, out, 0, pieceValues);
}

if (threads) while (threads.ready < threads.threads) await convert("q3_K", 4);
const chosen = flags.only?.split(",");
const dtypes = (Object.keys(dtypeInfo) as DType[]).filter(isQuantized).filter((dtype) => !chosen || chosen.includes(dtype));
const rows: { dtype: DType; millionValuesPerSecond: number; minutesFor10Billion: number }[] = [];
for (const dtype of dtypes) {
  const rate = await rateOf((count) => (flags.plain ? plain(dtype, count) : convert(dtype, count)));
  rows.push({ dtype, millionValuesPerSecond: rate / 1e6, minutesFor10Billion: 1e10 / rate / 60 });
}
threads?.close();

const setting = { from, threads: threads?.threads ?? 0, plain: flags.plain };
if (flags.json)
  process.stdout.write(`${JSON.stringify({ commit: commit(), machine: machine(), node: process.version, ...setting, rows })}\n`);
else
  for (const r of rows)
    process.stdout.write(
      `${r.dtype.padEnd(8)} ${r.millionValuesPerSecond.toFixed(1).padStart(8)} M values/s  ${r.minutesFor10Billion.toFixed(1).padStart(6)} min for 10 billion\n`,
    );
