// CPU kernels limited by memory: rate of reading and writing, by the wall clock and by processor time (which a busy machine disturbs less),
// and as a share of the two copies measured beside each of them: Wick's own, and that of an array (`set`, one thread). Quartiles over
// interleaved rounds.
// Run: npx tsx --conditions=@wick/source bench/cpu-rows.ts [--threads=N] [--rounds=N] [--only=PATTERN] [--times=N] [--json]
// --times=N: N times the 16 MiB of an operand; 3 is about what FLUX.1 passes between its layers at 1024 x 1024.
import { cpus, loadavg } from "node:os";
import { parseArgs } from "node:util";
import { createCpuBackend } from "../packages/tensor/src/backends/cpu/index.ts";
import { plainKernels } from "../packages/tensor/src/backends/cpu/kernels/plain.ts";
import { bytesOf, type DType } from "../packages/tensor/src/dtype.ts";
import { contiguousLayout, expandLayout, permuteLayout } from "../packages/tensor/src/layout.ts";
import { binaryNode, constNode, inputNode, type UnaryOp, unaryNode, whereNode } from "../packages/tensor/src/ops/expr.ts";
import type { ReduceKind } from "../packages/tensor/src/ops/table.ts";
import type { View } from "../packages/tensor/src/view.ts";
import { processorMs } from "./cpu-peak.ts";

const { values: options } = parseArgs({
  options: {
    threads: { type: "string", default: "1" },
    rounds: { type: "string", default: "9" },
    only: { type: "string", default: "" },
    times: { type: "string", default: "1" },
    json: { type: "boolean", default: false },
  },
});
const backend = createCpuBackend({ kernels: "wasm", threads: Number(options.threads) });
const { kernels } = backend;

function view(shape: readonly number[], dtype: DType = "f32"): View {
  const count = shape.reduce((a, b) => a * b, 1);
  const buffer = backend.allocate(bytesOf(dtype, count), "bench");
  const floats = Float32Array.from({ length: Math.min(count, 65_536) }, (_, i) => ((i * 7919) % 1000) / 1000 - 0.5);
  const words = Uint16Array.from(new Uint32Array(floats.buffer), (u) => u >>> 16);
  const safe = new Uint8Array(dtype === "f32" ? floats.buffer : words.buffer);
  for (let at = 0; at < buffer.byteLength; at += safe.length) backend.write(buffer, at, safe.subarray(0, buffer.byteLength - at));
  return { buffer, dtype, layout: contiguousLayout(shape) };
}

interface Case {
  readonly name: string;
  /** Read and written by one run; what stays in the cache counts once. */
  readonly bytes: number;
  readonly run: () => void;
}

const times = Number(options.times);
const [rows, columns] = [4096 * times, 1024];
const size = rows * columns;
const [x, y, other] = [view([rows, columns]), view([rows, columns]), view([rows, columns])];
const positive = view([rows, columns]);
kernels.map(positive, { inputs: [x] }, { expr: unaryNode("exp", inputNode(0, "f32")) });
const [weight, half, narrow] = [view([columns]), view([columns], "bf16"), view([rows, columns], "bf16")];
const input = inputNode(0, "f32");
const copy: Case = { name: "copy", bytes: 8 * size, run: () => kernels.copy(y, { x }, {}) };
const arrayCopy: Case = { name: "copy of an array", bytes: 8 * size, run: () => plainKernels.copy(y, { x }, {}) };

function mapCases(): Case[] {
  const functions: UnaryOp[] = ["silu", "gelu", "tanh", "exp", "log", "sin"];
  const unary = (op: UnaryOp): Case => ({
    name: op,
    bytes: 8 * size,
    run: () => kernels.map(y, { inputs: [op === "log" ? positive : x] }, { expr: unaryNode(op, input) }),
  });
  const cast = (name: string, out: View, from: View): Case => ({
    name,
    bytes: 6 * size,
    run: () => kernels.map(out, { inputs: [from] }, { expr: input }),
  });
  const mask = { ...view([rows, columns / 4]), dtype: "u8" as const, layout: x.layout };
  const chosen = { expr: whereNode(inputNode(1, "u32"), input, inputNode(2, "f32")) };
  const sum = { expr: binaryNode("add", input, inputNode(1, "f32")) };
  return [
    { name: "add", bytes: 12 * size, run: () => kernels.map(y, { inputs: [x, other] }, sum) },
    ...functions.map(unary),
    {
      name: "power of 2.2",
      bytes: 8 * size,
      run: () => kernels.map(y, { inputs: [x] }, { expr: binaryNode("pow", input, constNode(2.2, "f32")) }),
    },
    { name: "where, mask in bytes", bytes: 13 * size, run: () => kernels.map(y, { inputs: [x, mask, other] }, chosen) },
    cast("f32 to bf16", narrow, x),
    cast("bf16 to f32", y, narrow),
  ];
}

