// Emitters of the 256-value formats: what ../encode-k.ts does to a block, on vectors.
import { type Code, i32, type Local, type Module, v128 } from "../../wasm/encoder.ts";
import type { Value } from "../../wasm/expressions.ts";
import { lineSearches } from "../encode-k.ts";
import { BlockWriter, type Field } from "./block-writer.ts";
import { emitLineSearch } from "./line-search.ts";
import { clampedWhole, forRange, groups, lowWords, places, rounder } from "./places.ts";
import { emitCodeSearch, emitScaleSearch } from "./scale-search.ts";

/** Searches all sub-blocks of `n` values. */
function searchBlock(w: BlockWriter, search: { readonly index: number }, n: number): void {
  for (let first = 0; first < 256 / n; first += groups) {
    w.c
      .get(w.x)
      .int(4 * n * first)
      .op("i32.add")
      .int(8 * first)
      .call(search);
  }
}

/** Larger lane in both lanes. */
const larger = (w: BlockWriter, v: Local): Value => w.e.max(v, w.e.shuffle(v, v, 2, 3, 0, 1));

/** Replaces `n` f64 at `from` by whole numbers 0…top, also stored as i32 at `whole`; `stored` gets their common f16 scale, kept at `offset`. */
function quantizeShared(w: BlockWriter, from: number, whole: number, n: number, top: number, offset: number, stored: Local): void {
  const { e, c } = w;
  const [max, inverse] = c.locals(v128, 2) as [Local, Local];
  e.set(max, e.number(0));
  for (let j = 0; j < n; j += 2) e.set(max, e.max(max, e.load(w.zero, from + 8 * j)));
  e.set(max, larger(w, max));
  e.set(inverse, e.and(e.div(e.number(top), max), e.op("f64x2.gt", max, e.number(0))));
  const [a, b] = c.locals(v128, 2) as [Local, Local];
  for (let j = 0; j < n; j += 4) {
    for (const [i, v] of [a, b].entries()) {
      const rounded = e.add(e.mul(inverse, e.load(w.zero, from + 8 * j + 16 * i)), e.number(rounder));
      e.set(v, e.min(rounded, e.number(rounder + top)));
      e.store(w.zero, from + 8 * j + 16 * i, e.sub(v, e.number(rounder)));
    }
    e.store(w.zero, whole + 4 * j, lowWords(e, a, b));
  }
  w.halfOfDouble(offset, e.div(max, e.number(top)), stored);
}

/** Codes for d·scale·q - dmin·depth with the scales as stored; a sub-block of scale 0 gets code 0. */
function affineCodes(w: BlockWriter, n: number, top: number, d: Local, dmin: Local): void {
  const { e, c } = w;
  const [scale, depth, kept] = c.locals(v128, 3) as [Local, Local, Local];
  const { x, sub, codes } = loopLocals(w);
  forRange(c, sub, 0, (256 / n) * 8, 8, () => {
    e.set(scale, e.mul(d, e.load(sub, places.scales, "v128.load64_splat")));
    e.set(depth, e.mul(dmin, e.load(sub, places.depths, "v128.load64_splat")));
    e.set(kept, e.op("f64x2.ne", scale, e.number(0)));
    for (let l = 0; l < n; l += 16) {
      const words = w.sixteenCodes(x, 4 * l, 0, top, (v) => e.div(e.add(v, depth), scale));
      for (const v of words) e.set(v, e.and(v, kept));
      w.storeBytes(codes, places.codes + l, words);
    }
    c.advance(x, 4 * n).advance(codes, n);
  });
}

/** Codes for d·scale·(q - middle) with the scales as stored. */
function symmetricCodes(w: BlockWriter, middle: number, d: Local): void {
  const { e, c } = w;
  const [scale, kept] = c.locals(v128, 2) as [Local, Local];
  const { x, sub, codes } = loopLocals(w);
  forRange(c, sub, 0, 16 * 8, 8, () => {
    e.set(scale, e.mul(d, e.load(sub, places.scales, "v128.load64_splat")));
    e.set(kept, e.op("f64x2.ne", scale, e.number(0)));
    const words = w.sixteenCodes(x, 0, -middle, middle - 1, (v) => e.div(v, scale));
    for (const v of words)
      e.set(
        v,
        e.op("i32x4.add", e.and(v, kept), () => c.ints(middle)),
      );
    w.storeBytes(codes, places.codes, words);
    c.advance(x, 64).advance(codes, 16);
  });
}

