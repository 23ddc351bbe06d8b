// Attention without the score matrix: blocks of queries against blocks of keys with a running maximum and sum per query.
// The recurrence is that of FlashAttention (Dao et al. 2022, algorithm 1); both products use the matrix panels.
import { across, operandModes, rowBlock, scratch } from "./blocking.ts";
import { type Code, f32, i32, type Local, type Module, v128 } from "./encoder.ts";
import type { Flavour, MatrixParts } from "./gemm.ts";
import { rowParams } from "./row-function.ts";
import { address, loadLanes, loadWords, overRow, spread } from "./row-kernels.ts";
import { SimdMath } from "./simd-math.ts";

/** Keys taken at a time. */
const keyBlock = 256;
/** Queries of a task. */
export const queryBlock = rowBlock;
/** Widest heads the scratch holds. */
export const maxHeadWidth = 512;

/** Words of an attention job; q, k, v, o and mask come with their strides in bytes. */
export const attentionArgs = [
  ...["slot", "blocks", "heads", "group", "l", "s", "width", "valueWidth", "scale", "causal"],
  ...["q", "qBatch", "qHead", "qRow", "qMode"],
  ...["k", "kBatch", "kHead", "kRow", "kMode"],
  ...["v", "vBatch", "vHead", "vRow", "vMode"],
  ...["o", "oBatch", "oHead", "oRow"],
  ...["mask", "maskBatch", "maskHead", "maskRow", "maskStep", "maskBytes"],
  ...["lengths", "lengthStep"],
] as const;

/** Areas inside the scratch's result part: scores, packed weights, sums of values, statistics (maximum and sum per query). */
const areas = { scores: 0, packed: 131_072, values: 262_144, stats: 524_288 } as const;

type Words = Record<(typeof attentionArgs)[number], Local>;

