// The matrix product: micro kernel, panel loops, and the task that computes one tile of the output.
// Blocking follows Goto and van de Geijn (2008); tile sizes fit the 15 vector registers V8 uses.

import { type Callee, type Code, i32, type Local, type Module } from "../../../wasm/encoder.ts";
import { numberArg, partColumns, patches, rowBlock, scratch } from "./blocking.ts";
import { emitExpand } from "./expand.ts";
import type { Flavour } from "./flavour.ts";
import { emitMicroKernel } from "./micro-kernel.ts";
import { emitPackOperand, emitTouch, packParams, touchedColumns } from "./pack-operand.ts";
import { emitPanels, pushRest } from "./panels.ts";
import { emitPackPatches } from "./patches.ts";
import { rowParams } from "./row-function.ts";
import { loadWords } from "./row-kernels.ts";

/** Words of a gemm job's arguments, in order. */
export const gemmArgs = [
  ...(["m", "n", "k", "a", "aBatch", "aStep", "aMode", "b", "bBatch", "bStep", "bMode", "c", "cBatch"] as const),
  ...(["mBlock", "nBlock", "kBlock", "mTiles", "nTiles", "slot", "table", "staged", "image", "n0", "cStep", "keptStep"] as const),
  ...(["wholeTasks", "partStart"] as const),
] as const;

/** Functions of the product's module that attention builds on, too. */
export interface MatrixParts {
  /** panels(mc, nc, kc, packedA, packedB, c, bytes per row of c, accumulate, tile, depth of packedA): c = or += a · b. */
  readonly panels: Callee;
  /** Packs a row operand: (mode, address, step, first line, lines, first k, kc, wide, to). */
  readonly packRows: Callee;
  /** The same for a column operand. */
  readonly packColumns: Callee;
}

const partParams: Readonly<Record<keyof MatrixParts, number>> = { panels: 10, packRows: packParams.length, packColumns: packParams.length };

/** The parts as imports of another module. */
export function importParts(module: Module): MatrixParts {
  const part = (name: keyof MatrixParts): Callee => module.imported(name, new Array(partParams[name]).fill(i32));
  return { panels: part("panels"), packRows: part("packRows"), packColumns: part("packColumns") };
}

/** Emits everything a matrix product needs, with the task exported as `gemm(task, args, scratch)`. */
export function emitGemm(module: Module, flavour: Flavour): void {
  const { tileRows, tileVectors, fma } = flavour;
  const micro = emitMicroKernel(module, flavour);
  const panels = emitPanels(module, micro, tileRows, 4 * tileVectors);
  const tools = { expand: emitExpand(module, fma, true), touch: emitTouch(module) };
  const packRows = emitPackOperand(module, "packRows", tools, { width: tileRows });
  const packColumns = emitPackOperand(module, "packColumns", tools, { width: 4 * tileVectors, together: touchedColumns });
  emitTask(module, { panels, packRows, packColumns }, emitPackPatches(module, 4 * tileVectors));
}

/** The code of the task and its variables. */
interface Task {
  readonly c: Code;
  /** Words of the job. */
  readonly w: Record<(typeof gemmArgs)[number], Local>;
  readonly parts: MatrixParts;
  /** Pushes the address of an area of this thread's scratch. */
  readonly area: (offset: number) => Code;
  /** First row and column, their numbers, where results go and the bytes of its rows; the present part of k; whether rows must be packed. */
  readonly at: Record<"batch" | "i0" | "j0" | "rows" | "columns" | "to" | "step" | "pc" | "kc" | "packs", Local>;
}

function emitTask(module: Module, parts: MatrixParts, packPatches: Code): void {
  const c = module.func("gemm", [i32, i32, i32]);
  const w = loadWords(c, gemmArgs) as Task["w"];
  const names = ["batch", "i0", "j0", "rows", "columns", "to", "step", "pc", "kc", "packs"] as const;
  const at = Object.fromEntries(names.map((name) => [name, c.local(i32)])) as Task["at"];
  const task: Task = { c, w, parts, area: (offset) => c.get(2).int(offset).op("i32.add"), at };
  emitPlace(task);
  const finish = module.signature(rowParams, []);
  // Rows that this thread has packed for another task of the same job are still there.
  const number = () => c.get(1).memory("i32.load", 4 * numberArg);
  c.get(w.keptStep).op("i32.eqz").get(2).memory("i32.load", scratch.keptJob);
  number().op("i32.ne").op("i32.or").set(at.packs);
  c.int(0).set(at.pc).block().loop().get(at.pc).get(w.k).op("i32.ge_s").branchIf(1);
  pushRest(c, w.k, at.pc, w.kBlock, at.kc);
  emitPackColumns(task, packPatches);
  emitRowBlocks(task, finish);
  c.get(at.pc).get(w.kBlock).op("i32.add").set(at.pc).branch(0).end().end();
  c.get(2);
  number().memory("i32.store", scratch.keptJob);
}