function rowCases(): Case[] {
  const image = { ...x, layout: contiguousLayout([times, 64, 256, 256]) };
  const heads = { ...x, layout: contiguousLayout([1, 8 * times, 4096, 128]) };
  const table = view([4096, 64]);
  const angles = { ...table, layout: expandLayout("bench", table.layout, [1, 8 * times, 4096, 64]) };
  const narrowImage = { ...y, layout: image.layout };
  return [
    { name: "softmax", bytes: 8 * size, run: () => kernels.softmax(y, { x }, { log: false }) },
    { name: "log-softmax", bytes: 8 * size, run: () => kernels.softmax(y, { x }, { log: true }) },
    { name: "rms norm", bytes: 8 * size, run: () => kernels.norm(y, { x, weight }, { kind: "rms", eps: 1e-6 }) },
    { name: "rms norm, bf16 weight", bytes: 8 * size, run: () => kernels.norm(y, { x, weight: half }, { kind: "rms", eps: 1e-6 }) },
    { name: "layer norm", bytes: 8 * size, run: () => kernels.norm(y, { x, weight, bias: weight }, { kind: "layer", eps: 1e-6 }) },
    { name: "group norm 64x256x256", bytes: 8 * size, run: () => kernels.groupNorm(narrowImage, { x: image }, { groups: 32, eps: 1e-6 }) },
    {
      name: "rope 8x4096x128",
      bytes: 8 * size,
      run: () => kernels.rope({ ...y, layout: heads.layout }, { x: heads, cos: angles, sin: angles }, { interleaved: true }),
    },
  ];
}

function moveCases(): Case[] {
  const turned = { ...x, layout: permuteLayout(x.layout, [1, 0]) };
  const [narrowOut, turnedNarrow] = [view([rows, columns], "bf16"), { ...narrow, layout: permuteLayout(x.layout, [1, 0]) }];
  const apart = { ...x, layout: permuteLayout(contiguousLayout([1, rows, 8, 128]), [0, 2, 1, 3]) };
  const sums = view([rows]);
  const places = { ...sums, dtype: "i32" as const };
  const narrowSums = view([rows], "bf16");
  const reduction = (kind: ReduceKind): Case => ({
    name: `${kind} over rows`,
    bytes: 4 * size,
    run: () => kernels.reduce(kind === "argmax" ? places : sums, { x }, { kind, reduceRank: 1, correction: 1, p: 2 }),
  });
  const overColumns = (kind: ReduceKind): Case => ({
    name: `${kind} over columns`,
    bytes: 4 * size,
    run: () => kernels.reduce(weight, { x: turned }, { kind, reduceRank: 1, correction: 1, p: 2 }),
  });
  const index = view([rows]);
  backend.write(index.buffer, 0, new Uint8Array(Int32Array.from({ length: rows }, (_, i) => (i * 7919) % rows).buffer));
  const words = { ...index, dtype: "i32" as const };
  return [
    { name: "transpose", bytes: 8 * size, run: () => kernels.copy({ ...y, layout: contiguousLayout([columns, rows]) }, { x: turned }, {}) },
    {
      name: "transpose, bf16",
      bytes: 4 * size,
      run: () => kernels.copy({ ...narrowOut, layout: contiguousLayout([columns, rows]) }, { x: turnedNarrow }, {}),
    },
    {
      name: "heads first",
      bytes: 8 * size,
      run: () => kernels.copy({ ...y, layout: contiguousLayout(apart.layout.shape) }, { x: apart }, {}),
    },
    ...(["sum", "max", "var", "norm", "argmax", "prod", "logSumExp"] as const).map(reduction),
    {
      name: "sum over rows, bf16",
      bytes: 2 * size,
      run: () => kernels.reduce(narrowSums, { x: narrow }, { kind: "sum", reduceRank: 1, correction: 1, p: 2 }),
    },
    ...(["sum", "var", "max", "prod", "logSumExp"] as const).map(overColumns),
    { name: "cumsum", bytes: 8 * size, run: () => kernels.scan(y, { x }, { kind: "sum" }) },
    { name: "rows by index", bytes: 8 * size, run: () => kernels.indexSelect(y, { x, index: words }, { dim: 0 }) },
  ];
}

