// matmul on generated code. Weights in formats without generated expansion, or in another memory, pass through a bounded staging area.
import { type DType, isQuantized } from "../../../dtype.ts";
import { collapse } from "../../../layout.ts";
import type { OpTable } from "../../../ops/table.ts";
import { dequantizeInto } from "../../../quant/decode.ts";
import type { View } from "../../../view.ts";
import { bytesOfView, readFloats, spanBytes } from "../kernels/access.ts";
import type { CpuBuffer, Region } from "../memory.ts";
import type { Arena } from "./arena.ts";
import { across, operandModes, placeBlocks, taskBlocks, threadedProducts } from "./blocking.ts";
import type { WasmEngine } from "./engine.ts";
import { gemmArgs } from "./gemm.ts";
import { gemvArgs, gemvColumns } from "./gemv-kernel.ts";
import { addressOf, arenaOf, commonArena, elementBytes, type Finish, type Grid, placesOf, planFinish } from "./plan.ts";

import { maxRowColumns } from "./row-kernels.ts";

const [gemmPlace, gemvPlace] = [placesOf(gemmArgs), placesOf(gemvArgs)];

/** Rows of a up to which packing costs more than it gains. */
const fewRows = 4;
/** Bytes of weights staged at a time. */
export const stagingBytes = 16 * 2 ** 20;

/** Where an operand's values are: address, bytes between lines, mode word. */
interface Stored {
  readonly address: number;
  readonly step: number;
  readonly mode: number;
}

/** Computes out = a @ b with epilogue; false when the operands are not covered. */
export function fastMatmul(
  engine: WasmEngine,
  out: View,
  { a, b, operands = [] }: OpTable["matmul"]["in"],
  { epilogue }: OpTable["matmul"]["attrs"],
): boolean {
  const [m, n] = out.layout.shape.slice(-2) as [number, number];
  const k = a.layout.shape.at(-1)!;
  const arena = commonArena([out, a, ...operands]);
  const grid = matrixGrid([out, a, ...operands], b);
  if (!arena || !grid || k === 0) return false;
  const left = storedFloats(a, a.layout.strides.at(-2)!, a.layout.strides.at(-1)!);
  if (!left) return false;
  const plain = out.dtype === "f32" && !epilogue;
  const strides = grid.strides.toSpliced(1, 1);
  const finish = plain ? undefined : planFinish(engine, arena, epilogue, [out, ...operands], strides, true);
  if (!plain && !finish) return false;
  const bytes = (view: View, i: number) => grid.strides[i]![0] * elementBytes(view);
  const job: Job = {
    engine,
    arena,
    m,
    n,
    k,
    batch: grid.batch,
    a: left,
    aBatch: bytes(a, 1),
    c: addressOf(out),
    cBatch: m * n * 4,
    finish,
    staged: out.dtype !== "f32" || operands.some((x) => x.buffer === out.buffer),
  };
  const right = arenaOf(b) === arena ? storedWeights(b) : undefined;
  if (right && m <= fewRows && k <= maxRowColumns && grid.batch === 1 && left.mode < across && right.mode < operandModes.q8_0)
    runFewRows(job, right);
  else if (right) runGemm(job, right, grid.bBatch * elementBytes(b), 0, n);
  else if (grid.batch === 1) return runStaged(job, b);
  else return false;
  return true;
}

/** Batch dimensions of all views joined to one. */
function matrixGrid(views: readonly View[], b: View): (Grid & { bBatch: number }) | undefined {
  const lead = ({ layout: { shape, strides, offset } }: View) => ({ shape: shape.slice(0, -2), strides: strides.slice(0, -2), offset });
  const flat = b.layout.shape.length === 2;
  const layouts = views.map(lead);
  if (!flat) layouts.push(lead(b));
  const { shape, strides } = collapse(layouts);
  if (shape.length > 1) return undefined;
  const grid = views.map(({ layout }, i) => [strides[i]![0] ?? 0, layout.strides.at(-2)!, layout.strides.at(-1)!] as const);
  return { batch: shape[0] ?? 1, rows: 0, columns: 0, strides: grid, bBatch: flat ? 0 : (strides.at(-1)![0] ?? 0) };
}

/** A float operand whose lines run along k (`lineStep` between lines) or across it. */
function storedFloats(view: View, lineStep: number, depthStep: number): Stored | undefined {
  const { dtype } = view;
  if (dtype !== "f32" && dtype !== "f16" && dtype !== "bf16") return undefined;
  const bytes = elementBytes(view);
  if (depthStep === 1) return { address: addressOf(view), step: lineStep * bytes, mode: operandModes[dtype] };
  if (lineStep === 1) return { address: addressOf(view), step: depthStep * bytes, mode: operandModes[dtype] + across };
  return undefined;
}

/** The right operand where it lies, if generated code can expand it. */
function storedWeights(b: View): Stored | undefined {
  const [depthStep, lineStep] = b.layout.strides.slice(-2) as [number, number];
  if (!isQuantized(b.dtype)) return storedFloats(b, lineStep, depthStep);
  const mode = (operandModes as Partial<Record<DType, number>>)[b.dtype];
  if (mode === undefined) return undefined;
  const address = (b.buffer as CpuBuffer).region.byteOffset + spanBytes(b.dtype, b.layout.offset);
  return { address, step: spanBytes(b.dtype, lineStep), mode };
}

interface Job {
  readonly engine: WasmEngine;
  readonly arena: Arena;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly batch: number;
  readonly a: Stored;
  readonly aBatch: number;
  readonly c: number;
  readonly cBatch: number;
  readonly finish: Finish | undefined;
  /** Sums gather in scratch rather than in the output. */
  readonly staged: boolean;
}