/**
 * Which tile of which batch the task is, or which part of the last tiles (of the last rows), and where its results go: to c itself, or to
 * the scratch when they are stored in another format.
 */
function emitPlace({ c, w, at, area }: Task): void {
  c.get(0).get(w.wholeTasks).op("i32.ge_u").if();
  c.get(0).get(w.wholeTasks).op("i32.sub").int(partColumns).tee(w.nBlock).op("i32.mul").get(w.partStart).op("i32.add").set(at.j0);
  c.get(w.wholeTasks).set(0).else();
  c.get(0).get(w.nTiles).op("i32.rem_u").get(w.nBlock).op("i32.mul").set(at.j0).end();
  c.get(at.j0).get(w.n0).op("i32.add").set(at.j0);
  c.get(0).get(w.nTiles).op("i32.div_u").set(0);
  c.get(0).get(w.mTiles).op("i32.rem_u").get(w.mBlock).op("i32.mul").set(at.i0);
  c.get(0).get(w.mTiles).op("i32.div_u").set(at.batch);
  pushRest(c, w.m, at.i0, w.mBlock, at.rows);
  pushRest(c, w.n, at.j0, w.nBlock, at.columns);
  for (const x of ["a", "b", "c"] as const) c.get(w[x]).get(at.batch).get(w[`${x}Batch`]).op("i32.mul").op("i32.add").set(w[x]);
  c.get(w.staged).if();
  area(scratch.result).set(at.to).get(at.columns).int(2).op("i32.shl").set(at.step);
  c.else();
  c.get(w.cStep).tee(at.step).get(at.i0).op("i32.mul").get(w.c).op("i32.add");
  c.get(at.j0).int(2).op("i32.shl").op("i32.add").set(at.to).end();
}

/** Packs the present part of the right operand: stored values or image patches. */
function emitPackColumns({ c, w, at, area, parts }: Task, packPatches: Code): void {
  c.get(w.bMode).int(patches).op("i32.ge_s").if();
  c.get(w.bMode).get(w.b).get(w.image).get(at.j0).get(at.columns).get(at.pc).get(at.kc);
  area(scratch.packedB);
  area(scratch.lanes).call(packPatches);
  c.else();
  c.get(w.bMode).get(w.b).get(w.bStep).get(at.j0).get(at.columns).get(at.pc).get(at.kc);
  area(scratch.wide);
  area(scratch.packedB).call(parts.packColumns).end();
}

/** Multiplies block after block of the left operand, or all of it where it is kept, and ends rows that are complete while they are in cache. */
function emitRowBlocks({ c, w, at, area, parts }: Task, finish: number): void {
  const [ic, mc, row, to] = c.locals(i32, 4) as [Local, Local, Local, Local];
  const [size, packed] = c.locals(i32, 2) as [Local, Local];
  c.get(at.rows).int(rowBlock).get(w.keptStep).op("select").set(size);
  area(scratch.packedA).get(at.pc).get(w.keptStep).op("i32.mul").op("i32.add").set(packed);
  c.int(0).set(ic).block().loop().get(ic).get(at.rows).op("i32.ge_s").branchIf(1);
  pushRest(c, at.rows, ic, size, mc);
  c.get(at.packs).if();
  c.get(w.aMode).get(w.a).get(w.aStep).get(at.i0).get(ic).op("i32.add").get(mc).get(at.pc).get(at.kc);
  area(scratch.wide).get(packed).call(parts.packRows).end();
  c.get(at.to).get(ic).get(at.step).op("i32.mul").op("i32.add").set(to).get(mc).get(at.columns).get(at.kc);
  c.get(packed);
  area(scratch.packedB);
  c.get(to).get(at.step).get(at.pc).int(0).op("i32.gt_s");
  area(scratch.tile).get(at.kc).call(parts.panels);
  c.get(w.slot).int(0).op("i32.ne").get(at.pc).get(at.kc).op("i32.add").get(w.k).op("i32.ge_s").op("i32.and").if();
  c.forLess(row, mc, 1, () => {
    c.get(w.table).get(at.batch).get(at.i0).get(ic).op("i32.add").get(row).op("i32.add");
    c.get(at.j0).get(at.columns).get(to);
    area(scratch.staged).get(w.slot).callIndirect(finish);
    c.get(to).get(at.step).op("i32.add").set(to);
  });
  c.end();
  c.get(ic).get(size).op("i32.add").set(ic).branch(0).end().end();
}
