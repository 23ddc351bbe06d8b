// Packing: matrices into f32 panels of R rows (or columns) with the panel's values of each k side by side.
import { type Code, i32, type Local, type Module, v128 } from "../../../wasm/encoder.ts";
import { type FloatKind, kindBytes } from "../../../wasm/simd-formats.ts";
import { SimdMath } from "./simd-math.ts";

/** Parameters of both packers: source, bytes between lines, width (rows or columns to pack), kc, destination. */
const params = [i32, i32, i32, i32, i32] as const;

/** Panels filled side by side from lines that run across them, so that a whole cache line of the source is used when it comes. */
const panelGroup = 4;

/** Packs lines that are contiguous along the panel: source[k][width]. */
export function emitPackAcross(module: Module, r: number): Code {
  const c = module.func(undefined, params);
  const [from, step, width, kc, to] = [0, 1, 2, 3, 4];
  const [j, k, s, rest, panelBytes] = c.locals(i32, 5) as [Local, Local, Local, Local, Local];
  const targets = c.locals(i32, panelGroup);
  c.get(kc)
    .int(4 * r)
    .op("i32.mul")
    .set(panelBytes);
  const place = () => {
    c.get(from).get(j).int(2).op("i32.shl").op("i32.add").set(s).get(to).set(targets[0]!);
    for (let i = 1; i < panelGroup; i++)
      c.get(targets[i - 1]!)
        .get(panelBytes)
        .op("i32.add")
        .set(targets[i]!);
  };
  const nextLine = (panels: number) => {
    for (const target of targets.slice(0, panels)) c.advance(target, 4 * r);
    c.get(s).get(step).op("i32.add").set(s);
  };
  const finished = (panels: number) => {
    c.get(targets[panels - 1]!)
      .set(to)
      .advance(j, panels * r);
  };
  c.block()
    .loop()
    .get(j)
    .int(panelGroup * r)
    .op("i32.add")
    .get(width)
    .op("i32.gt_s")
    .branchIf(1);
  place();
  c.forLess(k, kc, 1, () => {
    for (const [i, target] of targets.entries()) copyLine(c, s, target, r, i * r);
    nextLine(panelGroup);
  });
  finished(panelGroup);
  c.branch(0).end().end();
  c.block().loop().get(j).get(width).op("i32.ge_s").branchIf(1);
  place();
  c.get(width).get(j).op("i32.sub").set(rest);
  c.forLess(k, kc, 1, () => {
    c.get(rest).int(r).op("i32.ge_s").if();
    copyLine(c, s, targets[0]!, r, 0);
    c.else();
    copyRest(c, s, targets[0]!, rest);
    c.end();
    nextLine(1);
  });
  finished(1);
  c.branch(0).end().end();
  return c;
}

/** Copies `count` floats, fewer than a whole line. */
function copyRest(c: Code, from: Local, to: Local, count: Local): void {
  const x = c.local(i32);
  const place = () => {
    for (const base of [to, from]) c.get(base).get(x).int(2).op("i32.shl").op("i32.add");
  };
  c.int(0).set(x).block().loop().get(x).int(4).op("i32.add").get(count).op("i32.gt_s").branchIf(1);
  place();
  c.memory("v128.load").memory("v128.store").advance(x, 4).branch(0).end().end();
  const one = () => {
    place();
    c.memory("f32.load").memory("f32.store");
  };
  c.forLess(x, count, 1, one, "here");
}

/** Copies r floats from float `first` on. */
function copyLine(c: Code, from: Local, to: Local, r: number, first: number): void {
  let i = 0;
  for (; i + 4 <= r; i += 4)
    c.get(to)
      .get(from)
      .memory("v128.load", 4 * (first + i))
      .memory("v128.store", 4 * i);
  if (i + 2 <= r) {
    c.get(to)
      .get(from)
      .memory("v128.load64_zero", 4 * (first + i))
      .storeLane("v128.store64_lane", 0, 4 * i);
    i += 2;
  }
  if (i < r)
    c.get(to)
      .get(from)
      .memory("f32.load", 4 * (first + i))
      .memory("f32.store", 4 * i);
}

