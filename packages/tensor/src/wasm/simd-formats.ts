// Loads and stores of four floats in any format, and conversions between formats. Operands on the stack, results on the stack.
import { type Code, type Local, v128 } from "./encoder.ts";

/** Float formats that kernels load and store. */
export type FloatKind = "f32" | "f16" | "bf16";

/** What row functions load and store: floats, and bytes as truth values or small numbers. */
export type ElementKind = FloatKind | "u8";

/** Bytes per element. */
export const kindBytes = { f32: 4, f16: 2, bf16: 2, u8: 1 } as const;

/** Emits conversions into one function body; keeps a few scratch locals there. */
export class SimdFormats {
  protected readonly c: Code;
  protected readonly temps: readonly Local[];

  constructor(c: Code) {
    this.c = c;
    this.temps = c.locals(v128, 5);
  }

  /** Four 16-bit patterns in 32-bit lanes → their f32 values. */
  widen(kind: "f16" | "bf16"): void {
    const c = this.c;
    if (kind === "bf16") {
      c.int(16).op("i32x4.shl");
      return;
    }
    const [h, m, e] = this.temps as [Local, Local, Local];
    c.tee(h).ints(0x7fff).op("v128.and").int(13).op("i32x4.shl").tee(m).ints(0x38000000).op("i32x4.add");
    // Infinity and NaN: raise the exponent once more.
    c.get(m).ints(0x0f800000).op("v128.and").tee(e).ints(0x0f800000).op("i32x4.eq").ints(0x38000000).op("v128.and").op("i32x4.add").set(m);
    // Subnormals: the bits become the mantissa of 2^-14 + value, exactly representable.
    c.get(m)
      .ints(0x00800000)
      .op("i32x4.add")
      .floats(2 ** -14)
      .op("f32x4.sub")
      .get(m)
      .get(e)
      .ints(0)
      .op("i32x4.eq")
      .op("v128.bitselect");
    c.get(h).ints(0x8000).op("v128.and").int(16).op("i32x4.shl").op("v128.or");
  }

  /** f32 values → 16-bit patterns in 32-bit lanes, rounded to nearest even. */
  narrow(kind: "f16" | "bf16"): void {
    if (kind === "bf16") this.#narrowBf16();
    else this.#narrowF16();
  }

  #narrowBf16(): void {
    const c = this.c;
    const u = this.temps[0]!;
    c.tee(u).ints(0x7fff).op("i32x4.add").get(u).int(16).op("i32x4.shr_u").ints(1).op("v128.and").op("i32x4.add").int(16).op("i32x4.shr_u");
    c.ints(0x7fc0).get(u).get(u).op("f32x4.eq").op("v128.bitselect");
  }

  #narrowF16(): void {
    const c = this.c;
    const [u, a, r] = this.temps as [Local, Local, Local];
    c.tee(u).ints(0x7fffffff).op("v128.and").set(a);
    c.get(a).floats(0.5).op("f32x4.add").ints(0x3f000000).op("i32x4.sub").set(r);
    c.get(r).get(a).ints(0x37fff001).op("i32x4.sub").get(a).int(13).op("i32x4.shr_u").ints(1).op("v128.and").op("i32x4.add");
    c.int(13).op("i32x4.shr_u").get(a).ints(0x38800000).op("i32x4.lt_s").op("v128.bitselect").set(r);
    c.ints(0x7c00).get(r).get(a).ints(0x477fffff).op("i32x4.gt_s").op("v128.bitselect").set(r);
    c.ints(0x7e00).get(r).get(a).ints(0x7f800000).op("i32x4.gt_s").op("v128.bitselect");
    c.get(u).int(16).op("i32x4.shr_u").ints(0x8000).op("v128.and").op("v128.or");
  }

  /** Address on the stack → four elements (or one, in lane 0) as f32; bytes as integers. */
  load(kind: ElementKind, lanes: 1 | 4, offset = 0): void {
    const c = this.c;
    if (kind === "u8") {
      if (lanes === 1) c.memory("i32.load8_u", offset).op("i32x4.splat");
      else c.memory("v128.load32_zero", offset).op("i16x8.extend_low_i8x16_u").op("i32x4.extend_low_i16x8_u");
      return;
    }
    if (kind === "f32") c.memory(lanes === 4 ? "v128.load" : "v128.load32_zero", offset);
    else if (lanes === 4) c.memory("v128.load16x4_u", offset);
    else c.memory("i32.load16_u", offset).op("i32x4.splat");
    if (kind !== "f32") this.widen(kind);
  }

  /** Address and f32 values (for bytes, truth values) on the stack → stored as four elements (or one, of lane 0). */
  store(kind: ElementKind, lanes: 1 | 4, offset = 0): void {
    const c = this.c;
    if (kind === "u8") {
      const bytes = this.temps[0]!;
      c.ints(1).op("v128.and").set(bytes).get(bytes).get(bytes).op("i16x8.narrow_i32x4_u").set(bytes);
      c.get(bytes)
        .get(bytes)
        .op("i8x16.narrow_i16x8_u")
        .storeLane(lanes === 4 ? "v128.store32_lane" : "v128.store8_lane", 0, offset);
      return;
    }
    if (kind === "f32") {
      if (lanes === 4) c.memory("v128.store", offset);
      else c.storeLane("v128.store32_lane", 0, offset);
      return;
    }
    this.narrow(kind);
    if (lanes === 1) {
      c.storeLane("v128.store16_lane", 0, offset);
      return;
    }
    const bits = this.temps[0]!;
    c.set(bits).get(bits).get(bits).op("i16x8.narrow_i32x4_u").storeLane("v128.store64_lane", 0, offset);
  }
}
