// The matrix product for few rows: dot products along stored weights, four columns at a time, without packing.
// It reads every weight once, so its limit is memory, where packing would write each one and read it again. The four columns are a quarter of the
// task apart: each goes on where it stopped, and the processor fetches ahead of four long runs rather than of many short ones.

import { type Code, i32, type Local, type Module, v128 } from "../../../wasm/encoder.ts";
import { type FloatKind, kindBytes } from "../../../wasm/simd-formats.ts";
import { scratch } from "./blocking.ts";
import { emitExpand } from "./expand.ts";
import type { Flavour } from "./flavour.ts";
import { loadWords, setEnd } from "./loops.ts";
import { rowParams } from "./row-function.ts";
import { SimdMath } from "./simd-math.ts";

/** Words of a gemv job: rows of a and lines of b run along k; `c` gets f32 rows `cStep` bytes apart when slot is 0. */
export const gemvArgs = [
  ...(["slot", "table", "m", "n", "k", "columnsPerTask", "a", "aMode", "aStep", "b", "bMode", "bStep", "c", "cStep"] as const),
] as const;

/** Most columns of a task. */
export const gemvColumns = 4096;

/** Emits the export `gemv`. */
export function emitGemv(module: Module, { fma }: Flavour): void {
  const expand = emitExpand(module, fma);
  const kinds = (["f32", "f16", "bf16"] as const).map((kind) => emitDots(module, kind, fma));
  const c = module.func("gemv", [i32, i32, i32]);
  const w = loadWords(c, gemvArgs);
  const [j0, end, row, j, from, results, count] = c.locals(i32, 7) as [Local, Local, Local, Local, Local, Local, Local];
  const [quarter, stop] = c.locals(i32, 2) as [Local, Local];
  const finish = module.signature(rowParams, []);
  c.get(0).get(w.columnsPerTask).op("i32.mul").set(j0);
  setEnd(c, j0, w.columnsPerTask, w.n, end).get(end).get(j0).op("i32.sub").set(count);
  c.forLess(row, w.m, 1, () => {
    c.get(w.a).get(row).get(w.aStep).op("i32.mul").op("i32.add").set(from);
    c.get(w.aMode).if().get(w.aMode).get(from).get(2).int(scratch.wide).op("i32.add").tee(from).get(w.k).call(expand).end();
    c.get(2).int(scratch.result).op("i32.add").set(results);
    c.get(count).int(3).op("i32.add").int(2).op("i32.shr_u").set(quarter);
    c.get(j0).get(quarter).op("i32.add").set(stop);
    c.get(j0).set(j);
    c.forLess(
      j,
      stop,
      1,
      () => {
        kinds.forEach((dots, mode) => {
          c.get(w.bMode).int(mode).op("i32.eq").if();
          c.get(from).get(w.k).get(w.b).get(w.bStep).get(j).get(end).get(quarter).get(results).call(dots).end();
        });
        c.advance(results, 4);
      },
      "here",
    );
    c.get(2).int(scratch.result).op("i32.add").set(results);
    c.get(w.slot)
      .if()
      .get(w.table)
      .int(0)
      .get(row)
      .get(j0)
      .get(count)
      .get(results)
      .get(2)
      .int(scratch.staged)
      .op("i32.add")
      .get(w.slot)
      .callIndirect(finish)
      .else();
    c.get(w.c).get(row).get(w.cStep).op("i32.mul").op("i32.add").get(j0).int(2).op("i32.shl").op("i32.add").set(from);
    c.get(from).get(results).get(count).int(2).op("i32.shl").copyBytes().end();
  });
}

/**
 * dots(a, k, b, bytes per line, first column, end of columns, apart, results): four dot products of columns `apart` from each other, whose results
 * lie as far from each other; columns past the end repeat the last.
 */
function emitDots(module: Module, kind: FloatKind, fma: boolean): Code {
  const c = module.func(undefined, new Array(8).fill(i32));
  const [a, k, b, step, column, end, apart, results] = [0, 1, 2, 3, 4, 5, 6, 7];
  const math = new SimdMath(c, fma);
  const [lines, sums, x, at] = [c.locals(i32, 4), c.locals(v128, 4), c.local(v128), c.local(i32)];
  lines.forEach((line, i) => {
    c.get(column)
      .get(apart)
      .int(i)
      .op("i32.mul")
      .op("i32.add")
      .tee(at)
      .get(end)
      .int(1)
      .op("i32.sub")
      .get(at)
      .get(end)
      .op("i32.lt_s")
      .op("select");
    c.get(step).op("i32.mul").get(b).op("i32.add").set(line);
  });
  for (const lanes of [4, 1] as const) {
    c.block().loop().get(k).int(lanes).op("i32.lt_s").branchIf(1);
    const load = (from: Local, stored: FloatKind) => {
      c.get(from);
      math.load(stored, lanes);
      if (lanes === 1) c.floats(0).shuffle(0, 4, 4, 4);
    };
    load(a, "f32");
    c.set(x);
    lines.forEach((line, i) => {
      load(line, kind);
      c.get(x).get(sums[i]!);
      math.madd();
      c.set(sums[i]!).advance(line, lanes * kindBytes[kind]);
    });
    c.advance(a, 4 * lanes)
      .advance(k, -lanes)
      .branch(0)
      .end()
      .end();
  }
  // Sums of all lanes by two rounds of transposed additions.
  const [s0, s1, s2, s3] = sums as [Local, Local, Local, Local];
  const half = (p: Local, q: Local) => c.get(p).get(q).shuffle(0, 1, 4, 5).get(p).get(q).shuffle(2, 3, 6, 7).op("f32x4.add");
  half(s0, s1).set(s0);
  half(s2, s3).set(s2);
  c.get(s0).get(s2).shuffle(0, 2, 4, 6).get(s0).get(s2).shuffle(1, 3, 5, 7).op("f32x4.add").set(x);
  for (let i = 0; i < 4; i++) {
    c.get(results).get(x).storeLane("v128.store32_lane", i);
    if (i < 3) c.get(results).get(apart).int(2).op("i32.shl").op("i32.add").set(results);
  }
  return c;
}