/** Emits the export `attention`. */
export function emitAttention(module: Module, parts: MatrixParts, { fma }: Flavour): void {
  const maskRow = emitMaskRow(module, fma);
  const updateRow = emitUpdateRow(module, fma);
  const finishRow = emitFinishRow(module, fma);
  const finish = module.signature(rowParams, []);
  const c = module.func("attention", [i32, i32, i32]);
  const w = loadWords(c, attentionArgs) as Words;
  const [b, head, i0, rows, limit, j0, keys, r] = c.locals(i32, 8) as [Local, Local, Local, Local, Local, Local, Local, Local];
  const [valid, scores, values, stats] = c.locals(i32, 4) as [Local, Local, Local, Local];
  const part = (offset: number): Code => c.get(2).int(offset).op("i32.add");
  const move = (name: "q" | "k" | "v" | "o" | "mask", headLocal: Local) => {
    c.get(w[name]).get(b).get(w[`${name}Batch`]).op("i32.mul").op("i32.add");
    c.get(headLocal).get(w[`${name}Head`]).op("i32.mul").op("i32.add").set(w[name]);
  };
  const smaller = (x: Local) => c.tee(valid).get(x).get(valid).get(x).op("i32.lt_s").op("select");

  c.get(0).get(w.blocks).op("i32.rem_u").int(queryBlock).op("i32.mul").set(i0);
  c.get(0).get(w.blocks).op("i32.div_u").tee(0).get(w.heads).op("i32.div_u").set(b);
  c.get(0).get(w.heads).op("i32.rem_u").set(head);
  for (const name of ["q", "o", "mask"] as const) move(name, head);
  c.get(head).get(w.group).op("i32.div_u").set(head);
  for (const name of ["k", "v"] as const) move(name, head);
  c.get(w.l).get(i0).op("i32.sub").set(rows).int(queryBlock);
  smaller(rows).set(rows).get(w.s).set(limit).get(w.lengths).if();
  c.get(w.lengths).get(b).get(w.lengthStep).op("i32.mul").op("i32.add").memory("i32.load");
  smaller(limit).set(limit).end().get(w.causal).if().get(i0).get(rows).op("i32.add");
  smaller(limit).set(limit).end();

  c.get(w.qMode).get(w.q).get(w.qRow).get(i0).get(rows).int(0).get(w.width);
  part(scratch.wide);
  part(scratch.packedA).call(parts.packRows);
  part(scratch.result + areas.values).set(values);
  part(scratch.result + areas.stats).set(stats);
  c.get(rows).get(w.valueWidth).op("i32.mul").set(keys);
  overRow(c, keys, (lanes, offset) => {
    address(c, values, offset);
    if (lanes === 4) c.floats(0).memory("v128.store");
    else c.float(0).memory("f32.store");
  });
  c.forLess(r, rows, 1, () => {
    c.get(stats).get(r).int(3).op("i32.shl").op("i32.add").tee(valid).float(Number.NEGATIVE_INFINITY).memory("f32.store");
    c.get(valid).float(0).memory("f32.store", 4);
  });

  c.forLess(j0, limit, keyBlock, () => {
    c.get(limit).get(j0).op("i32.sub").set(keys).int(keyBlock);
    smaller(keys).set(keys);
    c.get(w.kMode).get(w.k).get(w.kRow).get(j0).get(keys).int(0).get(w.width);
    part(scratch.wide);
    part(scratch.packedB).call(parts.packColumns);
    c.get(rows).get(keys).get(w.width);
    part(scratch.packedA);
    part(scratch.packedB);
    part(scratch.result + areas.scores)
      .int(4 * keyBlock)
      .int(0);
    part(scratch.tile).call(parts.panels);
    part(scratch.result + areas.scores).set(scores);
    part(scratch.result + areas.values).set(values);
    c.forLess(r, rows, 1, () => {
      c.get(keys).set(valid).get(w.causal).if().get(i0).get(r).op("i32.add").int(1).op("i32.add").get(j0).op("i32.sub").set(valid);
      c.get(valid).int(0).get(valid).int(0).op("i32.gt_s").op("select").set(valid);
      c.get(valid).get(keys).get(valid).get(keys).op("i32.lt_s").op("select").set(valid).end();
      c.get(w.maskBytes).if().get(scores).get(valid).get(w.mask).get(i0).get(r).op("i32.add").get(w.maskRow).op("i32.mul").op("i32.add");
      c.get(j0).get(w.maskStep).op("i32.mul").op("i32.add").get(w.maskStep).get(w.maskBytes).get(w.scale).call(maskRow).end();
      c.get(scores).get(valid).get(keys).get(stats).get(r).int(3).op("i32.shl").op("i32.add").get(values).get(w.valueWidth);
      c.get(w.scale).int(0x3f800000).get(w.maskBytes).op("i32.eqz").op("select").op("f32.reinterpret_i32").call(updateRow);
      c.advance(scores, 4 * keyBlock);
      c.get(values).get(w.valueWidth).int(2).op("i32.shl").op("i32.add").set(values);
    });
    c.int(operandModes.f32);
    part(scratch.result + areas.scores)
      .int(4 * keyBlock)
      .int(0)
      .get(rows)
      .int(0)
      .get(keys);
    part(scratch.wide);
    part(scratch.result + areas.packed).call(parts.packRows);
    c.get(w.vMode).int(across).op("i32.add").get(w.v).get(w.vRow).int(0).get(w.valueWidth).get(j0).get(keys);
    part(scratch.wide);
    part(scratch.packedB).call(parts.packColumns);
    c.get(rows).get(w.valueWidth).get(keys);
    part(scratch.result + areas.packed);
    part(scratch.packedB);
    part(scratch.result + areas.values)
      .get(w.valueWidth)
      .int(2)
      .op("i32.shl")
      .int(1);
    part(scratch.tile).call(parts.panels);
  });

  // A one-entry operand table of this thread: the output of this head.
  part(scratch.lanes).tee(keys).get(w.o).memory("i32.store").get(keys).get(w.oRow).memory("i32.store", 8);
  part(scratch.result + areas.values).set(values);
  c.forLess(r, rows, 1, () => {
    c.get(values).get(w.valueWidth).get(stats).get(r).int(3).op("i32.shl").op("i32.add").call(finishRow);
    c.get(keys).int(0).get(i0).get(r).op("i32.add").int(0).get(w.valueWidth).get(values).get(w.slot).callIndirect(finish);
    c.get(values).get(w.valueWidth).int(2).op("i32.shl").op("i32.add").set(values);
  });
}

/** maskRow(scores, count, mask, mask step, mask bytes, scale bits): scores = scores · scale + mask; one-byte masks keep where nonzero. */
function emitMaskRow(module: Module, fma: boolean): Code {
  const c = module.func(undefined, [i32, i32, i32, i32, i32, i32]);
  const [scores, count, mask, step, bytes, scale] = [0, 1, 2, 3, 4, 5];
  const math = new SimdMath(c, fma);
  const [i, factor] = [c.local(i32), c.local(v128)];
  c.get(scale).op("f32.reinterpret_i32").op("f32x4.splat").set(factor);
  c.get(step).int(4).op("i32.eq").get(bytes).int(4).op("i32.eq").op("i32.and").if();
  overRow(c, count, (lanes, offset) => {
    address(c, scores, offset);
    loadLanes(c, math, scores, offset, lanes, 0);
    c.get(factor);
    loadLanes(c, math, mask, offset, lanes, 0);
    math.madd();
    math.store("f32", lanes);
  });
  c.op("return").end();
  const scaled = () => c.get(scores).memory("f32.load").get(scale).op("f32.reinterpret_i32").op("f32.mul");
  c.forLess(i, count, 1, () => {
    c.get(bytes).int(1).op("i32.eq").if().get(scores);
    scaled().float(Number.NEGATIVE_INFINITY).get(mask).memory("i32.load8_u").op("select").memory("f32.store");
    c.else().get(scores);
    scaled().get(mask).memory("f32.load").op("f32.add").memory("f32.store").end();
    c.advance(scores, 4).get(mask).get(step).op("i32.add").set(mask);
  });
  return c;
}