function indexCases(): Case[] {
  const indices = Int32Array.from({ length: size }, (_, i) => (i * 7919) % columns);
  const index = { ...view([rows, columns]), dtype: "i32" as const };
  backend.write(index.buffer, 0, new Uint8Array(indices.buffer));
  const lines = { ...index, layout: contiguousLayout([rows]) };
  const [small, large] = [contiguousLayout([times, 16, 256, 256]), contiguousLayout([times, 16, 512, 512])];
  const resampled = (mode: "nearest" | "bilinear"): Case => ({
    name: `${mode}, 16x256x256 doubled`,
    bytes: 5 * size,
    run: () => kernels.resample({ ...y, layout: large }, { x: { ...x, layout: small } }, { mode, alignCorners: false }),
  });
  return [
    { name: "gather along rows", bytes: 12 * size, run: () => kernels.gather(y, { x, index }, { dim: 1 }) },
    { name: "scatter along rows", bytes: 24 * size, run: () => kernels.scatter(y, { x, index, src: other }, { dim: 1, add: false }) },
    { name: "scatterAdd along columns", bytes: 24 * size, run: () => kernels.scatter(y, { x, index, src: other }, { dim: 0, add: true }) },
    { name: "indexAdd of rows", bytes: 20 * size, run: () => kernels.indexAdd(y, { x, index: lines, src: other }, { dim: 0 }) },
    resampled("nearest"),
    resampled("bilinear"),
  ];
}

const at = (list: readonly number[], share: number): number => list.toSorted((a, b) => a - b)[Math.floor(share * (list.length - 1))]!;

async function sample({ bytes, run }: Case): Promise<{ wall: number; processor: number }> {
  const [start, startProcessor] = [performance.now(), processorMs()];
  run();
  await backend.idle();
  const elapsed = performance.now() - start;
  return { wall: bytes / elapsed / 1e6, processor: bytes / (processorMs() - startProcessor) / 1e6 };
}

const cases = [...mapCases(), ...rowCases(), ...moveCases(), ...indexCases()].filter(({ name }) => new RegExp(options.only).test(name));
const rates = cases.map(() => ({ own: [] as number[], processor: [] as number[], copy: [] as number[], array: [] as number[] }));
for (let round = -3; round < Number(options.rounds); round++) {
  for (const [i, one] of cases.entries()) {
    const [array, beside, own] = [await sample(arrayCopy), await sample(copy), await sample(one)];
    if (round < 0) continue;
    rates[i]!.own.push(own.wall);
    rates[i]!.processor.push(own.processor);
    rates[i]!.copy.push(beside.wall);
    rates[i]!.array.push(array.wall);
  }
}
const table = cases.map(({ name }, i) => {
  const { own, processor, copy: beside, array } = rates[i]!;
  return {
    name,
    gbPerSecond: at(own, 0.5),
    low: at(own, 0.25),
    high: at(own, 0.75),
    processor: at(processor, 0.5),
    copy: at(beside, 0.5),
    share: at(own, 0.5) / at(beside, 0.5),
    array: at(array, 0.5),
    shareOfArray: at(own, 0.5) / at(array, 0.5),
  };
});
const percent = (share: number): string => `${(100 * share).toFixed(0)} %`;
const machine = { cpu: cpus()[0]?.model, node: process.version, device: backend.description, load: loadavg()[0] };
if (options.json) process.stdout.write(`${JSON.stringify({ machine, rows: table }, undefined, 2)}\n`);
else {
  process.stdout.write(
    `${machine.cpu}, Node ${machine.node}, ${machine.device}, load ${machine.load?.toFixed(1)}; ${rows}x${columns} f32\n`,
  );
  for (const { name, gbPerSecond, low, high, processor, copy: beside, share, array, shareOfArray } of table) {
    const wall = `${gbPerSecond.toFixed(1).padStart(6)} GB/s (${low.toFixed(1)} to ${high.toFixed(1)}), per processor second ${processor.toFixed(1)}`;
    process.stdout.write(
      `${name.padEnd(24)} ${wall}; copy ${beside.toFixed(1)}, ${percent(share)}; of an array ${array.toFixed(1)}, ${percent(shareOfArray)}\n`,
    );
  }
}
backend.destroy();
