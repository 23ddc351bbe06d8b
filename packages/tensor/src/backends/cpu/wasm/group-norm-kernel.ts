// Group norm: statistics of a group by chunks that stay in the first-level cache, merged in f64 (Chan, Golub and LeVeque 1979),
// then one pass that scales, applies the expression and stores. A task is one group of one image.

import { type Code, f64, i32, type Local, type Module, v128 } from "../../../wasm/encoder.ts";
import { scratch } from "./blocking.ts";
import { emitExpand } from "./expand.ts";
import type { Flavour } from "./flavour.ts";
import { loadLanes, loadWords, overVectors, setEnd } from "./loops.ts";
import { chunkMoments } from "./moments.ts";
import { rowParams } from "./row-function.ts";
import { maxRowColumns, widenVector } from "./row-kernels.ts";
import { SimdMath } from "./simd-math.ts";

/** Words of a groupNorm job; x is contiguous, `channels` those of one group, `all` those of all; rows of the table are channels. */
export const groupNormArgs = [
  ...(["slot", "table", "x", "xMode", "xBytes", "groups", "channels", "all", "area"] as const),
  ...(["weight", "weightMode", "bias", "biasMode", "eps"] as const),
] as const;

/** Values worked on at a time. */
const chunk = 4096;

/** Emits the export `groupNorm`. */
export function emitGroupNorm(module: Module, { fma }: Flavour): void {
  const expand = emitExpand(module, fma);
  const finish = module.signature(rowParams, []);
  const c = module.func("groupNorm", [i32, i32, i32]).keepConstants();
  new GroupNorm(c, new SimdMath(c, fma), expand, finish).emit();
}

class GroupNorm {
  readonly #c: Code;
  readonly #math: SimdMath;
  readonly #expand: Code;
  readonly #finish: number;
  readonly #w: Record<(typeof groupNormArgs)[number], Local>;
  readonly #first: Local;
  readonly #done: Local;
  readonly #end: Local;
  readonly #count: Local;
  readonly #from: Local;
  readonly #mean: Local;
  /** What the mean loses as f32. */
  readonly #meanRest: Local;
  readonly #scale: Local;

