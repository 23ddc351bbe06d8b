// Emitters that turn float formats into f32 and back, as ../../dtype-convert.ts does, on vectors.
import { decodeFloats, type NarrowFloat, overflowFrom } from "../../dtype-convert.ts";
import { type Code, i32, type Local, type Module, v128 } from "../../wasm/encoder.ts";
import { SimdFormats } from "../../wasm/simd-formats.ts";
import { places } from "./places.ts";

/** Float formats, f32 included. */
export type FloatDType = NarrowFloat | "f32";
type Byte = "f8e4m3" | "f8e5m2";

/** decode(from, count): f32 values at `places.values`, up to three more than asked for. */
export function emitDecode(module: Module, dtype: NarrowFloat): Code {
  const c = module.func(undefined, [i32, i32]).keepConstants();
  const isByte = dtype === "f8e4m3" || dtype === "f8e5m2";
  const to = c.local(i32);
  const formats = new SimdFormats(c);
  if (isByte) addByteValues(module, dtype);
  c.get(1).if().loop();
  if (isByte) emitLookups(c, to);
  else {
    c.get(to).get(0);
    formats.load(dtype, 4);
    c.memory("v128.store", places.values);
  }
  c.advance(0, isByte ? 4 : 8).advance(to, 16);
  c.advance(1, -4).get(1).int(0).op("i32.gt_s").branchIf(0).end().end();
  return c;
}

function addByteValues(module: Module, dtype: Byte): void {
  const values = new Float32Array(256);
  decodeFloats(
    dtype,
    Uint8Array.from({ length: 256 }, (_, i) => i),
    0,
    values,
    0,
    256,
  );
  module.data(places.bytes, new Uint8Array(values.buffer));
}

function emitLookups(c: Code, to: Local): void {
  for (let i = 0; i < 4; i++) {
    c.get(to).get(0).memory("i32.load8_u", i).int(2).op("i32.shl").memory("i32.load", places.bytes);
    c.memory("i32.store", places.values + 4 * i);
  }
}

/** encode(values, out, count), which returns 1 where a finite value overflows; writes up to three elements more than asked for. */
export function emitEncode(module: Module, dtype: FloatDType): Code {
  const c = module.func(undefined, [i32, i32, i32], [i32]).keepConstants();
  const encoder = new FloatEncoder(c, dtype);
  c.get(2).if().loop();
  encoder.four();
  c.advance(0, 16).advance(1, encoder.bytes);
  c.advance(2, -4).get(2).int(0).op("i32.gt_s").branchIf(0).end().end();
  encoder.overflowed();
  return c;
}

class FloatEncoder {
  readonly #c: Code;
  readonly #dtype: FloatDType;
  readonly #formats: SimdFormats;
  readonly #value: Local;
  readonly #size: Local;
  readonly #over: Local;

  constructor(c: Code, dtype: FloatDType) {
    this.#c = c;
    this.#dtype = dtype;
    this.#formats = new SimdFormats(c);
    [this.#value, this.#size, this.#over] = c.locals(v128, 3) as [Local, Local, Local];
  }

  /** Bytes of four elements. */
  get bytes(): number {
    return this.#dtype === "f32" ? 16 : this.#dtype.startsWith("f8") ? 4 : 8;
  }

  /** Encodes four values at parameter 0 into the address in parameter 1. */
  four(): void {
    const c = this.#c;
    const dtype = this.#dtype;
    c.get(0).memory("v128.load").set(this.#value);
    this.#check();
    if (dtype === "f8e4m3" || dtype === "f8e5m2") this.#byte(dtype);
    else {
      c.get(1).get(this.#value);
      this.#formats.store(dtype, 4);
    }
  }

  /** Remembers finite values beyond the format. */
  #check(): void {
    const limit = overflowFrom[this.#dtype as NarrowFloat];
    if (limit === undefined) return;
    const c = this.#c;
    c.get(this.#value).op("f32x4.abs").set(this.#size);
    c.get(this.#size).floats(limit).op("f32x4.ge").get(this.#size).floats(Number.POSITIVE_INFINITY).op("f32x4.lt").op("v128.and");
    c.get(this.#over).op("v128.or").set(this.#over);
  }

  overflowed(): void {
    this.#c.get(this.#over).op("v128.any_true");
  }

  /** To 8-bit floats; see `f8e4m3FromF32` and `f8e5m2FromF32`. */
  #byte(dtype: Byte): void {
    const c = this.#c;
    const four = dtype === "f8e4m3";
    const [normal, bias, shift, magic] = four ? [0x3c800000, 0x3c000000, 20, 16384] : [0x38800000, 0x38000000, 21, 128];
    const [tooLarge, largest] = four ? [0x43dfffff, 0x7e] : [0x477fffff, 0x7c];
    const [u, a, r] = [this.#value, this.#size, c.local(v128)];
    const half = 2 ** (shift - 1) - 1;
    c.get(u).ints(0x7fffffff).op("v128.and").set(a);
    c.get(a)
      .floats(magic)
      .op("f32x4.add")
      .ints(four ? 0x46800000 : 0x43000000)
      .op("i32x4.sub")
      .set(r);
    c.get(r).get(a).ints(bias).op("i32x4.sub").ints(half).op("i32x4.add").get(a).int(shift).op("i32x4.shr_u").ints(1).op("v128.and");
    c.op("i32x4.add").int(shift).op("i32x4.shr_u").get(a).ints(normal).op("i32x4.lt_s").op("v128.bitselect").set(r);
    c.ints(largest).get(r).get(a).ints(tooLarge).op("i32x4.gt_s").op("v128.bitselect").set(r);
    c.ints(0x7f).get(r).get(a).ints(0x7f800000).op("i32x4.gt_s").op("v128.bitselect");
    c.get(u).int(24).op("i32x4.shr_u").ints(0x80).op("v128.and").op("v128.or").set(r);
    c.get(r).get(r).op("i16x8.narrow_i32x4_s").set(r);
    c.get(1).get(r).get(r).op("i8x16.narrow_i16x8_u").storeLane("v128.store32_lane", 0);
  }
}
