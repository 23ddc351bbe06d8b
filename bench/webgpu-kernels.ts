// Rates of the WebGPU kernels on every tier the adapter has, beside each other in the same rounds: GFLOP/s or GB/s, and the ratio to the plain tier.
// The matrix tier runs at both values of float32MatmulPrecision where operands are f32 or quantized. Run:
// npx tsx --conditions=@wick/source bench/webgpu-kernels.ts [--quick] [--tier plain|subgroups|matrix ...] [--only REGEXP] [--rounds N] [--hardware]
// Prints one line of JSON per row and a table. --quick takes small shapes, as software drivers get anyway; --hardware runs the kernels for GPUs
// on a software driver.
import { parseArgs } from "node:util";
import type { View } from "../packages/tensor/src/backends/backend.ts";
import { createWebGpuBackend, type WebGpuBackend, type WebGpuOptions } from "../packages/tensor/src/backends/webgpu/index.ts";
import { bytesOf, type DType, isQuantized } from "../packages/tensor/src/dtype.ts";
import { contiguousLayout, expandLayout, type Layout, permuteLayout } from "../packages/tensor/src/layout.ts";
import { binaryNode, constNode, inputNode, unaryNode } from "../packages/tensor/src/ops/expr.ts";
import { quantizeInto } from "../packages/tensor/src/quant/encode.ts";
import { sizeOf } from "../packages/tensor/src/shape.ts";
import { commit, machine } from "./machine.ts";

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

/** Makes operands on one backend; all are released after the row. */
type Make = (shape: readonly number[], dtype?: DType, change?: (l: Layout) => Layout) => View;
interface Case {
  readonly name: string;
  /** Work of one call: operations, or bytes that must move. */
  readonly amount: number;
  readonly unit: "GFLOP/s" | "GB/s";
  /** f32 or quantized operands of matrix products: precisions differ. */
  readonly isRounded?: boolean;
  prepare(kernels: WebGpuBackend["kernels"], make: Make): () => void;
}

const isLong = (dtype: DType): boolean => dtype === "f32" || isQuantized(dtype);

/** Activations of one dtype by weights of another, [m, k] x [k, n]; results as the activations. */
function product(m: number, k: number, n: number, dtype: DType, weights: DType): Case {
  return {
    name: `matmul ${m}x${k}x${n} ${dtype} x ${weights}`,
    amount: 2 * m * k * n,
    unit: "GFLOP/s",
    isRounded: isLong(dtype) || isLong(weights),
    prepare: (kernels, make) => {
      const [a, b, out] = [make([m, k], dtype), make([n, k], weights, (l) => permuteLayout(l, [1, 0])), make([m, n], dtype)];
      const one = { ...a, layout: { shape: [1], strides: [1], offset: 0 } };
      return () => {
        // In a model activations are new to every product, so that it must measure them; weights are not.
        kernels.fill(one, {}, { value: 1 });
        kernels.matmul(out, { a, b }, {});
      };
    },
  };
}

function attention(heads: number, tokens: number, width: number, dtype: DType): Case {
  return {
    name: `attention ${heads}x${tokens}x${width} ${dtype}`,
    amount: 4 * heads * tokens * tokens * width,
    unit: "GFLOP/s",
    isRounded: isLong(dtype),
    prepare: (kernels, make) => {
      const [q, k, v, out] = [0, 1, 2, 3].map(() => make([1, heads, tokens, width], dtype)) as [View, View, View, View];
      return () => kernels.attention?.(out, { q, k, v }, { scale: width ** -0.5, causal: false });
    },
  };
}

function convolution(c: number, o: number, size: number, kernel: number, dtype: DType): Case {
  const attrs = { stride: [1, 1], padding: [(kernel - 1) / 2, (kernel - 1) / 2], dilation: [1, 1], groups: 1 } as const;
  return {
    name: `conv ${kernel}x${kernel} ${c}->${o} at ${size}² ${dtype}`,
    amount: 2 * c * o * size * size * kernel * kernel,
    unit: "GFLOP/s",
    isRounded: isLong(dtype),
    prepare: (kernels, make) => {
      const [x, weight, out] = [make([1, c, size, size], dtype), make([o, c, kernel, kernel], dtype), make([1, o, size, size], dtype)];
      return () => kernels.conv?.(out, { x, weight }, attrs);
    },
  };
}

function transposed(c: number, size: number): Case {
  const attrs = { stride: [2, 2], padding: [1, 1], dilation: [1, 1], groups: 1 } as const;
  return {
    name: `convTranspose 4x4 ${c}->${c} from ${size}² f32`,
    amount: 2 * c * c * size * size * 16,
    unit: "GFLOP/s",
    prepare: (kernels, make) => {
      const [x, weight, out] = [make([1, c, size, size]), make([c, c, 4, 4]), make([1, c, size * 2, size * 2])];
      return () => kernels.convTranspose?.(out, { x, weight }, attrs);
    },
  };
}

/** A case limited by memory: the bytes of its operands. */
function moving(name: string, bytes: number, prepare: Case["prepare"]): Case {
  return { name, amount: bytes, unit: "GB/s", prepare };
}