/** Packs lines of a float kind that are contiguous along k: source[width][k], transposing 4 x 4 blocks in registers. */
export function emitPackAlong(module: Module, r: number, kind: FloatKind): Code {
  const c = module.func(undefined, params);
  const [from, step, width, kc, to] = [0, 1, 2, 3, 4];
  const [j, k, rest] = c.locals(i32, 3) as [Local, Local, Local];
  const lines = c.locals(i32, r);
  const math = new SimdMath(c, false);
  const load = kind === "f16" ? halfLoader(c) : () => math.load(kind, 4);
  const v = c.locals(v128, 8);
  const bytes = kindBytes[kind];
  c.forLess(j, width, r, () => {
    c.get(from).get(j).get(step).op("i32.mul").op("i32.add").set(lines[0]!);
    lines.slice(1).forEach((line, i) => void c.get(lines[i]!).get(step).op("i32.add").set(line));
    c.get(width).get(j).op("i32.sub").set(rest);
    c.get(rest).int(r).op("i32.ge_s").if();
    c.int(0).set(k).block().loop().get(k).int(4).op("i32.add").get(kc).op("i32.gt_s").branchIf(1);
    for (let g = 0; g < r; g += 4) {
      lines.slice(g, g + 4).forEach((line, i) => {
        c.get(line);
        load();
        c.set(v[i]!);
      });
      transposeGroup(c, lines.slice(g, g + 4).length, to, g, r, v);
    }
    for (const line of lines) c.advance(line, 4 * bytes);
    c.advance(to, 16 * r)
      .advance(k, 4)
      .branch(0)
      .end()
      .end();
    const one = () => {
      for (const [i, line] of lines.entries()) {
        c.get(to)
          .int(4 * i)
          .op("i32.add")
          .get(line);
        math.load(kind, 1);
        math.store("f32", 1);
        c.advance(line, bytes);
      }
      c.advance(to, 4 * r);
    };
    c.forLess(k, kc, 1, one, "here");
    c.else();
    emitRestAlong(c, math, kind, { line: lines[0]!, step, rest, kc, to, r });
    c.end();
  });
  return c;
}

/**
 * Emits the constants of the conversion of four f16 into locals, outside the loop, where V8 would leave them; the result emits the conversion:
 * address on the stack → f32 values. Normal numbers, infinity and NaN gain their exponent by a product, subnormal ones by a difference.
 */
function halfLoader(c: Code): () => void {
  const [low, exponent, half, subnormal, sign, rescale] = [0x7fff, 0x70000000, 0x3f000000, 0x3ff, 0x8000, 0x07800000].map((bits) => {
    const local = c.local(v128);
    c.ints(bits).set(local);
    return local;
  }) as [Local, Local, Local, Local, Local, Local];
  const [h, m] = c.locals(v128, 2) as [Local, Local];
  return () => {
    c.memory("v128.load16x4_u").tee(h).get(low).op("v128.and").tee(m);
    c.int(13).op("i32x4.shl").get(exponent).op("i32x4.add").get(rescale).op("f32x4.mul");
    c.get(m).get(half).op("v128.or").get(half).op("f32x4.sub");
    c.get(m).get(subnormal).op("i32x4.gt_s").op("v128.bitselect");
    c.get(h).get(sign).op("v128.and").int(16).op("i32x4.shl").op("v128.or");
  };
}

interface Rest {
  readonly line: Local;
  readonly step: Local;
  readonly rest: Local;
  readonly kc: Local;
  readonly to: Local;
  readonly r: number;
}

/** The last panel, which has fewer than r lines: value by value. */
function emitRestAlong(c: Code, math: SimdMath, kind: FloatKind, { line, step, rest, kc, to, r }: Rest): void {
  const [x, k, s, d] = c.locals(i32, 4) as [Local, Local, Local, Local];
  c.forLess(x, rest, 1, () => {
    c.get(line).get(x).get(step).op("i32.mul").op("i32.add").set(s).get(to).get(x).int(2).op("i32.shl").op("i32.add").set(d);
    c.forLess(k, kc, 1, () => {
      c.get(d).get(s);
      math.load(kind, 1);
      math.store("f32", 1);
      c.advance(d, 4 * r).advance(s, kindBytes[kind]);
    });
  });
}

/** Four values of each of one, two or four lines in v, stored k-major at float `g` of four panel lines. */
function transposeGroup(c: Code, lines: number, to: Local, g: number, r: number, v: readonly Local[]): void {
  const [a, b, x, y, ab0, ab1, xy0, xy1] = v as [Local, Local, Local, Local, Local, Local, Local, Local];
  if (lines === 1) {
    for (let k = 0; k < 4; k++)
      c.get(to)
        .get(a)
        .storeLane("v128.store32_lane", k, 4 * (k * r + g));
    return;
  }
  c.get(a).get(b).shuffle(0, 4, 1, 5).set(ab0).get(a).get(b).shuffle(2, 6, 3, 7).set(ab1);
  if (lines === 2) {
    for (let k = 0; k < 4; k++)
      c.get(to)
        .get(k < 2 ? ab0 : ab1)
        .storeLane("v128.store64_lane", k & 1, 4 * (k * r + g));
    return;
  }
  c.get(x).get(y).shuffle(0, 4, 1, 5).set(xy0).get(x).get(y).shuffle(2, 6, 3, 7).set(xy1);
  for (let k = 0; k < 4; k++) {
    c.get(to)
      .get(k < 2 ? ab0 : ab1)
      .get(k < 2 ? xy0 : xy1);
    if (k % 2 === 0) c.shuffle(0, 1, 4, 5);
    else c.shuffle(2, 3, 6, 7);
    c.memory("v128.store", 4 * (k * r + g));
  }
}
