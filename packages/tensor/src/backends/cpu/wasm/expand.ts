// Expansion of stored formats to f32: 16-bit floats and the GGUF blocks q8_0, q4_0 and q4_K (layouts: ggml-common.h).

import { type Code, i32, type Local, type Module, v128 } from "../../../wasm/encoder.ts";
import { type OperandKind, operandModes } from "./blocking.ts";
import { SimdMath } from "./simd-math.ts";

const blockBytes = { q8_0: 34, q4_0: 18, q4_K: 144 } as const;
const blockValues = { q8_0: 32, q4_0: 32, q4_K: 256 } as const;

type StoredKind = Exclude<OperandKind, "f32">;
/** Formats that operands of row kernels have, and that the weights of products have. */
const [rowKinds, weightKinds]: readonly StoredKind[][] = [
  ["f16", "bf16"],
  ["f16", "bf16", "q8_0", "q4_0", "q4_K"],
];

/** Emits `expand(mode, from, to, count)` for 16-bit floats and, for `weights`, blocks, and returns it; counts of block formats are whole blocks. */
export function emitExpand(module: Module, fma: boolean, weights = false): Code {
  const parts = (weights ? weightKinds : rowKinds)!.map((kind) => [kind, emitKind(module, kind, fma)] as const);
  const c = module.func(undefined, [i32, i32, i32, i32]);
  for (const [kind, part] of parts) {
    c.get(0).int(operandModes[kind]).op("i32.eq").if().get(1).get(2).get(3).call(part).op("return").end();
  }
  return c;
}

function emitKind(module: Module, kind: StoredKind, fma: boolean): Code {
  const c = module.func(undefined, [i32, i32, i32]).keepConstants();
  const math = new SimdMath(c, fma);
  if (kind === "f16" || kind === "bf16") {
    emitHalves(c, math, kind);
    return c;
  }
  c.block().loop().get(2).op("i32.eqz").branchIf(1);
  if (kind === "q8_0") emitQ8(c, math);
  else if (kind === "q4_0") emitQ4(c, math);
  else emitQ4K(c, math);
  c.advance(0, blockBytes[kind])
    .advance(1, 4 * blockValues[kind])
    .advance(2, -blockValues[kind])
    .branch(0)
    .end()
    .end();
  return c;
}

function emitHalves(c: Code, math: SimdMath, kind: "f16" | "bf16"): void {
  for (const lanes of [4, 1] as const) {
    c.block().loop().get(2).int(lanes).op("i32.lt_s").branchIf(1);
    c.get(1).get(0);
    math.load(kind, lanes);
    math.store("f32", lanes);
    c.advance(0, 2 * lanes)
      .advance(1, 4 * lanes)
      .advance(2, -lanes)
      .branch(0)
      .end()
      .end();
  }
}

/** A half at `offset` of the block, in all lanes. */
function loadScale(c: Code, math: SimdMath, offset: number, to: Local): void {
  c.get(0).memory("i32.load16_u", offset).op("i32x4.splat");
  math.widen("f16");
  c.set(to);
}

/** Stores (integer lanes on the stack as `half` of eight 16-bit values) · scale at float `at`. */
function storeScaled(c: Code, values: Local, half: "low" | "high", scale: Local, at: number): void {
  c.get(1)
    .get(values)
    .op(`i32x4.extend_${half}_i16x8_s`)
    .op("f32x4.convert_i32x4_s")
    .get(scale)
    .op("f32x4.mul")
    .memory("v128.store", 4 * at);
}

function emitQ8(c: Code, math: SimdMath): void {
  const [d, x] = c.locals(v128, 2) as [Local, Local];
  loadScale(c, math, 0, d);
  for (let i = 0; i < 32; i += 8) {
    c.get(0)
      .memory("v128.load8x8_s", 2 + i)
      .set(x);
    storeScaled(c, x, "low", d, i);
    storeScaled(c, x, "high", d, i + 4);
  }
}

/** Eight 16-bit values, `half` of the bytes of x. */
const bytesToWords = (c: Code, x: Local, half: "low" | "high"): Code => c.get(x).op(`i16x8.extend_${half}_i8x16_u`);

function emitQ4(c: Code, math: SimdMath): void {
  const [d, x, y, shift] = c.locals(v128, 4) as [Local, Local, Local, Local];
  loadScale(c, math, 0, d);
  c.get(d).floats(-8).op("f32x4.mul").set(shift);
  for (const nibble of [0, 1]) {
    c.get(0).memory("v128.load", 2);
    if (nibble === 0) c.ints(0x0f0f0f0f).op("v128.and").set(x);
    else c.int(4).op("i8x16.shr_u").set(x);
    for (const half of ["low", "high"] as const) {
      bytesToWords(c, x, half).set(y);
      for (const quarter of ["low", "high"] as const) {
        c.get(1).get(y).op(`i32x4.extend_${quarter}_i16x8_s`).op("f32x4.convert_i32x4_s").get(d).op("f32x4.mul").get(shift).op("f32x4.add");
        c.memory("v128.store", 4 * (16 * nibble + (half === "high" ? 8 : 0) + (quarter === "high" ? 4 : 0)));
      }
    }
  }
}

/** Pushes the 6-bit scale (or minimum) number j of a q4_K block as an integer. */
function pushSixBits(c: Code, j: number, minimum: boolean): void {
  const at = 4 + j + (minimum ? 4 : 0);
  if (j < 4) {
    c.get(0).memory("i32.load8_u", at).int(63).op("i32.and");
    return;
  }
  c.get(0).memory("i32.load8_u", 4 + j + 4);
  if (minimum) c.int(4).op("i32.shr_u");
  else c.int(15).op("i32.and");
  c.get(0)
    .memory("i32.load8_u", minimum ? 4 + j : 4 + j - 4)
    .int(6)
    .op("i32.shr_u")
    .int(4)
    .op("i32.shl")
    .op("i32.or");
}

function emitQ4K(c: Code, math: SimdMath): void {
  const [d, least, scale, shift, x, y] = c.locals(v128, 6) as [Local, Local, Local, Local, Local, Local];
  loadScale(c, math, 0, d);
  loadScale(c, math, 2, least);
  for (let j = 0; j < 8; j++) {
    pushSixBits(c, j, false);
    c.op("i32x4.splat").op("f32x4.convert_i32x4_s").get(d).op("f32x4.mul").set(scale);
    pushSixBits(c, j, true);
    c.op("i32x4.splat").op("f32x4.convert_i32x4_s").get(least).op("f32x4.mul").set(shift);
    for (const part of [0, 16]) {
      c.get(0).memory("v128.load", 16 + 32 * (j >> 1) + part);
      if (j % 2 === 0) c.ints(0x0f0f0f0f).op("v128.and").set(x);
      else c.int(4).op("i8x16.shr_u").set(x);
      for (const half of ["low", "high"] as const) {
        bytesToWords(c, x, half).set(y);
        for (const quarter of ["low", "high"] as const) {
          c.get(1)
            .get(y)
            .op(`i32x4.extend_${quarter}_i16x8_s`)
            .op("f32x4.convert_i32x4_s")
            .get(scale)
            .op("f32x4.mul")
            .get(shift)
            .op("f32x4.sub");
          c.memory("v128.store", 4 * (32 * j + part + (half === "high" ? 8 : 0) + (quarter === "high" ? 4 : 0)));
        }
      }
    }
  }
}