function rowCases(rows: number, width: number): Case[] {
  const bytes = rows * width * 4;
  const modulate = binaryNode(
    "add",
    binaryNode("mul", inputNode(0, "f32"), binaryNode("add", inputNode(1, "f32"), constNode(1, "f32"))),
    inputNode(2, "f32"),
  );
  const size = `${rows}x${width}`;
  return [
    moving(`copy ${size} f32`, 2 * bytes, (kernels, make) => {
      const [x, out] = [make([rows, width]), make([rows, width])];
      return () => kernels.copy(out, { x }, {});
    }),
    moving(`gelu ${size} f32`, 2 * bytes, (kernels, make) => {
      const [x, out] = [make([rows, width]), make([rows, width])];
      return () => kernels.map(out, { inputs: [x] }, { expr: unaryNode("gelu", inputNode(0, "f32")) });
    }),
    moving(`sin ${size} f32`, 2 * bytes, (kernels, make) => {
      const [x, out] = [make([rows, width]), make([rows, width])];
      return () => kernels.map(out, { inputs: [x] }, { expr: unaryNode("sin", inputNode(0, "f32")) });
    }),
    moving(`layerNorm, modulate ${size} f32`, 2 * bytes, (kernels, make) => {
      const [x, out] = [make([rows, width]), make([rows, width])];
      const operands = [0, 1].map(() => make([1, width], "f32", (l) => expandLayout("bench", l, [rows, width])));
      return () => kernels.norm?.(out, { x, operands }, { kind: "layer", eps: 1e-6, epilogue: modulate });
    }),
    moving(`rmsNorm of heads ${size}/128 f32`, 2 * bytes, (kernels, make) => {
      const shape = [(rows * width) / 128, 128];
      const [x, weight, out] = [make(shape), make([128]), make(shape)];
      return () => kernels.norm?.(out, { x, weight }, { kind: "rms", eps: 1e-6 });
    }),
    moving(`rope ${size}/128 f32`, 2 * bytes, (kernels, make) => {
      const shape = [(rows * width) / 128, 128];
      const [x, out] = [make(shape), make(shape)];
      const [cos, sin] = [0, 1].map(() => make([1, 64], "f32", (l) => expandLayout("bench", l, [shape[0]!, 64]))) as [View, View];
      return () => kernels.rope?.(out, { x, cos, sin }, { interleaved: true });
    }),
    moving(`softmax ${size} f32`, 2 * bytes, (kernels, make) => {
      const [x, out] = [make([rows, width]), make([rows, width])];
      return () => kernels.softmax?.(out, { x }, { log: false });
    }),
    moving(`sum of rows ${size} f32`, bytes, (kernels, make) => {
      const [x, out] = [make([rows, width]), make([rows])];
      return () => kernels.reduce(out, { x }, { kind: "sum", reduceRank: 1, correction: 0, p: 2 });
    }),
    moving(`indexAdd ${size} f32`, 3 * bytes, (kernels, make) => {
      const [x, src, out, index] = [make([rows, width]), make([rows, width]), make([rows, width]), make([rows], "i32")];
      return () => kernels.indexAdd(out, { x, index, src }, { dim: 0 });
    }),
  ];
}

function groupNorm(channels: number, size: number): Case {
  return moving(`groupNorm, silu ${channels}x${size}² f32`, 2 * channels * size * size * 4, (kernels, make) => {
    const shape = [1, channels, size, size];
    const [x, out, weight, bias] = [make(shape), make(shape), make([channels]), make([channels])];
    const attrs = { groups: 32, eps: 1e-6, epilogue: unaryNode("silu", inputNode(0, "f32")) };
    return () => kernels.groupNorm?.(out, { x, weight, bias }, attrs);
  });
}

const large = (): Case[] => [
  product(4608, 3072, 12288, "f16", "f16"),
  product(4608, 3072, 12288, "bf16", "bf16"),
  // The models' products: activations are f32.
  ...(["bf16", "q8_0", "f32"] as const).map((weights) => product(4608, 3072, 12288, "f32", weights)),
  product(1024, 3072, 3072, "f16", "f16"),
  product(1024, 3072, 3072, "f32", "bf16"),
  ...(["f16", "bf16", "f32"] as const).map((d) => attention(24, 4608, 128, d)),
  attention(30, 4096, 128, "bf16"),
  attention(8, 1024, 64, "f16"),
  attention(1, 4096, 512, "f16"),
  attention(1, 4096, 512, "f32"),
  ...(["f16", "f32"] as const).map((d) => convolution(128, 128, 512, 3, d)),
  convolution(512, 512, 128, 3, "f32"),
  convolution(256, 128, 512, 1, "f32"),
  transposed(64, 256),
  ...rowCases(4608, 3072),
  groupNorm(128, 512),
];
const small = (): Case[] => [
  product(128, 256, 256, "f32", "f32"),
  product(128, 256, 256, "f32", "q8_0"),
  attention(4, 256, 64, "f32"),
  attention(2, 128, 128, "f16"),
  attention(1, 128, 512, "f32"),
  convolution(64, 64, 32, 3, "f32"),
  convolution(64, 64, 32, 1, "f32"),
  transposed(16, 32),
  ...rowCases(256, 1024),
  groupNorm(64, 64),
];

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
  }
}
const titles = columns.map(({ tier, precision }) => (tier === "matrix" ? `${tier}, ${precision}` : tier));
write(`\n| | | ${titles.join(" | ")} |\n|---|---|${titles.map(() => "---|").join("")}\n${rows.join("\n")}`);
for (const { backend } of columns) backend.destroy();