/**
 * updateRow(scores, valid, keys, statistics, values, value width, scale): scores become weights relative to the new maximum (0 beyond `valid`),
 * the query's statistics and value sums follow.
 */
function emitUpdateRow(module: Module, fma: boolean): Code {
  const c = module.func(undefined, [i32, i32, i32, i32, i32, i32, f32]);
  const [scores, valid, keys, stats, values, width, scale] = [0, 1, 2, 3, 4, 5, 6];
  const math = new SimdMath(c, fma);
  const [top, sum, y, factor, alpha] = c.locals(v128, 5) as [Local, Local, Local, Local, Local];
  const rest = c.local(i32);
  c.get(scale).op("f32x4.splat").set(factor).floats(Number.NEGATIVE_INFINITY).set(top);
  overRow(c, valid, (lanes, offset) => {
    c.get(top);
    loadLanes(c, math, scores, offset, lanes, Number.NEGATIVE_INFINITY);
    c.get(factor).op("f32x4.mul").op("f32x4.max").set(top);
  });
  spread(c, top, "f32x4.max");
  c.get(top).get(stats).memory("f32.load").op("f32x4.splat").op("f32x4.max").set(top);
  // Nothing seen yet: a finite stand-in keeps -inf - -inf from becoming NaN.
  c.floats(0).get(top).get(top).floats(Number.NEGATIVE_INFINITY).op("f32x4.eq").op("v128.bitselect").set(y);
  c.get(stats).memory("f32.load").op("f32x4.splat").get(y).op("f32x4.sub");
  math.exp();
  c.set(alpha).get(valid).set(rest);
  const hide = () => c.get(scores).get(rest).int(2).op("i32.shl").op("i32.add").float(Number.NEGATIVE_INFINITY).memory("f32.store");
  c.forLess(rest, keys, 1, hide, "here");
  c.get(stats).get(top).extract("f32x4.extract_lane", 0).memory("f32.store").get(y).set(top).floats(0).set(sum);
  overRow(c, keys, (lanes, offset) => {
    loadLanes(c, math, scores, offset, lanes, Number.NEGATIVE_INFINITY);
    c.get(factor).op("f32x4.mul").get(top).op("f32x4.sub");
    math.exp();
    c.set(y);
    address(c, scores, offset).get(y);
    math.store("f32", lanes);
    c.get(sum).get(y).op("f32x4.add").set(sum);
  });
  spread(c, sum, "f32x4.add");
  c.get(stats).get(stats).memory("f32.load", 4).get(alpha).extract("f32x4.extract_lane", 0).op("f32.mul");
  c.get(sum).extract("f32x4.extract_lane", 0).op("f32.add").memory("f32.store", 4);
  c.get(alpha).extract("f32x4.extract_lane", 0).float(1).op("f32.eq").if().op("return").end();
  scaleRow(c, math, values, width, alpha);
  return c;
}

function scaleRow(c: Code, math: SimdMath, row: Local, width: Local, factor: Local): void {
  overRow(c, width, (lanes, offset) => {
    address(c, row, offset);
    loadLanes(c, math, row, offset, lanes, 0);
    c.get(factor).op("f32x4.mul");
    math.store("f32", lanes);
  });
}

/** finishRow(values, value width, statistics): divides by the sum of weights; a query that saw nothing stays 0. */
function emitFinishRow(module: Module, fma: boolean): Code {
  const c = module.func(undefined, [i32, i32, i32]);
  const math = new SimdMath(c, fma);
  const [sum, factor] = [c.local(f32), c.local(v128)];
  c.get(2).memory("f32.load", 4).set(sum).get(sum).float(0).op("f32.eq").if().op("return").end();
  c.float(1).get(sum).op("f32.div").op("f32x4.splat").set(factor);
  scaleRow(c, math, 0, 1, factor);
  return c;
}
