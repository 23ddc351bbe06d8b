// Bilinear reading of images at places: some places' windows of pixels are found first, two rows of four for each, then summed for every channel.
import { type Code, i32, type Local, type Module, v128 } from "../../../wasm/encoder.ts";
import { scratch } from "./blocking.ts";
import { emitResults, firstAt, maskAt, windowBytes } from "./filter-kernel.ts";
import { loadWords, setEnd } from "./loops.ts";

/**
 * Words of a job: `places` pairs x, y in `grid`, read from `channels` planes of `planeBytes` with rows of `rowBytes`. `padding`: 0 zeros, 1 border, 2
 * reflection. Then pairs for x and y: factors and shifts (f32) from -1…1 to pixels, where mirrors begin and how far apart they are (f32), the last
 * pixels (f32); and the last pixel of a row that begins a window, and the last row.
 */
export const gridSampleArgs = [
  ...(["x", "planeBytes", "rowBytes", "grid", "out", "channels", "places", "placesPerTask", "padding"] as const),
  ...(["scaleX", "scaleY", "shiftX", "shiftY", "lowX", "lowY", "spanX", "spanY", "mostX", "mostY", "lastStart", "lastRow"] as const),
] as const;
type Words = Record<(typeof gridSampleArgs)[number], Local>;

/** Places whose windows lie in scratch at a time. */
export const placeBlock = 128;
const entries = scratch.wide;

/** Emits the export `gridSample`, of f32. */
export function emitGridSample(module: Module): void {
  const c = module.func("gridSample", [i32, i32, i32]);
  const w = loadWords(c, gridSampleArgs);
  const [first, end, count, entry, channel, from, to, left] = c.locals(i32, 8) as [Local, Local, Local, Local, Local, Local, Local, Local];
  const tables = (): Code => c.get(2).int(entries).op("i32.add").set(entry);
  const place = placeWindows(c, w);
  c.get(0).get(w.placesPerTask).op("i32.mul").set(first);
  setEnd(c, first, w.placesPerTask, w.places, end);
  c.forLess(
    first,
    end,
    placeBlock,
    () => {
      c.get(end).get(first).op("i32.sub").tee(count).int(placeBlock).get(count).int(placeBlock).op("i32.lt_s").op("select").set(count);
      tables();
      c.get(w.grid).get(first).int(3).op("i32.shl").op("i32.add").set(from);
      c.get(count).set(left).loop();
      place(from, entry);
      c.advance(from, 8)
        .advance(entry, 2 * windowBytes)
        .advance(left, -1)
        .get(left)
        .branchIf(0)
        .end();
      c.forLess(channel, w.channels, 1, () => {
        c.get(w.x).get(channel).get(w.planeBytes).op("i32.mul").op("i32.add").set(from);
        c.get(w.out).get(channel).get(w.places).op("i32.mul").get(first).op("i32.add").int(2).op("i32.shl").op("i32.add").set(to);
        c.get(count).set(left);
        tables();
        emitResults(c, { from, to, left, entry, vectors: left }, 2);
      });
    },
    "here",
  );
}

