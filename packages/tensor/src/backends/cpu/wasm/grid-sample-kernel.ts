// Bilinear and bicubic reading of images at places: some places' windows of pixels are found first, two or four rows of four for each, then summed
// for every channel.
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

/** The emitter of the export `gridSample.<taps>`, of f32: bilinear by 2 x 2 pixels, bicubic by 4 x 4. */
export const emitGridSample =
  (taps: 2 | 4) =>
  (module: Module): void => {
    const c = module.func(`gridSample.${taps}`, [i32, i32, i32]);
    const w = loadWords(c, gridSampleArgs);
    const [first, end, count, entry, channel, from, to, left] = c.locals(i32, 8) as [
      Local,
      Local,
      Local,
      Local,
      Local,
      Local,
      Local,
      Local,
    ];
    const tables = (): Code => c.get(2).int(entries).op("i32.add").set(entry);
    const place = placeWindows(c, w, taps);
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
          .advance(entry, taps * windowBytes)
          .advance(left, -1)
          .get(left)
          .branchIf(0)
          .end();
        c.forLess(channel, w.channels, 1, () => {
          c.get(w.x).get(channel).get(w.planeBytes).op("i32.mul").op("i32.add").set(from);
          c.get(w.out).get(channel).get(w.places).op("i32.mul").get(first).op("i32.add").int(2).op("i32.shl").op("i32.add").set(to);
          c.get(count).set(left);
          tables();
          emitResults(c, { from, to, left, entry, vectors: left }, taps);
        });
      },
      "here",
    );
  };

/** Neighbours of a place along both axes: x in the first lane, y in the second, the lowest first. */
interface Taps {
  /** Pixels, as i32. */
  readonly pixels: readonly Local[];
  /** f32. */
  readonly weights: readonly Local[];
}

/** What writes a window for each row of the place at `from` to `entry`. */
function placeWindows(c: Code, w: Words, count: 2 | 4): (from: Local, entry: Local) => void {
  const [scale, shift] = [pair(c, "scaleX"), pair(c, "shiftX")];
  const padded = padding(c, w);
  const [at, number, lanes, mask, across, here] = c.locals(v128, 6) as [Local, Local, Local, Local, Local, Local];
  const taps: Taps = { pixels: c.locals(v128, count), weights: c.locals(v128, count) };
  const [column, y, row] = c.locals(i32, 3) as [Local, Local, Local];
  const both = (v: Local, lane: 0 | 1) => c.get(v).get(v).shuffle(lane, lane, lane, lane);
  const find = count === 2 ? linearTaps(c, padded) : cubicTaps(c, padded);
  return (from, entry) => {
    c.get(from).memory("v128.load64_zero").op("f64x2.promote_low_f32x4");
    c.doubles(1).op("f64x2.add").get(scale).op("f64x2.mul").get(shift).op("f64x2.sub").set(at);
    c.get(at).get(at).op("f64x2.eq").set(number).get(number).get(number).get(number).shuffle(2, 3, 0, 1).op("v128.and").set(number);
    find(at, taps);
    // Lanes of the window that hold a neighbour: none for those outside, or where the place is no number.
    for (const [i, pixel] of taps.pixels.entries()) i === 0 ? c.get(pixel) : c.get(pixel).op("i32x4.min_s");
    c.extract("i32x4.extract_lane", 0).set(column);
    within(c, column, w.lastStart, column);
    c.words([0, 1, 2, 3]).get(column).op("i32x4.splat").op("i32x4.add").set(lanes).ints(0).set(mask).ints(0).set(across);
    for (const [i, pixel] of taps.pixels.entries()) {
      both(pixel, 0).get(lanes).op("i32x4.eq").get(number).op("v128.and").set(here).get(mask).get(here).op("v128.or").set(mask).get(across);
      both(taps.weights[i]!, 0).get(here).op("v128.and").op("f32x4.add").set(across);
    }
    for (const [i, pixel] of taps.pixels.entries()) {
      const base = i * windowBytes;
      c.get(pixel).extract("i32x4.extract_lane", 1).set(y);
      within(c, y, w.lastRow, row);
      c.get(entry).get(row).get(w.rowBytes).op("i32.mul").get(column).int(2).op("i32.shl").op("i32.add");
      c.memory("i32.store", base + firstAt);
      c.int(0).get(y).get(row).op("i32.eq").op("i32.sub").op("i32x4.splat").get(mask).op("v128.and").set(here);
      c.get(entry)
        .get(here)
        .memory("v128.store", base + maskAt)
        .get(entry);
      both(taps.weights[i]!, 1).get(across).op("f32x4.mul").get(here).op("v128.and").memory("v128.store", base);
    }
  };
}

/** What brings a place to the border or mirrors it, as the job says. */
function padding(c: Code, w: Words): (at: Local) => void {
  const [low, span, most] = [pair(c, "lowX"), pair(c, "spanX"), pair(c, "mostX")];
  const turns = c.local(v128);
  return (at) => {
    c.get(w.padding).if().get(w.padding).int(2).op("i32.eq").if();
    mirror(c, at, low, span, turns);
    c.end().get(at).doubles(0).op("f64x2.pmax").get(most).op("f64x2.pmin").set(at).end();
  };
}

/** The two neighbours of a place inside the border. */
function linearTaps(c: Code, padded: (at: Local) => void): (at: Local, taps: Taps) => void {
  const [whole, part] = c.locals(v128, 2) as [Local, Local];
  return (at, { pixels, weights }) => {
    padded(at);
    c.get(at).op("f64x2.floor").tee(whole).op("i32x4.trunc_sat_f64x2_s_zero").tee(pixels[0]!).ints(1).op("i32x4.add").set(pixels[1]!);
    c.get(at).get(whole).op("f64x2.sub").tee(part).op("f32x4.demote_f64x2_zero").set(weights[1]!);
    c.doubles(1).get(part).op("f64x2.sub").op("f32x4.demote_f64x2_zero").set(weights[0]!);
  };
}

/** Four neighbours, each brought inside by itself, with the weights of Keys' cubic with torch's constant. */
function cubicTaps(c: Code, padded: (at: Local) => void): (at: Local, taps: Taps) => void {
  const a = -0.75;
  const [whole, part, d, pixel] = c.locals(v128, 4) as [Local, Local, Local, Local];
  /** The value of a polynomial of d, the highest power's factor first. */
  const polynomial = ([first, ...rest]: readonly number[]) => {
    c.doubles(first!);
    for (const factor of rest) c.get(d).op("f64x2.mul").doubles(factor).op("f64x2.add");
  };
  return (at, { pixels, weights }) => {
    c.get(at).op("f64x2.floor").set(whole).get(at).get(whole).op("f64x2.sub").set(part);
    for (const [i, to] of pixels.entries()) {
      c.get(whole)
        .doubles(i - 1)
        .op("f64x2.add")
        .set(pixel);
      padded(pixel);
      c.get(pixel).op("i32x4.trunc_sat_f64x2_s_zero").set(to);
      c.get(part)
        .doubles(i - 1)
        .op("f64x2.sub")
        .op("f64x2.abs")
        .set(d);
      polynomial(i === 1 || i === 2 ? [a + 2, -(a + 3), 0, 1] : [a, -5 * a, 8 * a, -4 * a]);
      c.op("f32x4.demote_f64x2_zero").set(weights[i]!);
    }
  };
}

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