/** The block's values, a counter and the codes, for a loop over sub-blocks. */
function loopLocals(w: BlockWriter): { readonly x: Local; readonly sub: Local; readonly codes: Local } {
  const [x, sub, codes] = w.c.locals(i32, 3) as [Local, Local, Local];
  w.c.get(w.x).set(x).int(0).set(codes);
  return { x, sub, codes };
}

/** The scale of largest magnitude of `n`, sign kept, the first among equals, in both lanes of `best`. */
export function widest(w: BlockWriter, n: number, best: Local): void {
  const { e, c } = w;
  const value = c.local(v128);
  e.set(best, e.number(0));
  for (let j = 0; j < n; j++) {
    e.set(value, e.load(w.zero, places.scales + 8 * j, "v128.load64_splat"));
    e.set(best, e.select(e.op("f64x2.gt", e.abs(value), e.abs(best)), value, best));
  }
}

/** Replaces `n` scales by factor·scale rounded into low…high, also stored as i32. */
export function roundScales(w: BlockWriter, n: number, factor: Local, low: number, high: number): void {
  const { e } = w;
  const [a, b] = w.c.locals(v128, 2) as [Local, Local];
  for (let j = 0; j < n; j += 4) {
    for (const [i, v] of [a, b].entries()) {
      const at = places.scales + 8 * j + 16 * i;
      e.set(v, clampedWhole(e, e.mul(factor, e.load(w.zero, at)), low, high));
      e.store(w.zero, at, e.sub(v, e.number(rounder)));
    }
    e.store(w.zero, places.wholeScales + 4 * j, lowWords(e, a, b));
  }
}

/** factor = numerator / x, 0 where that is not finite; d = 1 / factor, 0 where that is 0. */
function inverseScale(w: BlockWriter, numerator: number, x: Local, factor: Local, d: Local): void {
  const { e } = w;
  const zero = e.number(0);
  e.set(factor, e.div(e.number(numerator), x));
  e.set(factor, e.and(factor, e.op("f64x2.lt", e.abs(factor), e.number(Number.POSITIVE_INFINITY))));
  e.set(d, e.and(e.div(e.number(1), factor), e.op("f64x2.ne", factor, zero)));
}

/** The part of a whole scale that a packed byte takes: bits from `from` on, to bit `to` on. */
interface ScaleBits {
  readonly at: number;
  readonly from: number;
  readonly mask: number;
  readonly to: number;
}

/** Stores a byte put together from bits of whole numbers, `plus` added to each. */
export function packScales(w: BlockWriter, offset: number, parts: readonly ScaleBits[], plus = 0): void {
  const { c } = w;
  c.get(w.out);
  for (const [i, { at, from, mask, to }] of parts.entries()) {
    c.get(w.zero).memory("i32.load", at).int(plus).op("i32.add").int(from).op("i32.shr_s").int(mask).op("i32.and").int(to).op("i32.shl");
    if (i > 0) c.op("i32.or");
  }
  c.memory("i32.store8", offset);
}

const every = 0xff;

/** Four 2-bit fields a byte, `from` on of each code: values l, l+32, l+64, l+96 of each half. */
function packTwoBits(w: BlockWriter, offset: number, from: number): void {
  for (let at = 0; at < 64; at += 16) {
    const first = 128 * (at >> 5) + (at & 31);
    const fields = [0, 1, 2, 3].map((k): Field => ({ code: first + 32 * k, from, count: 2, to: 2 * k }));
    w.pack(offset + at, fields);
  }
}

/** A nibble each of two codes `apart` values from each other. */
function packNibbles(w: BlockWriter, offset: number, apart: number): void {
  for (let at = 0; at < 128; at += 16) {
    const code = 2 * apart * Math.floor(at / apart) + (at % apart);
    w.pack(offset + at, [
      { code, from: 0, count: 4, to: 0 },
      { code: code + apart, from: 0, count: 4, to: 4 },
    ]);
  }
}

/** Bit `from` of each code: eight values 32 apart share a byte. */
function packHighBits(w: BlockWriter, offset: number, from: number): void {
  for (const at of [0, 16]) {
    const fields = Array.from({ length: 8 }, (_, k): Field => ({ code: 32 * k + at, from, count: 1, to: k }));
    w.pack(offset + at, fields);
  }
}

