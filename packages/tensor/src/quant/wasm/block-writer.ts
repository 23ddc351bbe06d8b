// What the emitters of all block formats share: the loop over blocks, f16 scales, and codes packed into bits.
import { type Code, i32, type Local, type Module, v128 } from "../../wasm/encoder.ts";
import { Expressions, type Value } from "../../wasm/expressions.ts";
import { SimdFormats } from "../../wasm/simd-formats.ts";
import { clampedWhole, lowWords, places } from "./places.ts";

/** Bits of a code that go to bits of a byte: `count` of them from bit `from` on to bit `to` on. */
export interface Field {
  /** Of the first code; its neighbours follow. */
  readonly code: number;
  readonly from: number;
  readonly count: number;
  readonly to: number;
}

/** Emits encode(values, out, blocks), which returns 1 when a scale is beyond f16. */
export class BlockWriter {
  readonly e: Expressions;
  readonly c: Code;
  /** Address of the block's values. */
  readonly x: Local = 0;
  /** Address of the block's bytes. */
  readonly out: Local = 1;
  /** Address 0, for what lies at fixed places. */
  readonly zero: Local;
  readonly #formats: SimdFormats;
  readonly #bad: Local;
  readonly #bits: Local;
  readonly #vectors: readonly Local[];

  constructor(module: Module) {
    this.c = module.func(undefined, [i32, i32, i32], [i32]).keepConstants();
    this.e = new Expressions(this.c);
    this.#formats = new SimdFormats(this.c);
    [this.zero, this.#bad, this.#bits] = this.c.locals(i32, 3) as [Local, Local, Local];
    this.#vectors = this.c.locals(v128, 4);
  }

  /** A loop over the blocks; ends the function. */
  build(blockSize: number, blockBytes: number, body: () => void): Code {
    const { c } = this;
    c.get(2).if().loop();
    body();
    c.advance(this.x, 4 * blockSize).advance(this.out, blockBytes);
    c.advance(2, -1).get(2).branchIf(0).end().end();
    c.get(this.#bad);
    return c;
  }

  /** Stores lane 0 of f32 values as f16 at `offset` of the block; `stored`, if given, gets the value as stored, as two f64. */
  half(offset: number, value: Value, stored?: Local): void {
    const { c, e } = this;
    e.push(value);
    this.#formats.narrow("f16");
    const v = this.#vectors[0]!;
    c.tee(v).extract("i32x4.extract_lane", 0).set(this.#bits);
    c.get(this.out).get(this.#bits).memory("i32.store16", offset);
    c.get(this.#bad).get(this.#bits).int(0x7c00).op("i32.and").int(0x7c00).op("i32.eq").op("i32.or").set(this.#bad);
    if (stored === undefined) return;
    c.get(v);
    this.#formats.widen("f16");
    c.set(v);
    e.set(stored, e.promote(e.shuffle(v, v, 0, 0, 0, 0)));
  }

  /** The same for the f64 in lane 0. */
  halfOfDouble(offset: number, value: Value, stored: Local): void {
    this.half(offset, this.e.op("f32x4.demote_f64x2_zero", value), stored);
  }

  /**
   * Codes of 16 f32 values `at` bytes behind the address in `from`, as i32 in four vectors: `numberOf` gives the number that is rounded to the nearest code
   * in low…high.
   */
  sixteenCodes(from: Local, at: number, low: number, high: number, numberOf: (x: Value) => Value): readonly Local[] {
    const { e } = this;
    return this.#vectors.map((local, i) => {
      const x = e.load(from, at + 16 * i);
      const high2 = e.shuffle(x, x, 2, 3, 2, 3);
      const [a, b] = [x, high2].map((v) => clampedWhole(e, numberOf(e.promote(v)), low, high)) as [Value, Value];
      e.set(local, lowWords(e, a, b));
      return local;
    });
  }

  /** Sixteen numbers of 0…255 in four vectors → as bytes `at` behind the address in `to`. */
  storeBytes(to: Local, at: number, [a, b, c, d]: readonly Local[]): void {
    const { e } = this;
    const narrow = (p: Local, q: Local) => e.op("i16x8.narrow_i32x4_s", p, q);
    e.store(to, at, e.op("i8x16.narrow_i16x8_u", narrow(a!, b!), narrow(c!, d!)));
  }

  /** Sixteen bytes of the block at `offset`, put together from bits of codes at `places.codes`. */
  pack(offset: number, fields: readonly Field[]): void {
    const { e } = this;
    const parts = fields.map((f) => this.#field(f));
    e.store(
      this.out,
      offset,
      parts.reduce((a, b) => e.or(a, b)),
    );
  }

  /** Shifts of 16-bit lanes, after the mask keeps neighbours apart. */
  #field({ code, from, count, to }: Field): Value {
    const { e } = this;
    const mask = (((1 << count) - 1) << from) * 0x01010101;
    const bits = e.and(e.load(this.zero, places.codes + code), () => this.c.ints(mask));
    const shift = to - from;
    if (shift === 0) return bits;
    return () => {
      e.push(bits).int(Math.abs(shift));
      return this.c.op(shift > 0 ? "i16x8.shl" : "i16x8.shr_u");
    };
  }
}
