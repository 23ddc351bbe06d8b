// Packing of image patches: the right operand of a convolution as a matrix product, read straight from the image.
// Row k of the matrix is (channel, filter row, filter column), column n is an output pixel; outside the image is 0.

import { type Code, i32, type Local, type Module } from "../../../wasm/encoder.ts";
import { type FloatKind, kindBytes } from "../../../wasm/simd-formats.ts";
import { patches } from "./blocking.ts";
import { SimdMath } from "./simd-math.ts";

/** Words that describe an image and a filter, in order. */
export const imageArgs = [
  "height",
  "width",
  "outWidth",
  "kernelY",
  "kernelX",
  "strideY",
  "strideX",
  "paddingY",
  "paddingX",
  "dilationY",
  "dilationX",
] as const;

/** Emits packPatches(mode, image, image words, first pixel, pixels, first k, kc, to, lanes) for panels of r pixels. */
export function emitPackPatches(module: Module, r: number): Code {
  const kinds = (["f32", "f16", "bf16"] as const).map((kind) => emitKind(module, r, kind));
  const c = module.func(undefined, new Array(9).fill(i32));
  kinds.forEach((kind, i) => {
    c.get(0)
      .int(patches + i)
      .op("i32.eq")
      .if();
    for (let p = 1; p < 9; p++) c.get(p);
    c.call(kind).op("return").end();
  });
  return c;
}

function emitKind(module: Module, r: number, kind: FloatKind): Code {
  const c = module.func(undefined, new Array(8).fill(i32));
  const [image, words, first, pixels, k0, kc, to, lanes] = [0, 1, 2, 3, 4, 5, 6, 7];
  const w = Object.fromEntries(imageArgs.map((name) => [name, c.local(i32)])) as Record<(typeof imageArgs)[number], Local>;
  imageArgs.forEach(
    (name, i) =>
      void c
        .get(words)
        .memory("i32.load", 4 * i)
        .set(w[name]),
  );
  const [j, k, plane, ky, kx, dy, dx, x, y, from, n, straight] = c.locals(i32, 12) as Local[] as [
    ...[Local, Local, Local, Local, Local, Local],
    ...[Local, Local, Local, Local, Local, Local],
  ];
  const bytes = kindBytes[kind];
  const math = new SimdMath(c, false);
  const taps = c.local(i32);
  const planeBytes = c.local(i32);
  c.get(w.kernelY).get(w.kernelX).op("i32.mul").set(taps);
  c.get(w.height).get(w.width).op("i32.mul").int(bytes).op("i32.mul").set(planeBytes);

  /** Top-left input position of each of the panel's pixels. */
  const placeLanes = () => {
    c.forLess(x, n, 1, () => {
      c.get(first).get(j).op("i32.add").get(x).op("i32.add").set(from);
      c.get(lanes).get(x).int(3).op("i32.shl").op("i32.add").get(from).get(w.outWidth).op("i32.div_u").get(w.strideY).op("i32.mul");
      c.get(w.paddingY).op("i32.sub").memory("i32.store");
      c.get(lanes).get(x).int(3).op("i32.shl").op("i32.add").get(from).get(w.outWidth).op("i32.rem_u").get(w.strideX).op("i32.mul");
      c.get(w.paddingX).op("i32.sub").memory("i32.store", 4);
    });
    // Straight: a full panel whose pixels are neighbours in one input row.
    c.get(n).int(r).op("i32.eq").get(w.strideX).int(1).op("i32.eq").op("i32.and");
    c.get(first)
      .get(j)
      .op("i32.add")
      .get(w.outWidth)
      .op("i32.rem_u")
      .int(r)
      .op("i32.add")
      .get(w.outWidth)
      .op("i32.le_s")
      .op("i32.and")
      .set(straight);
  };

  /** from = address of (plane, y, x) */
  const locate = () => c.get(plane).get(y).get(w.width).op("i32.mul").get(x).op("i32.add").int(bytes).op("i32.mul").op("i32.add").set(from);

  const copyStraight = () => {
    locate();
    for (let v = 0; v < r; v += 4) {
      c.get(to)
        .int(4 * v)
        .op("i32.add")
        .get(from);
      math.load(kind, 4, v * bytes);
      math.store("f32", 4);
    }
  };

  const lane = c.local(i32);
  const copyLanes = () => {
    c.forLess(lane, n, 1, () => {
      c.get(lanes).get(lane).int(3).op("i32.shl").op("i32.add").tee(from).memory("i32.load").get(dy).op("i32.add").set(y);
      c.get(from).memory("i32.load", 4).get(dx).op("i32.add").set(x);
      c.get(to).get(lane).int(2).op("i32.shl").op("i32.add").float(0).memory("f32.store");
      c.get(y).get(w.height).op("i32.lt_u").get(x).get(w.width).op("i32.lt_u").op("i32.and").if();
      locate();
      c.get(to).get(lane).int(2).op("i32.shl").op("i32.add").get(from);
      math.load(kind, 1);
      math.store("f32", 1);
      c.end();
    });
  };
  const nextTap = () => {
    c.advance(kx, 1).get(kx).get(w.kernelX).op("i32.eq").if().int(0).set(kx).advance(ky, 1);
    c.get(ky).get(w.kernelY).op("i32.eq").if().int(0).set(ky).get(plane).get(planeBytes).op("i32.add").set(plane).end().end();
  };

  c.forLess(j, pixels, r, () => {
    c.get(pixels).get(j).op("i32.sub").tee(n).int(r).get(n).int(r).op("i32.lt_s").op("select").set(n);
    placeLanes();
    c.get(image).get(k0).get(taps).op("i32.div_u").get(planeBytes).op("i32.mul").op("i32.add").set(plane);
    c.get(k0).get(taps).op("i32.rem_u").get(w.kernelX).op("i32.div_u").set(ky);
    c.get(k0).get(w.kernelX).op("i32.rem_u").set(kx);
    c.forLess(k, kc, 1, () => {
      c.get(ky).get(w.dilationY).op("i32.mul").set(dy).get(kx).get(w.dilationX).op("i32.mul").set(dx);
      c.get(lanes).memory("i32.load").get(dy).op("i32.add").set(y).get(lanes).memory("i32.load", 4).get(dx).op("i32.add").set(x);
      c.get(straight).get(y).get(w.height).op("i32.lt_u").op("i32.and").get(x).int(0).op("i32.ge_s").op("i32.and");
      c.get(x).int(r).op("i32.add").get(w.width).op("i32.le_s").op("i32.and").if();
      copyStraight();
      c.else();
      copyLanes();
      c.end();
      c.advance(to, 4 * r);
      nextTap();
    });
  });
  return c;
}

/** The operand mode of patches of a float kind. */
export const patchMode = (kind: FloatKind): number => patches + (kind === "f32" ? 0 : kind === "f16" ? 1 : 2);