/** q2_K: scales and depths of 16 sub-blocks in 4 bits each. */
export function emitQ2K(module: Module): Code {
  const search = emitLineSearch(module, { ...lineSearches.q2_K, n: 16, base: false });
  const w = new BlockWriter(module);
  const [d, dmin] = w.c.locals(v128, 2) as [Local, Local];
  return w.build(256, 84, () => {
    searchBlock(w, search, 16);
    quantizeShared(w, places.scales, places.wholeScales, 16, 15, 80, d);
    quantizeShared(w, places.depths, places.wholeDepths, 16, 15, 82, dmin);
    for (let j = 0; j < 16; j++) {
      packScales(w, j, [
        { at: places.wholeScales + 4 * j, from: 0, mask: every, to: 0 },
        { at: places.wholeDepths + 4 * j, from: 0, mask: every, to: 4 },
      ]);
    }
    affineCodes(w, 16, 3, d, dmin);
    packTwoBits(w, 16, 0);
  });
}

/** q3_K: scales of 16 sub-blocks in 6 bits each, codes -4…3. */
export function emitQ3K(module: Module): Code {
  const search = emitCodeSearch(module);
  const w = new BlockWriter(module);
  const [best, factor, d] = w.c.locals(v128, 3) as [Local, Local, Local];
  const scale = (j: number, from: number, mask: number, to: number): ScaleBits => ({ at: places.wholeScales + 4 * j, from, mask, to });
  return w.build(256, 110, () => {
    searchBlock(w, search, 16);
    widest(w, 16, best);
    inverseScale(w, -32, best, factor, d);
    w.halfOfDouble(108, d, d);
    roundScales(w, 16, factor, -32, 31);
    for (let j = 0; j < 8; j++) packScales(w, 96 + j, [scale(j, 0, 15, 0), scale(j + 8, 0, 15, 4)], 32);
    for (let j = 0; j < 4; j++) {
      const parts = [0, 1, 2, 3].map((k) => scale(j + 4 * k, 4, every, 2 * k));
      packScales(w, 104 + j, parts, 32);
    }
    symmetricCodes(w, 4, d);
    packHighBits(w, 0, 2);
    packTwoBits(w, 32, 0);
  });
}

/** q4_K and q5_K: scales and depths of 8 sub-blocks in 6 bits each. */
const emitQ45K = (dtype: "q4_K" | "q5_K") => (module: Module) => {
  const search = emitLineSearch(module, { ...lineSearches[dtype], n: 32, base: true });
  const w = new BlockWriter(module);
  const [d, dmin] = w.c.locals(v128, 2) as [Local, Local];
  const five = dtype === "q5_K";
  return w.build(256, five ? 176 : 144, () => {
    searchBlock(w, search, 32);
    quantizeShared(w, places.scales, places.wholeScales, 8, 63, 0, d);
    quantizeShared(w, places.depths, places.wholeDepths, 8, 63, 2, dmin);
    packSixBits(w);
    affineCodes(w, 32, lineSearches[dtype].top, d, dmin);
    packNibbles(w, five ? 48 : 16, 32);
    if (five) packHighBits(w, 16, 4);
  });
};

/** Scales and depths as `packScaleMinK4` lays them out. */
function packSixBits(w: BlockWriter): void {
  const { wholeScales, wholeDepths } = places;
  for (let j = 0; j < 4; j++) {
    for (const [i, whole] of [wholeScales, wholeDepths].entries()) {
      const low = { at: whole + 4 * j, from: 0, mask: every, to: 0 };
      packScales(w, 4 + j + 4 * i, [low, { at: whole + 4 * j + 16, from: 4, mask: every, to: 6 }]);
    }
    packScales(w, 12 + j, [
      { at: wholeScales + 4 * j + 16, from: 0, mask: 15, to: 0 },
      { at: wholeDepths + 4 * j + 16, from: 0, mask: 15, to: 4 },
    ]);
  }
}

/** q4_K. */
export const emitQ4K: (module: Module) => Code = emitQ45K("q4_K");
/** q5_K: fifth bits apart. */
export const emitQ5K: (module: Module) => Code = emitQ45K("q5_K");

/** q6_K: scales of 16 sub-blocks in 8 bits each, codes -32…31. */
export function emitQ6K(module: Module): Code {
  const search = emitScaleSearch(module, "q6");
  const w = new BlockWriter(module);
  const [best, factor, d] = w.c.locals(v128, 3) as [Local, Local, Local];
  return w.build(256, 210, () => {
    searchBlock(w, search, 16);
    widest(w, 16, best);
    inverseScale(w, -128, best, factor, d);
    w.halfOfDouble(208, d, d);
    roundScales(w, 16, factor, -(2 ** 30), 127);
    for (let j = 0; j < 16; j++) packScales(w, 192 + j, [{ at: places.wholeScales + 4 * j, from: 0, mask: every, to: 0 }]);
    symmetricCodes(w, 32, d);
    packNibbles(w, 0, 64);
    packTwoBits(w, 128, 4);
  });
}
