// Attention without the score matrix: blocks of queries against blocks of keys with a running maximum and sum per query.
// The recurrence is that of FlashAttention (Dao et al. 2022, algorithm 1). Scores are computed transposed, keys by queries: a panel of
// them is then the packed right operand of the product with the transposed values as it stands, and nothing is packed in between.

import { type Code, f32, i32, type Local, type Module, v128 } from "../../../wasm/encoder.ts";
import { across, scratch } from "./blocking.ts";
import type { Flavour } from "./flavour.ts";
import { importParts, type MatrixParts } from "./gemm.ts";
import { emitHide, emitMask, pushSmaller } from "./mask-panel.ts";
import { rowParams } from "./row-function.ts";
import { loadWords } from "./row-kernels.ts";
import { emitWeights } from "./softmax-panel.ts";

/** Widest heads the scratch holds. */
export const maxHeadWidth = 512;

/** Words of an attention job; q, k, v, o and mask come with their strides in bytes. */
export const attentionArgs = [
  ...(["slot", "blocks", "queryBlock", "keyBlock", "heads", "group", "l", "s", "width", "valueWidth", "scale", "causal"] as const),
  ...(["q", "qBatch", "qHead", "qRow", "qMode", "k", "kBatch", "kHead", "kRow", "kMode"] as const),
  ...(["v", "vBatch", "vHead", "vRow", "vMode", "o", "oBatch", "oHead", "oRow"] as const),
  ...(["mask", "maskBatch", "maskHead", "maskRow", "maskStep", "maskBytes", "lengths", "lengthStep"] as const),
] as const;
type Word = (typeof attentionArgs)[number];

/** Areas of the scratch: packed operands, a panel of scores, statistics, one finished row, panels of value sums. */
const areas = {
  queries: scratch.packedA,
  keys: scratch.packedB,
  values: scratch.packedB + 1_048_576,
  scores: scratch.result,
  stats: scratch.result + 32_768,
  row: scratch.result + 49_152,
  sums: scratch.result + 65_536,
} as const;

/** Queries and keys taken at a time, so that panels stay in the first-level cache and everything else in the second. */
export function attentionBlocks(l: number, width: number, items: number, threads: number): { queryBlock: number; keyBlock: number } {
  const wide = width > 128;
  let queryBlock = wide ? 128 : 256;
  while (threads > 1 && queryBlock > 32 && items * Math.ceil(l / queryBlock) < 2 * threads) queryBlock /= 2;
  return { queryBlock, keyBlock: wide ? 120 : 240 };
}

interface Task {
  readonly c: Code;
  readonly w: Record<Word, Local>;
  readonly parts: MatrixParts;
  readonly flavour: Flavour;
  /** Pushes the address of an area of this thread's scratch. */
  readonly area: (offset: number) => Code;
  /** First query, number of queries, keys they may see, first key and number of keys of the block, first query of the panel within the block. */
  readonly at: Record<"batch" | "head" | "i0" | "rows" | "limit" | "j0" | "keys" | "p" | "sums" | "stats" | "tallValues", Local>;
}

/** Emits the export `attention`; the module imports what it shares with products. */
export function emitAttention(module: Module, flavour: Flavour): void {
  const parts = importParts(module);
  const functions = { hide: emitHide(module, flavour), mask: emitMask(module, flavour), weights: emitWeights(module, flavour) };
  const finishPanel = emitFinishPanel(module, flavour);
  const c = module.func("attention", [i32, i32, i32]);
  const names = ["batch", "head", "i0", "rows", "limit", "j0", "keys", "p", "sums", "stats", "tallValues"] as const;
  const at = Object.fromEntries(names.map((name) => [name, c.local(i32)])) as Task["at"];
  const w = loadWords(c, attentionArgs) as Task["w"];
  const task: Task = { c, w, parts, flavour, area: (offset) => c.get(2).int(offset).op("i32.add"), at };
  emitPlace(task);
  emitLimit(task);
  emitPackQueries(task);
  c.block().loop().get(at.j0).get(at.limit).op("i32.ge_s").branchIf(1);
  c.get(at.limit).get(at.j0).op("i32.sub").set(at.keys);
  pushSmaller(c, at.keys, w.keyBlock).set(at.keys);
  emitPackKeys(task);
  eachPanel(task, () => emitPanel(task, functions));
  c.get(at.j0).get(w.keyBlock).op("i32.add").set(at.j0).branch(0).end().end();
  eachPanel(task, () => {
    c.get(at.sums)
      .get(w.valueWidth)
      .get(at.stats)
      .get(w.o)
      .get(w.oRow)
      .get(at.i0)
      .get(at.p)
      .op("i32.add")
      .get(at.rows)
      .get(at.p)
      .op("i32.sub");
    area(task, areas.row).get(w.slot).call(finishPanel);
  });
}