/** Values along k that must not be parted. */
const unitOf = (mode: number): number => (mode === operandModes.q4_K ? 256 : 32);

/** Dot products of a few rows with stored weights. */
function runFewRows({ engine, arena, m, n, k, a, c, finish }: Job, b: Stored): void {
  const share = engine.shares(m * n * k, threadedProducts);
  const columnsPerTask = share !== "alone" ? Math.min(gemvColumns, Math.max(64, 4 * Math.ceil(n / (16 * engine.threads)))) : gemvColumns;
  const [w, place] = [engine.blankArgs(), gemvPlace];
  w[place.slot] = finish?.slot ?? 0;
  w[place.table] = finish?.table ?? 0;
  w[place.m] = m;
  w[place.n] = n;
  w[place.k] = k;
  w[place.columnsPerTask] = columnsPerTask;
  w[place.a] = a.address;
  w[place.aMode] = a.mode;
  w[place.aStep] = a.step;
  w[place.b] = b.address;
  w[place.bMode] = b.mode;
  w[place.bStep] = b.step;
  w[place.c] = c;
  w[place.cStep] = 4 * n;
  engine.run(arena, "gemv", w, Math.ceil(n / columnsPerTask), share);
}

/** Columns n0 … n1 - 1 of the product; `b.address` is that of column 0. */
function runGemm(
  { engine, arena, m, n, k, batch, a, aBatch, c, cBatch, finish, staged }: Job,
  b: Stored,
  bBatch: number,
  n0: number,
  n1: number,
): void {
  const products = batch * m * (n1 - n0) * k;
  const threaded = products >= threadedProducts;
  const blocks = taskBlocks({ m, n: n1 - n0, k, batch, threads: threaded ? engine.threads : 1, unit: unitOf(b.mode), staged });
  const [w, place] = [engine.blankArgs(), gemmPlace];
  w[place.slot] = finish?.slot ?? 0;
  w[place.table] = finish?.table ?? 0;
  w[place.m] = m;
  w[place.n] = n1;
  w[place.k] = k;
  w[place.a] = a.address;
  w[place.aBatch] = aBatch;
  w[place.aStep] = a.step;
  w[place.aMode] = a.mode;
  w[place.b] = b.address;
  w[place.bBatch] = bBatch;
  w[place.bStep] = b.step;
  w[place.bMode] = b.mode;
  w[place.c] = c;
  w[place.cBatch] = cBatch;
  w[place.cStep] = 4 * n;
  w[place.n0] = n0;
  w[place.staged] = staged ? 1 : 0;
  placeBlocks(w, place, blocks);
  engine.run(arena, "gemm", w, blocks.tasks, engine.shares(products, threadedProducts));
}

/** Stages a bounded number of columns of b at a time, as stored if the kernel expands them, else as f32. */
function runStaged(job: Job, b: View): boolean {
  const stored = arenaOf(b) === job.arena ? undefined : storedWeights(b);
  const asStored = stored && (stored.mode < across || isQuantized(b.dtype)) ? stored.mode : undefined;
  const step = asStored === undefined ? 4 * job.k : spanBytes(b.dtype, job.k);
  const region = step <= stagingBytes ? job.arena.take(stagingBytes) : undefined;
  if (!region) return false;
  const columns = Math.max(1, Math.floor(stagingBytes / step));
  try {
    for (let j = 0; j < job.n; j += columns) {
      const count = Math.min(columns, job.n - j);
      if (asStored === undefined) stageExpanded(job, b, region, j, count);
      else stageLines(job, b, region, j, count);
      const address = region.byteOffset - j * step;
      runGemm(job, { address, step, mode: asStored ?? operandModes.f32 }, 0, j, j + count);
    }
  } finally {
    // Every part reads the tables of the first, whose place in the queue is the next job's soon.
    job.engine.settle();
    job.arena.give(region);
  }
  return true;
}

/** Copies the lines of columns j … j + count - 1 as they are stored. */
function stageLines({ arena, k }: Job, b: View, region: Region, j: number, count: number): void {
  const lineStep = b.layout.strides.at(-1)!;
  const step = spanBytes(b.dtype, k);
  const from = (b.buffer as CpuBuffer).array("u8");
  const to = new Uint8Array(arena.buffer as ArrayBuffer, region.byteOffset, region.byteLength);
  const start = (i: number) => spanBytes(b.dtype, b.layout.offset + (j + i) * lineStep);
  if (lineStep === k) to.set(from.subarray(start(0), start(0) + count * step));
  else for (let i = 0; i < count; i++) to.set(from.subarray(start(i), start(i) + step), i * step);
}

/** Converts columns j … j + count - 1 to f32. */
function stageExpanded({ arena, k }: Job, b: View, region: Region, j: number, count: number): void {
  const [depthStep, lineStep] = b.layout.strides.slice(-2) as [number, number];
  const values = new Float32Array(arena.buffer as ArrayBuffer, region.byteOffset, stagingBytes / 4);
  for (let i = 0; i < count; i++) expandColumn(b, b.layout.offset + (j + i) * lineStep, depthStep, values, i * k, k);
}

function expandColumn(b: View, offset: number, depthStep: number, values: Float32Array, at: number, k: number): void {
  if (isQuantized(b.dtype)) dequantizeInto(b.dtype, bytesOfView(b), spanBytes(b.dtype, offset), values, at, k);
  else readFloats(b, offset, depthStep, values, at, k);
}
