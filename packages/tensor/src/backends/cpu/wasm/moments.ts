// Mean and sum of squared distances of values that stay in the first-level cache: parts that variances of longer stretches are merged from.
import { type Code, type Local, v128 } from "../../../wasm/encoder.ts";
import { loadLanes, overVectors } from "./loops.ts";
import { combine, fillAll } from "./row-kernels.ts";
import type { SimdMath } from "./simd-math.ts";

/** First value, mean less the first value, and sum of squared distances from the mean of `count` f32 values at `from`, in all lanes. */
export function chunkMoments(c: Code, math: SimdMath, from: Local, count: Local): [Local, Local, Local] {
  const [sums, [pilot, mean, x]] = [c.locals(v128, 4), c.locals(v128, 3) as [Local, Local, Local]];
  // Sums of distances from the first value keep the bits that sums of values far from zero would lose.
  const distance = (lanes: 1 | 4, offset: Local, at: number) => {
    loadLanes(c, math, from, offset, lanes, 0, at);
    c.get(pilot).op("f32x4.sub");
    if (lanes === 1) c.floats(0).shuffle(0, 4, 4, 4);
  };
  c.get(from).memory("v128.load32_splat").set(pilot);
  fillAll(c, sums, 0);
  overVectors(c, count, 4, (lanes, offset, at, v) => {
    c.get(sums[v]!);
    distance(lanes, offset, at);
    c.op("f32x4.add").set(sums[v]!);
  });
  c.get(combine(c, sums, "f32x4.add"))
    .get(count)
    .op("f32.convert_i32_s")
    .op("f32x4.splat")
    .op("f32x4.div")
    .set(mean);
  fillAll(c, sums, 0);
  overVectors(c, count, 4, (lanes, offset, at, v) => {
    distance(lanes, offset, at);
    c.get(mean).op("f32x4.sub").set(x);
    if (lanes === 1) c.get(x).floats(0).shuffle(0, 4, 4, 4).set(x);
    c.get(x).get(x).get(sums[v]!);
    math.madd();
    c.set(sums[v]!);
  });
  return [pilot, mean, combine(c, sums, "f32x4.add")];
}
