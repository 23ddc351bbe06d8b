// Emitters of the 32-value formats: what ../encode.ts does to a block, on vectors of f32.
import { type Code, type Local, type Module, v128 } from "../../wasm/encoder.ts";
import type { Value } from "../../wasm/expressions.ts";
import { BlockWriter } from "./block-writer.ts";
import { places } from "./places.ts";

/** Emits into one writer; f32 lanes throughout. */
class SmallWriter extends BlockWriter {
  readonly #codes: readonly Local[];

  constructor(module: Module) {
    super(module);
    this.#codes = this.c.locals(v128, 4);
  }

  /** The block's values number 4·i on. */
  four(i: number): Value {
    return this.e.load(this.x, 16 * i);
  }

  floats(value: number): Value {
    return () => this.c.floats(value);
  }

  /** Combines the eight vectors of a block, then the lanes: the result is in all of them. */
  combine(to: Local, op: "f32x4.pmin" | "f32x4.pmax", of: (v: Value) => Value = (v) => v): void {
    const { e } = this;
    e.set(to, of(this.four(0)));
    for (let i = 1; i < 8; i++) e.set(to, e.op(op, to, of(this.four(i))));
    e.set(to, e.op(op, to, e.shuffle(to, to, 2, 3, 0, 1)));
    e.set(to, e.op(op, to, e.shuffle(to, to, 1, 0, 3, 2)));
  }

  /** 1/d; 0 where d is 0 or its inverse overflows. */
  inverse(to: Local, d: Local): void {
    const { e } = this;
    const absolute = e.op("f32x4.abs", to);
    e.set(to, e.op("f32x4.div", this.floats(1), d));
    e.set(to, e.and(to, e.op("f32x4.lt", absolute, this.floats(Number.POSITIVE_INFINITY))));
  }

