// Rates of the WebGPU kernels on every tier the adapter has, beside each other in the same rounds: GFLOP/s or GB/s, and the ratio to the plain tier.
// The matrix tier runs at both values of float32MatmulPrecision where operands are f32 or quantized. Run:
// npx tsx --conditions=@wick/source bench/webgpu-kernels.ts [--quick] [--tier plain|subgroups|matrix ...] [--only REGEXP] [--rounds N] [--hardware]
// Prints one line of JSON per row and a table, and ends with status 1 if a row failed. --quick takes small shapes, as software drivers get anyway; --hardware runs the kernels for GPUs
// on a software driver.
import { parseArgs } from "node:util";
import { createWebGpuBackend, type WebGpuBackend } from "../packages/tensor/src/backends/webgpu/index.ts";
import type { WebGpuOptions } from "../packages/tensor/src/backends/webgpu/options.ts";
import { bytesOf, type DType, isQuantized } from "../packages/tensor/src/dtype.ts";
import { contiguousLayout } from "../packages/tensor/src/layout.ts";
import { quantizeInto } from "../packages/tensor/src/quant/encode.ts";
import { sizeOf } from "../packages/tensor/src/shape.ts";
import type { View } from "../packages/tensor/src/view.ts";
import { commit, machine } from "./machine.ts";
import { type Case, large, small } from "./webgpu-cases.ts";

type Tier = NonNullable<WebGpuOptions["tier"]>;
const { values: flags } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    hardware: { type: "boolean", default: false },
    tier: { type: "string", multiple: true, default: ["plain", "subgroups", "matrix"] },
    only: { type: "string", default: "" },
    rounds: { type: "string", default: "5" },
  },
});
const write = (text: string): void => void process.stdout.write(`${text}\n`);

/** Numbers around one, of any dtype; indices for i32. */
function fill(dtype: DType, count: number): Uint8Array {
  const noise = (): Float32Array => Float32Array.from({ length: count }, (_, i) => Math.sin(i * i));
  if (isQuantized(dtype)) {
    const out = new Uint8Array(bytesOf(dtype, count));
    quantizeInto(dtype, noise(), 0, out, 0, count);
    return out;
  }
  if (dtype === "f32") return new Uint8Array(noise().buffer);
  if (dtype === "i32") return new Uint8Array(Int32Array.from({ length: count }, (_, i) => (i * 7919) % count).buffer);
  const base = dtype === "f16" ? 0x3000 : 0x3e00;
  return new Uint8Array(Uint16Array.from({ length: count }, (_, i) => base + ((i * 7919) % 0x200) + (i % 3 ? 0 : 0x8000)).buffer);
}

/** Fills a view with as many numbers as matter, again and again. */
function fillView(backend: WebGpuBackend, { buffer, dtype }: View, count: number): void {
  const piece = fill(dtype, dtype === "i32" ? count : Math.min(count, 2 ** 20));
  const bytes = bytesOf(dtype, count);
  for (let at = 0; at < bytes; at += piece.length) backend.write(buffer, at, piece.subarray(0, Math.min(piece.length, bytes - at)));
}

/** One row on one backend: `time` gives milliseconds per call. */
class Contestant {
  readonly backend: WebGpuBackend;
  private readonly made: View[] = [];
  private readonly call: () => void;
  private repeats = 1;
  peakBytes = 0;

  constructor(backend: WebGpuBackend, row: Case) {
    this.backend = backend;
    this.call = row.prepare(backend.kernels, (shape, dtype = "f32", change = (l) => l) => {
      const buffer = backend.allocate(Math.max(4, bytesOf(dtype, sizeOf(shape))), "bench");
      const view = { buffer, dtype, layout: change(contiguousLayout(shape)) };
      fillView(backend, view, sizeOf(shape));
      this.made.push(view);
      return view;
    });
  }

  /** Compiles and finds how many calls last 30 ms. */
  async warm(): Promise<number> {
    await this.backend.idle();
    const start = performance.now();
    await this.time();
    const cold = performance.now() - start;
    const once = await this.time();
    this.repeats = Math.max(1, Math.min(200, Math.round(30 / once)));
    return cold;
  }

  async time(): Promise<number> {
    const start = performance.now();
    for (let i = 0; i < this.repeats; i++) this.call();
    this.backend.flush();
    await this.backend.idle();
    this.peakBytes = Math.max(this.peakBytes, this.backend.memory().peakBytes);
    return (performance.now() - start) / this.repeats;
  }