/** What writes the two windows of the place at `from` to `entry`; x is in the first lane, y in the second. */
function placeWindows(c: Code, w: Words): (from: Local, entry: Local) => void {
  const [scale, shift, low, span, most] = (["scaleX", "shiftX", "lowX", "spanX", "mostX"] as const).map((name) => pair(c, name)) as Five;
  const [at, whole, pixel, number, weights] = c.locals(v128, 5) as Five;
  const [part, left, right, mask] = c.locals(v128, 4) as [Local, Local, Local, Local];
  const [x, column, y, row] = c.locals(i32, 4) as [Local, Local, Local, Local];
  const both = (v: Local, lane: 0 | 1) => c.get(v).get(v).shuffle(lane, lane, lane, lane);
  return (from, entry) => {
    c.get(from).memory("v128.load64_zero").op("f64x2.promote_low_f32x4");
    c.doubles(1).op("f64x2.add").get(scale).op("f64x2.mul").get(shift).op("f64x2.sub").set(at);
    c.get(w.padding).int(2).op("i32.eq").if();
    mirror(c, at, low, span, whole);
    c.end().get(w.padding).if().get(at).doubles(0).op("f64x2.pmax").get(most).op("f64x2.pmin").set(at).end();
    c.get(at).op("f64x2.floor").tee(whole).op("i32x4.trunc_sat_f64x2_s_zero").set(pixel);
    c.get(at).get(whole).op("f64x2.sub").op("f32x4.demote_f64x2_zero").set(part);
    c.get(at).get(at).op("f64x2.eq").set(at).get(at).get(at).get(at).shuffle(2, 3, 0, 1).op("v128.and").set(number);
    c.get(pixel).extract("i32x4.extract_lane", 0).set(x).get(pixel).extract("i32x4.extract_lane", 1).set(y);
    within(c, x, w.lastStart, column);
    // Lanes of the window that the left pixel and the right one lie in: none where they are outside, or the place is no number.
    c.get(x).get(column).op("i32.sub").op("i32x4.splat").set(weights);
    c.words([0, 1, 2, 3]).get(weights).op("i32x4.eq").get(number).op("v128.and").set(left);
    c.words([-1, 0, 1, 2]).get(weights).op("i32x4.eq").get(number).op("v128.and").set(right);
    c.floats(1);
    both(part, 0).op("f32x4.sub").get(left).op("v128.and");
    both(part, 0).get(right).op("v128.and").op("v128.or").set(weights).get(left).get(right).op("v128.or").set(left);
    both(part, 1).set(part);
    for (const below of [0, 1] as const) {
      if (below) c.advance(y, 1);
      within(c, y, w.lastRow, row);
      const base = below * windowBytes;
      c.get(entry)
        .get(row)
        .get(w.rowBytes)
        .op("i32.mul")
        .get(column)
        .int(2)
        .op("i32.shl")
        .op("i32.add")
        .memory("i32.store", base + firstAt);
      c.int(0).get(y).get(row).op("i32.eq").op("i32.sub").op("i32x4.splat").get(left).op("v128.and").set(mask);
      c.get(entry)
        .get(mask)
        .memory("v128.store", base + maskAt)
        .get(entry)
        .get(weights);
      if (below) c.get(part);
      else c.floats(1).get(part).op("f32x4.sub");
      c.op("f32x4.mul").get(mask).op("v128.and").memory("v128.store", base);
    }
  };
}
type Five = [Local, Local, Local, Local, Local];

/** A local with two f32 words of the job, from `name` on, as f64. */
function pair(c: Code, name: (typeof gridSampleArgs)[number]): Local {
  const value = c.local(v128);
  c.get(1)
    .memory("v128.load64_zero", 4 * gridSampleArgs.indexOf(name))
    .op("f64x2.promote_low_f32x4")
    .set(value);
  return value;
}

/** into = value, or what is nearest to it in 0 … most */
function within(c: Code, value: Local, most: Local, into: Local): void {
  c.get(value).int(0).get(value).int(0).op("i32.gt_s").op("select").set(into);
  c.get(into).get(most).get(into).get(most).op("i32.lt_s").op("select").set(into);
}

/** at = mirrored into low … low + span, as often as it needs; 0 where the span is. */
function mirror(c: Code, at: Local, low: Local, span: Local, turns: Local): void {
  c.get(at).get(low).op("f64x2.sub").op("f64x2.abs").set(at);
  c.get(at).get(span).op("f64x2.div").op("f64x2.floor").set(turns);
  c.get(at).get(turns).get(span).op("f64x2.mul").op("f64x2.sub").set(at);
  // Odd turns go backwards.
  c.get(span).get(at).op("f64x2.sub").get(at);
  c.get(turns).doubles(0.5).op("f64x2.mul").set(turns).get(turns).op("f64x2.floor").get(turns).op("f64x2.ne").op("v128.bitselect");
  c.get(low).op("f64x2.add").get(span).doubles(0).op("f64x2.ne").op("v128.and").set(at);
}