  /** 32 codes as bytes at `places.codes`: whole parts, at most `most`. */
  storeCodes(most: number, of: (v: Value) => Value): void {
    const { e } = this;
    for (const half of [0, 1]) {
      for (const [i, local] of this.#codes.entries()) {
        const code = e.op("f32x4.pmin", of(this.four(4 * half + i)), this.floats(most));
        e.set(local, e.op("i32x4.trunc_sat_f32x4_s", code));
      }
      this.storeBytes(this.zero, places.codes + 16 * half, this.#codes);
    }
  }

  /** Nibbles at `nibbles`, and the fifth bits, if any, at `fifth`. */
  packCodes(nibbles: number, fifth?: number): void {
    this.pack(nibbles, [
      { code: 0, from: 0, count: 4, to: 0 },
      { code: 16, from: 0, count: 4, to: 4 },
    ]);
    if (fifth === undefined) return;
    const { c, e } = this;
    for (const half of [0, 16]) {
      // The fifth bit of each code becomes its sign.
      c.get(this.out);
      e.push(e.load(this.zero, places.codes + half))
        .int(3)
        .op("i8x16.shl")
        .op("i8x16.bitmask");
      c.memory("i32.store16", fifth + (half >> 3));
    }
  }
}

/** Codes 0…levels-1 around the middle; the extreme value maps to code 0. */
const symmetric = (levels: 16 | 32) => (module: Module) => {
  const w = new SmallWriter(module);
  const { e, c } = w;
  const [least, most, d, id] = c.locals(v128, 4) as [Local, Local, Local, Local];
  const [middle, five] = [levels / 2, levels === 32];
  return w.build(32, five ? 22 : 18, () => {
    extreme(w, least, most, d);
    e.set(d, e.op("f32x4.div", d, w.floats(-middle)));
    w.inverse(id, d);
    w.half(0, d);
    w.storeCodes(levels - 1, (v) => e.op("f32x4.add", e.op("f32x4.mul", v, id), w.floats(middle + 0.5)));
    w.packCodes(five ? 6 : 2, five ? 2 : undefined);
  });
};

/** The value of largest magnitude, the first among equals, in all lanes of `to`. */
function extreme(w: SmallWriter, least: Local, most: Local, to: Local): void {
  const { e } = w;
  w.combine(least, "f32x4.pmin");
  w.combine(most, "f32x4.pmax");
  const [low, high] = [e.op("f32x4.abs", least), e.op("f32x4.abs", most)];
  e.set(to, e.select(e.op("f32x4.gt", low, high), least, most));
  const isTie = e.op("f32x4.eq", e.op("f32x4.neg", least), most);
  takeFirst(w, isTie, to, (v) => e.op("f32x4.eq", e.op("f32x4.abs", v), most));
}

/** Where `when` holds (signs of equals differ, also those of zeros), `to` becomes the first value that is one of the equals. */
function takeFirst(w: SmallWriter, when: Value, to: Local, isEqual: (v: Value) => Value): void {
  const { e, c } = w;
  e.push(when).op("v128.any_true").if();
  // From the last value to the first: the first one is what stays.
  for (let i = 7; i >= 0; i--) {
    for (const lane of [3, 2, 1, 0] as const) {
      const v = e.shuffle(w.four(i), w.four(i), lane, lane, lane, lane);
      e.set(to, e.select(isEqual(v), v, to));
    }
  }
  c.end();
}

/** Codes 0…levels-1 from the minimum up. */
const affine = (levels: 16 | 32) => (module: Module) => {
  const w = new SmallWriter(module);
  const { e, c } = w;
  const [min, max, d, id] = c.locals(v128, 4) as [Local, Local, Local, Local];
  const five = levels === 32;
  return w.build(32, five ? 24 : 20, () => {
    w.combine(min, "f32x4.pmin");
    w.combine(max, "f32x4.pmax");
    takeFirst(w, e.op("f32x4.eq", min, w.floats(0)), min, (v) => e.op("f32x4.eq", v, w.floats(0)));
    // Of zeros of both signs the range would be -0.
    const range = e.op("f32x4.abs", e.op("f32x4.sub", max, min));
    e.set(d, e.op("f32x4.div", range, w.floats(levels - 1)));
    w.inverse(id, d);
    w.half(0, d);
    w.half(2, min);
    const scaled = (v: Value) => e.op("f32x4.mul", e.op("f32x4.sub", v, min), id);
    w.storeCodes(levels - 1, (v) => e.op("f32x4.add", scaled(v), w.floats(0.5)));
    w.packCodes(five ? 8 : 4, five ? 4 : undefined);
  });
};

/** q8_0: halves go away from zero. */
export function emitQ80(module: Module): Code {
  const w = new SmallWriter(module);
  const { e, c } = w;
  const [d, id, scaled, whole] = c.locals(v128, 4) as [Local, Local, Local, Local];
  const sizes = c.locals(v128, 4);
  return w.build(32, 34, () => {
    w.combine(d, "f32x4.pmax", (v) => e.op("f32x4.abs", v));
    e.set(d, e.op("f32x4.div", d, w.floats(127)));
    w.inverse(id, d);
    w.half(0, d);
    for (const half of [0, 1]) {
      for (const [i, local] of sizes.entries()) {
        e.set(scaled, e.op("f32x4.mul", w.four(4 * half + i), id));
        e.set(whole, e.op("f32x4.trunc", scaled));
        // What the truncation lost is exact; at half and more one is added, away from zero.
        const lost = e.op("f32x4.abs", e.op("f32x4.sub", scaled, whole));
        const one = e.or(e.and(scaled, w.floats(-0)), w.floats(1));
        const more = e.and(one, e.op("f32x4.ge", lost, w.floats(0.5)));
        e.set(local, e.op("i32x4.trunc_sat_f32x4_s", e.op("f32x4.add", whole, more)));
      }
      const [a, b, x, y] = sizes as [Local, Local, Local, Local];
      const narrow = (p: Local, q: Local) => e.op("i16x8.narrow_i32x4_s", p, q);
      e.store(w.out, 2 + 16 * half, e.op("i8x16.narrow_i16x8_s", narrow(a, b), narrow(x, y)));
    }
  });
}

type Emit = (module: Module) => Code;
/** q4_0. */
export const emitQ40: Emit = symmetric(16);
/** q5_0: fifth bits apart. */
export const emitQ50: Emit = symmetric(32);
/** q4_1. */
export const emitQ41: Emit = affine(16);
/** q5_1: fifth bits apart. */
export const emitQ51: Emit = affine(32);