const area = (task: Task, offset: number): Code => task.area(offset);

/** Pushes x rounded up to a multiple of `unit`. */
const pushUp = (c: Code, x: Local, unit: number): Code =>
  c
    .get(x)
    .int(unit - 1)
    .op("i32.add")
    .int(unit)
    .op("i32.div_u")
    .int(unit)
    .op("i32.mul");

/** Which queries of which head the task is; moves operands there. */
function emitPlace({ c, w, at }: Task): void {
  c.get(0).get(w.blocks).op("i32.rem_u").get(w.queryBlock).op("i32.mul").set(at.i0);
  c.get(0).get(w.blocks).op("i32.div_u").tee(0).get(w.heads).op("i32.div_u").set(at.batch);
  c.get(0).get(w.heads).op("i32.rem_u").set(at.head);
  for (const name of ["q", "o", "mask", "k", "v"] as const) {
    if (name === "k") c.get(at.head).get(w.group).op("i32.div_u").set(at.head);
    c.get(w[name]).get(at.batch).get(w[`${name}Batch`]).op("i32.mul").op("i32.add");
    c.get(at.head).get(w[`${name}Head`]).op("i32.mul").op("i32.add").set(w[name]);
  }
  c.get(w.l).get(at.i0).op("i32.sub").set(at.rows);
  pushSmaller(c, at.rows, w.queryBlock).set(at.rows);
}

/** How many keys the queries may see at most. */
function emitLimit({ c, w, at }: Task): void {
  const bound = c.local(i32);
  c.get(w.s).set(at.limit).get(w.lengths).if();
  c.get(w.lengths).get(at.batch).get(w.lengthStep).op("i32.mul").op("i32.add").memory("i32.load").set(bound);
  pushSmaller(c, at.limit, bound).set(at.limit).end();
  c.get(w.causal).if().get(at.i0).get(at.rows).op("i32.add").set(bound);
  pushSmaller(c, at.limit, bound).set(at.limit).end();
}

/** Packs the queries and clears their statistics: greatest power -inf, sum 0. */
function emitPackQueries(task: Task): void {
  const { c, w, at, parts, flavour } = task;
  c.get(w.qMode).get(w.q).get(w.qRow).get(at.i0).get(at.rows).int(0).get(w.width);
  area(task, scratch.wide);
  area(task, areas.queries).call(parts.packColumns);
  pushUp(c, w.valueWidth, flavour.tileRows).set(at.tallValues);
  eachPanel(task, () => {
    for (let v = 0; v < flavour.tileVectors; v++) {
      c.get(at.stats)
        .floats(Number.NEGATIVE_INFINITY)
        .memory("v128.store", 16 * v);
      c.get(at.stats)
        .floats(0)
        .memory("v128.store", 16 * (flavour.tileVectors + v));
    }
  });
}

/** Packs a block of keys by rows, and its values transposed. */
function emitPackKeys(task: Task): void {
  const { c, w, at, parts } = task;
  c.get(w.kMode).get(w.k).get(w.kRow).get(at.j0).get(at.keys).int(0).get(w.width);
  area(task, scratch.wide);
  area(task, areas.keys).call(parts.packRows);
  c.get(w.vMode).int(across).op("i32.add").get(w.v).get(w.vRow).int(0).get(w.valueWidth).get(at.j0).get(at.keys);
  area(task, scratch.wide);
  area(task, areas.values).call(parts.packRows);
}

/** A loop over the panels of queries, with the addresses of their statistics and value sums. */
function eachPanel({ c, at, flavour, area: place }: Task, body: () => void): void {
  const lanes = 4 * flavour.tileVectors;
  place(areas.stats).set(at.stats);
  place(areas.sums).set(at.sums);
  c.forLess(at.p, at.rows, lanes, () => {
    body();
    c.advance(at.stats, 8 * lanes);
    c.get(at.sums)
      .get(at.tallValues)
      .int(4 * lanes)
      .op("i32.mul")
      .op("i32.add")
      .set(at.sums);
  });
}

