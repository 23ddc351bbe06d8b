// Masks over a panel of scores that lies key by key, queries side by side.
import { type Code, i32, type Local, type Module, v128 } from "../../../wasm/encoder.ts";
import type { Flavour } from "./flavour.ts";
import { SimdMath } from "./simd-math.ts";

/** Pushes the smaller of two numbers. */
export const pushSmaller = (c: Code, x: Local, y: Local): Code => c.get(x).get(y).get(x).get(y).op("i32.lt_s").op("select");

/** hide(scores, keys, ahead): -inf where the key lies behind the query; query q of the panel sees keys up to ahead + q. */
export function emitHide(module: Module, { tileVectors }: Flavour): Code {
  const c = module.func(undefined, [i32, i32, i32]);
  const [scores, keys, ahead] = [0, 1, 2];
  const [j, q, at, lanes] = c.locals(i32, 4) as [Local, Local, Local, Local];
  c.get(ahead).int(1).op("i32.add").tee(j).int(0).get(j).int(0).op("i32.gt_s").op("select").set(j);
  const row = () => {
    c.get(scores)
      .get(j)
      .int(16 * tileVectors)
      .op("i32.mul")
      .op("i32.add")
      .set(at);
    c.get(j).get(ahead).op("i32.sub").set(lanes);
    c.int(4 * tileVectors).set(q);
    pushSmaller(c, lanes, q).set(lanes);
    c.forLess(q, lanes, 1, () => c.get(at).float(Number.NEGATIVE_INFINITY).memory("f32.store").advance(at, 4));
  };
  c.forLess(j, keys, 1, row, "here");
  return c;
}

/**
 * mask(scores, keys, queries, mask, bytes between queries, bytes between keys, bytes of an element, scale): scores = scores · scale + mask;
 * masks of bytes keep where nonzero. Masks whose keys are neighbours are turned four by four.
 */
export function emitMask(module: Module, { fma, tileVectors }: Flavour): Code {
  const column = emitMaskColumn(module, tileVectors);
  const quads = ([1, 4] as const).map((size) => [size, emitMaskQuad(module, fma, tileVectors, size)] as const);
  const c = module.func(undefined, new Array(8).fill(i32));
  const [scores, keys, queries, mask, row, step, bytes, scale] = [0, 1, 2, 3, 4, 5, 6, 7];
  const [q, x, lanes, whole, turned] = c.locals(i32, 5) as [Local, Local, Local, Local, Local];
  c.int(4 * tileVectors).set(lanes);
  pushSmaller(c, queries, lanes).set(lanes);
  c.get(step).get(bytes).op("i32.eq").set(turned);
  c.block().loop().get(q).get(lanes).op("i32.ge_s").branchIf(1).int(0).set(whole);
  c.get(turned).get(q).int(4).op("i32.add").get(lanes).op("i32.le_s").op("i32.and").if();
  c.get(keys).int(-4).op("i32.and").set(whole);
  for (const [size, quad] of quads)
    c.get(bytes).int(size).op("i32.eq").if().get(scores).get(mask).get(row).get(whole).get(scale).call(quad).end();
  c.end();
  // What is left of four queries, or all of one.
  c.int(4).int(1).get(whole).op("select").get(q).op("i32.add").set(x);
  c.block().loop().get(q).get(x).op("i32.ge_s").branchIf(1);
  c.get(scores)
    .get(whole)
    .int(16 * tileVectors)
    .op("i32.mul")
    .op("i32.add")
    .get(mask)
    .get(whole)
    .get(step)
    .op("i32.mul")
    .op("i32.add");
  c.get(keys).get(whole).op("i32.sub").get(step).get(bytes).get(scale).call(column);
  c.advance(scores, 4).get(mask).get(row).op("i32.add").set(mask).advance(q, 1).branch(0).end().end();
  c.branch(0).end().end();
  return c;
}

/** column(scores, mask, keys, bytes between keys, bytes of an element, scale): one query. */
function emitMaskColumn(module: Module, tileVectors: number): Code {
  const c = module.func(undefined, new Array(6).fill(i32));
  const [scores, mask, keys, step, bytes, scale] = [0, 1, 2, 3, 4, 5];
  const j = c.local(i32);
  const scaled = () => c.get(scores).memory("f32.load").get(scale).op("f32.reinterpret_i32").op("f32.mul");
  c.forLess(j, keys, 1, () => {
    c.get(bytes).int(1).op("i32.eq").if().get(scores);
    scaled().float(Number.NEGATIVE_INFINITY).get(mask).memory("i32.load8_u").op("select").memory("f32.store");
    c.else().get(scores);
    scaled().get(mask).memory("f32.load").op("f32.add").memory("f32.store").end();
    c.advance(scores, 16 * tileVectors)
      .get(mask)
      .get(step)
      .op("i32.add")
      .set(mask);
  });
  return c;
}

/** quad(scores, mask, bytes between queries, keys, scale): four queries and a multiple of four keys of a mask of f32 or of bytes. */
function emitMaskQuad(module: Module, fma: boolean, tileVectors: number, bytes: 1 | 4): Code {
  const c = module.func(undefined, new Array(5).fill(i32));
  const [scores, mask, row, keys, scale] = [0, 1, 2, 3, 4];
  const math = new SimdMath(c, fma);
  const [j, ...more] = c.locals(i32, 4) as [Local, Local, Local, Local];
  const [factor, hidden, ...v] = c.locals(v128, 10) as [Local, Local, ...Local[]];
  const [a, b, x, y, ab0, ab1, xy0, xy1] = v as [Local, Local, Local, Local, Local, Local, Local, Local];
  const lines = [mask, ...more];
  c.get(scale).op("f32.reinterpret_i32").op("f32x4.splat").set(factor);
  if (bytes === 1) c.floats(Number.NEGATIVE_INFINITY).set(hidden);
  more.forEach((line, i) => void c.get(lines[i]!).get(row).op("i32.add").set(line));
  c.forLess(j, keys, 4, () => {
    for (const [i, line] of lines.entries()) {
      c.get(line).memory(bytes === 4 ? "v128.load" : "v128.load32_zero");
      if (bytes === 1) c.op("i16x8.extend_low_i8x16_u").op("i32x4.extend_low_i16x8_u");
      c.set(v[i]!).advance(line, 4 * bytes);
    }
    c.get(a).get(b).shuffle(0, 4, 1, 5).set(ab0).get(a).get(b).shuffle(2, 6, 3, 7).set(ab1);
    c.get(x).get(y).shuffle(0, 4, 1, 5).set(xy0).get(x).get(y).shuffle(2, 6, 3, 7).set(xy1);
    for (let key = 0; key < 4; key++) {
      const at = 16 * tileVectors * key;
      const pushMask = () => {
        c.get(key < 2 ? ab0 : ab1).get(key < 2 ? xy0 : xy1);
        if (key % 2 === 0) c.shuffle(0, 1, 4, 5);
        else c.shuffle(2, 3, 6, 7);
      };
      c.get(scores);
      if (bytes === 1) c.get(hidden);
      c.get(scores).memory("v128.load", at).get(factor);
      if (bytes === 4) {
        pushMask();
        math.madd();
      } else {
        c.op("f32x4.mul");
        pushMask();
        c.ints(0).op("i32x4.eq").op("v128.bitselect");
      }
      c.memory("v128.store", at);
    }
    c.advance(scores, 64 * tileVectors);
  });
  return c;
}