  close(): void {
    for (const v of this.made) this.backend.release(v.buffer);
    this.backend.trim();
  }
}

const median = (x: number[]): number => x.toSorted((a, b) => a - b)[Math.floor(x.length / 2)]!;

/** A tier at a precision, which only subgroup matrices of f16 have two of: a column of the table. */
interface Column {
  readonly tier: Tier;
  readonly precision: "highest" | "high";
  readonly backend: WebGpuBackend;
}

/** All columns in alternating rounds; one line of JSON, and the row of the table. */
async function measure(row: Case, columns: readonly Column[]): Promise<string> {
  const mine = columns.filter((c) => c.precision === "highest" || row.isRounded);
  const entries = mine.map((c) => ({ ...c, run: new Contestant(c.backend, row), times: [] as number[], coldMs: 0 }));
  for (const e of entries) e.coldMs = await e.run.warm();
  for (let r = 0; r < Number(flags.rounds); r++) for (const e of entries) e.times.push(await e.run.time());
  const plain = entries.find((e) => e.tier === "plain");
  const results = entries.map((e) => {
    const ms = median(e.times);
    const faster = plain && e !== plain ? median(e.times.map((t, i) => plain.times[i]! / t)) : undefined;
    return {
      ...{
        tier: e.tier,
        precision: e.precision,
        ms,
        minMs: Math.min(...e.times),
        maxMs: Math.max(...e.times),
        coldMs: e.coldMs,
        rate: row.amount / ms / 1e6,
      },
      ...(faster === undefined ? {} : { timesPlain: faster }),
      peakMiB: e.run.peakBytes / 2 ** 20,
    };
  });
  for (const e of entries) e.run.close();
  write(JSON.stringify({ benchmark: "kernels", row: row.name, unit: row.unit, rounds: Number(flags.rounds), results }));
  const cell = (r: (typeof results)[number]): string => `${r.rate.toPrecision(3)}${r.timesPlain ? ` (${r.timesPlain.toFixed(2)}x)` : ""}`;
  const cells = columns
    .map((c) => results.find((r) => r.tier === c.tier && r.precision === c.precision))
    .map((r) => (r ? cell(r) : "as left"));
  return `| ${row.name} | ${row.unit} | ${cells.join(" | ")} |`;
}

async function openColumns(): Promise<readonly Column[]> {
  const columns: Column[] = [];
  const open = (tier: Tier, precision: Column["precision"]) =>
    createWebGpuBackend({ tier, float32MatmulPrecision: precision, ...(flags.hardware ? { software: false } : {}) });
  for (const tier of flags.tier as Tier[]) {
    const backend = await open(tier, "highest").catch((e: Error) => e);
    if (backend instanceof Error) {
      write(JSON.stringify({ benchmark: "kernels", tier, absent: backend.message.split("\n")[0] }));
      continue;
    }
    columns.push({ tier, precision: "highest", backend });
    const rounding = tier === "matrix" ? await open(tier, "high") : undefined;
    if (rounding?.capabilities.float32MatmulPrecision === "high") columns.push({ tier, precision: "high", backend: rounding });
    else rounding?.destroy();
  }
  return columns;
}

const columns = await openColumns();
const first = columns[0]?.backend;
if (!first) throw new Error("no adapter, or none of the tiers asked for");
const { software } = first.capabilities;
const only = new RegExp(flags.only);
const cases = (flags.quick || software || flags.hardware ? small() : large()).filter((c) => only.test(c.name));
write(
  JSON.stringify({ benchmark: "kernels", date: new Date().toISOString(), commit: commit(), device: first.description, machine: machine() }),
);
const rows: string[] = [];
for (const row of cases) {
  try {
    rows.push(await measure(row, columns));
  } catch (error) {
    write(JSON.stringify({ benchmark: "kernels", row: row.name, failed: (error as Error).message.split("\n")[0] }));
    process.exitCode = 1;
  }
}
const titles = columns.map(({ tier, precision }) => (tier === "matrix" ? `${tier}, ${precision}` : tier));
write(`\n| | | ${titles.join(" | ")} |\n|---|---|${titles.map(() => "---|").join("")}\n${rows.join("\n")}`);
for (const { backend } of columns) backend.destroy();
