// Emitters of the non-linear 4-bit formats: what ../encode-k.ts does to a block, on vectors.
import { type Code, i32, type Local, type Module, v128 } from "../../wasm/encoder.ts";
import type { Value } from "../../wasm/expressions.ts";
import { BlockWriter } from "./block-writer.ts";
import { packScales, roundScales, widest } from "./k-blocks.ts";
import { groups, places } from "./places.ts";
import { emitScaleSearch, storeNearest } from "./scale-search.ts";

/** Codes of the 32 values at the address in `x` for the inverse scale in both lanes, as bytes at `places.codes` plus the number in `codes`. */
function groupCodes(w: BlockWriter, x: Local, codes: Local, inverse: Local, halves: Local): void {
  const { e } = w;
  for (let i = 0; i < 32; i += 4) {
    const four = e.load(x, 4 * i);
    const two = [four, e.shuffle(four, four, 2, 3, 2, 3)] as const;
    for (const [k, v] of two.entries()) storeNearest(e, e.mul(inverse, e.promote(v)), halves, codes, places.codes + i + 2 * k);
  }
}

/** 1/d, 0 where that is not finite. */
function setInverse(w: BlockWriter, d: Value, inverse: Local): void {
  const { e } = w;
  e.set(inverse, e.div(e.number(1), d));
  e.set(inverse, e.and(inverse, e.op("f64x2.lt", e.abs(inverse), e.number(Number.POSITIVE_INFINITY))));
}

/** Nibbles of the 32 codes at `places.codes` plus `codes`, low half first. */
const packGroup = (w: BlockWriter, offset: number, codes: number): void =>
  w.pack(offset, [
    { code: codes, from: 0, count: 4, to: 0 },
    { code: codes + 16, from: 0, count: 4, to: 4 },
  ]);

/** iq4_nl: scales of eight blocks are searched at a time, also beyond the last one. */
export function emitIq4Nl(module: Module): Code {
  const search = emitScaleSearch(module, "iq4");
  const w = new BlockWriter(module);
  const { c, e } = w;
  const [d, inverse, halves] = c.locals(v128, 3) as [Local, Local, Local];
  const turn = c.local(i32);
  return w.build(32, 18, () => {
    c.get(turn).op("i32.eqz").if().get(w.x).int(0).call(search).end();
    e.set(d, e.load(turn, places.scales, "v128.load64_splat"));
    w.halfOfDouble(0, d, d);
    setInverse(w, d, inverse);
    groupCodes(w, w.x, w.zero, inverse, halves);
    packGroup(w, 2, 0);
    c.get(turn)
      .int(8)
      .op("i32.add")
      .int(8 * groups - 1)
      .op("i32.and")
      .set(turn);
  });
}

/** iq4_xs: scales of 8 sub-blocks in 6 bits each. */
export function emitIq4Xs(module: Module): Code {
  const search = emitScaleSearch(module, "iq4");
  const w = new BlockWriter(module);
  const { c, e } = w;
  const [best, d, inverse, halves] = c.locals(v128, 4) as [Local, Local, Local, Local];
  const [x, codes] = c.locals(i32, 2) as [Local, Local];
  return w.build(256, 136, () => {
    c.get(w.x).int(0).call(search);
    widest(w, 8, best);
    w.halfOfDouble(0, e.div(e.neg(best), e.number(32)), d);
    setInverse(w, d, inverse);
    roundScales(w, 8, inverse, -32, 31);
    const scale = (j: number, from: number, mask: number, to: number) => ({ at: places.wholeScales + 4 * j, from, mask, to });
    for (const k of [0, 1]) {
      const high = [0, 1, 2, 3].map((j) => scale(4 * k + j, 4, 3, 2 * j));
      packScales(w, 2 + k, high, 32);
    }
    for (let j = 0; j < 8; j += 2) packScales(w, 4 + (j >> 1), [scale(j, 0, 15, 0), scale(j + 1, 0, 15, 4)], 32);
    c.get(w.x).set(x).int(0).set(codes);
    for (let j = 0; j < 8; j++) {
      setInverse(w, e.mul(d, e.load(w.zero, places.scales + 8 * j, "v128.load64_splat")), inverse);
      groupCodes(w, x, codes, inverse, halves);
      packGroup(w, 8 + 16 * j, 32 * j);
      c.advance(x, 128).advance(codes, 32);
    }
  });
}