  constructor(c: Code, math: SimdMath, expand: Code, finish: number) {
    this.#c = c;
    this.#math = math;
    this.#expand = expand;
    this.#finish = finish;
    this.#w = loadWords(c, groupNormArgs);
    [this.#first, this.#done, this.#end, this.#count, this.#from] = c.locals(i32, 5) as [Local, Local, Local, Local, Local];
    [this.#mean, this.#meanRest, this.#scale] = c.locals(v128, 3) as [Local, Local, Local];
  }

  emit(): void {
    const { weight, weightMode, bias, biasMode, all } = this.#w;
    widenVector(this.#c, this.#expand, weight, weightMode, all, scratch.wide + 4 * maxRowColumns);
    widenVector(this.#c, this.#expand, bias, biasMode, all, scratch.packedB);
    this.#statistics();
    this.#apply();
  }

  /** A loop over `total` values by chunks, with #from at each chunk in f32 and its size in #count; `base` is the first value's number. */
  #chunks(total: Local, base: Local, visit: () => void): void {
    const c = this.#c;
    const { x, xMode, xBytes } = this.#w;
    const step = c.local(i32);
    c.int(chunk).set(step).int(0).set(this.#done).block().loop().get(this.#done).get(total).op("i32.ge_s").branchIf(1);
    setEnd(c, this.#done, step, total, this.#end).get(this.#end).get(this.#done).op("i32.sub").set(this.#count);
    c.get(x).get(base).get(this.#done).op("i32.add").get(xBytes).op("i32.mul").op("i32.add").set(this.#from);
    c.get(xMode).if().get(xMode).get(this.#from).get(2).int(scratch.wide).op("i32.add").tee(this.#from).get(this.#count);
    c.call(this.#expand).end();
    visit();
    c.get(this.#end).set(this.#done).branch(0).end().end();
  }

  #statistics(): void {
    const c = this.#c;
    const [total, area] = [c.local(i32), this.#w.area];
    const [mean, squares, delta] = c.locals(f64, 3) as [Local, Local, Local];
    c.get(this.#w.channels).get(area).op("i32.mul").tee(total).get(0).op("i32.mul").set(this.#first);
    this.#chunks(total, this.#first, () => {
      const [pilot, center, spread] = chunkMoments(c, this.#math, this.#from, this.#count);
      const count = (x: Local) => c.get(x).op("f64.convert_i32_s");
      const wide = (x: Local) => c.get(x).extract("f32x4.extract_lane", 0).op("f64.promote_f32");
      wide(pilot);
      wide(center).op("f64.add").get(mean).op("f64.sub").set(delta);
      c.get(mean).get(delta);
      count(this.#count).op("f64.mul");
      count(this.#end).op("f64.div").op("f64.add").set(mean);
      c.get(squares);
      wide(spread).op("f64.add").get(delta).get(delta).op("f64.mul");
      count(this.#done).op("f64.mul");
      count(this.#count).op("f64.mul");
      count(this.#end).op("f64.div").op("f64.add").set(squares);
    });
    c.get(mean).op("f32.demote_f64").op("f32x4.splat").set(this.#mean);
    c.get(mean).get(this.#mean).extract("f32x4.extract_lane", 0).op("f64.promote_f32").op("f64.sub").op("f32.demote_f64");
    c.op("f32x4.splat").set(this.#meanRest);
    c.int(1).op("f64.convert_i32_s").get(squares).get(total).op("f64.convert_i32_s").op("f64.div");
    c.get(this.#w.eps).op("f32.reinterpret_i32").op("f64.promote_f32").op("f64.add").op("f64.sqrt").op("f64.div");
    c.op("f32.demote_f64").op("f32x4.splat").set(this.#scale);
  }

  #apply(): void {
    const c = this.#c;
    const { slot, table, groups, channels, area, weight, bias } = this.#w;
    const [i, batch, channel, to] = c.locals(i32, 4) as [Local, Local, Local, Local];
    const [scale, shift] = c.locals(v128, 2) as [Local, Local];
    c.get(0).get(groups).op("i32.div_u").set(batch);
    const perChannel = (base: Local) =>
      c.get(base).get(channel).int(4).op("i32.mul").op("i32.add").memory("v128.load32_splat").op("f32x4.mul");
    c.forLess(i, channels, 1, () => {
      c.get(0).get(groups).op("i32.rem_u").get(channels).op("i32.mul").get(i).op("i32.add").set(channel);
      c.get(this.#scale).set(scale).get(weight).if().get(scale);
      perChannel(weight).set(scale).end();
      c.floats(0).set(shift).get(bias).if().floats(1);
      perChannel(bias).set(shift).end().get(shift).get(this.#meanRest).get(scale).op("f32x4.mul").op("f32x4.sub").set(shift);
      this.#chunks(area, this.#first, () => {
        c.get(slot).if().get(2).int(scratch.result).op("i32.add").set(to).else();
        c.get(table).memory("i32.load").get(batch).get(table).memory("i32.load", 4).op("i32.mul").op("i32.add");
        c.get(channel).get(table).memory("i32.load", 8).op("i32.mul").op("i32.add").get(this.#done).int(2).op("i32.shl").op("i32.add");
        c.set(to).end();
        overVectors(c, this.#count, 2, (lanes, offset, at) => {
          c.get(to).get(offset).op("i32.add");
          loadLanes(c, this.#math, this.#from, offset, lanes, 0, at);
          c.get(this.#mean).op("f32x4.sub").get(scale).get(shift);
          this.#math.madd();
          this.#math.store("f32", lanes, at);
        });
        c.get(slot)
          .if()
          .get(table)
          .get(batch)
          .get(channel)
          .get(this.#done)
          .get(this.#count)
          .get(to)
          .get(2)
          .int(scratch.staged)
          .op("i32.add")
          .get(slot)
          .callIndirect(this.#finish);
        c.end();
      });
      c.get(this.#first).get(area).op("i32.add").set(this.#first);
    });
  }
}