/** One panel of queries against the block of keys. Rows beyond the last key and the last value only fill their tile; nobody reads them. */
function emitPanel(task: Task, { hide, mask, weights }: Record<"hide" | "mask" | "weights", Code>): void {
  const { c, w, at, parts, flavour } = task;
  const lanes = 4 * flavour.tileVectors;
  const [ahead, seen, bound] = c.locals(i32, 3) as [Local, Local, Local];
  // Keys up to this one are seen by the panel's first query.
  c.get(at.i0).get(at.p).op("i32.add").get(at.j0).op("i32.sub").set(ahead);
  c.get(w.causal).op("i32.eqz").get(ahead).int(-lanes).op("i32.gt_s").op("i32.or").if();
  // Keys that any query of the panel sees.
  c.get(at.keys).set(seen).get(w.causal).if().get(ahead).int(lanes).op("i32.add").set(bound);
  pushSmaller(c, at.keys, bound).set(seen).end();
  pushUp(c, seen, flavour.tileRows).int(lanes).get(w.width);
  area(task, areas.keys);
  area(task, areas.queries).get(at.p).get(w.width).op("i32.mul").int(2).op("i32.shl").op("i32.add");
  area(task, areas.scores)
    .int(4 * lanes)
    .int(0);
  area(task, scratch.tile).get(w.width).call(parts.panels);
  c.get(w.maskBytes).if();
  area(task, areas.scores).get(seen).get(at.rows).get(at.p).op("i32.sub");
  c.get(w.mask)
    .get(at.i0)
    .get(at.p)
    .op("i32.add")
    .get(w.maskRow)
    .op("i32.mul")
    .op("i32.add")
    .get(at.j0)
    .get(w.maskStep)
    .op("i32.mul")
    .op("i32.add");
  c.get(w.maskRow).get(w.maskStep).get(w.maskBytes).get(w.scale).call(mask).end();
  c.get(w.causal).if();
  area(task, areas.scores).get(seen).get(ahead).call(hide).end();
  area(task, areas.scores).get(seen).get(at.stats).get(w.scale).op("f32.reinterpret_i32").float(Math.LOG2E).op("f32.mul");
  c.float(Math.LOG2E).get(w.maskBytes).op("i32.eqz").op("select").op("i32.reinterpret_f32").get(at.sums);
  c.get(at.tallValues).int(0).get(at.j0).op("select").call(weights);
  c.get(at.tallValues).int(lanes).get(seen);
  area(task, areas.values);
  area(task, areas.scores)
    .get(at.sums)
    .int(4 * lanes)
    .get(at.j0);
  area(task, scratch.tile).get(at.keys).call(parts.panels).end();
}

/**
 * finish(sums, value width, statistics, out, bytes per row, first query, queries, row, slot): divides the sums of a panel by the sums of
 * weights, turns them into rows and stores these; a query that saw nothing gets 0.
 */
function emitFinishPanel(module: Module, { tileVectors }: Flavour): Code {
  const finish = module.signature(rowParams, []);
  const c = module.func(undefined, new Array(9).fill(i32));
  const [sums, width, stats, out, outRow, first, queries, row, slot] = [0, 1, 2, 3, 4, 5, 6, 7, 8];
  const [q, d, from, to, lanes] = c.locals(i32, 5) as [Local, Local, Local, Local, Local];
  const [total, factor] = [c.local(v128), c.local(f32)];
  for (let v = 0; v < tileVectors; v++) {
    // The greatest weight is 1, so a sum below that is of hidden keys only.
    c.get(stats)
      .floats(1)
      .get(stats)
      .memory("v128.load", 16 * (tileVectors + v))
      .tee(total)
      .op("f32x4.div");
    c.get(total)
      .floats(0.5)
      .op("f32x4.lt")
      .op("v128.not")
      .op("v128.and")
      .memory("v128.store", 16 * v);
  }
  c.int(4 * tileVectors).set(lanes);
  pushSmaller(c, queries, lanes).set(lanes);
  // A one-entry operand table in front of the row.
  c.get(row).get(out).memory("i32.store").get(row).get(outRow).memory("i32.store", 8);
  c.forLess(q, lanes, 1, () => {
    c.get(sums).get(q).int(2).op("i32.shl").op("i32.add").set(from).get(row).int(16).op("i32.add").set(to);
    c.get(stats).get(q).int(2).op("i32.shl").op("i32.add").memory("f32.load").set(factor);
    c.forLess(d, width, 1, () => {
      c.get(to)
        .float(0)
        .get(from)
        .memory("f32.load")
        .get(factor)
        .op("f32.mul")
        .get(factor)
        .float(0)
        .op("f32.eq")
        .op("select")
        .memory("f32.store");
      c.advance(to, 4).advance(from, 16 * tileVectors);
    });
    c.get(row).int(0).get(first).get(q).op("i32.add").int(0).get(width).get(row).int(16).op("i32.add");
    c.get(row)
      .int(scratch.staged - areas.row)
      .op("i32.add")
      .get(slot)
      .callIndirect(finish);
  });
  return c;
}
