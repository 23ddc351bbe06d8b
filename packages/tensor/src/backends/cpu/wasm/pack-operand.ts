// Packing of either operand of a matrix product, however it is stored: f32, f16 and bf16 straight into panels, other formats expanded first.

import { type Callee, type Code, i32, type Local, type Module } from "../../../wasm/encoder.ts";
import { across, operandModes } from "./blocking.ts";
import { emitPackAcross, emitPackAlong } from "./pack.ts";
import { pushRest } from "./panels.ts";

/** Pushes the bytes that `k` values of a mode take. */
function pushBytes(c: Code, mode: Local, k: Local): void {
  c.get(k).int(2).op("i32.shl");
  for (const [kind, block, bytes] of [
    ["f16", 1, 2],
    ["bf16", 1, 2],
    ["q8_0", 32, 34],
    ["q4_0", 32, 18],
    ["q4_K", 256, 144],
  ] as const) {
    c.get(k)
      .int(block)
      .op("i32.div_u")
      .int(bytes)
      .op("i32.mul")
      .get(mode)
      .int(across - 1)
      .op("i32.and");
    c.int(operandModes[kind]).op("i32.ne").op("select");
  }
}

/**
 * touch(from, step, lines, bytes, to): reads a byte of every cache line of `lines` lines, so that many are on their way at once. Several lines side
 * by side, a few hundred bytes each, are what the processor does not fetch ahead; packing alone asks for two or three at a time.
 */
export function emitTouch(module: Module): Code {
  const c = module.func(undefined, [i32, i32, i32, i32, i32]);
  const [line, step, lines, bytes, to] = [0, 1, 2, 3, 4];
  const [i, at, end, seen] = c.locals(i32, 4) as [Local, Local, Local, Local];
  c.forLess(i, lines, 1, () => {
    c.get(line).set(at).get(line).get(bytes).op("i32.add").set(end);
    c.block().loop().get(at).get(end).op("i32.ge_u").branchIf(1);
    c.get(at).memory("i32.load8_u").get(seen).op("i32.or").set(seen).advance(at, 64).branch(0).end().end();
    c.get(line).get(step).op("i32.add").set(line);
  });
  // Stored where the panel will overwrite it, so that the reads count.
  c.get(to).get(seen).memory("i32.store");
  return c;
}

/** Columns of the right operand that are read together before they are packed: 64 KiB of bf16, a multiple of every tile's width. */
export const touchedColumns = 64;

/** Parameters of a packer: mode, address, bytes between lines, first line, lines, first k, kc, room for expanded lines, destination. */
export const packParams = [i32, i32, i32, i32, i32, i32, i32, i32, i32] as const;

/** Functions that packing calls. */
interface Tools {
  /** expand(mode, from, to, count). */
  readonly expand: Callee;
  /** See `emitTouch`. */
  readonly touch: Callee;
}

/** Emits the packer of an operand, exported as `name`, into panels of `width` lines; `together` lines that run along k are touched at a time. */
export function emitPackOperand(
  module: Module,
  name: string,
  { expand, touch }: Tools,
  { width, together }: { readonly width: number; readonly together?: number },
): Code {
  const packAcross = emitPackAcross(module, width);
  const along = (["f32", "f16", "bf16"] as const).map((kind) => [operandModes[kind], emitPackAlong(module, width, kind)] as const);
  const packWide = along[0]![1];
  const c = module.func(name, packParams);
  const [mode, address, step, first, lines, k0, kc, wide, to] = [0, 1, 2, 3, 4, 5, 6, 7, 8];
  const [kind, from, i, d, j, some, part, bytes] = c.locals(i32, 8) as Local[] as [
    ...[Local, Local, Local, Local],
    ...[Local, Local, Local, Local],
  ];
  const expandLines = (count: Local, length: Local) => {
    c.get(wide).set(d);
    c.forLess(i, count, 1, () => {
      c.get(kind).get(from).get(d).get(length).call(expand);
      c.get(from).get(step).op("i32.add").set(from).get(d).get(length).int(2).op("i32.shl").op("i32.add").set(d);
    });
  };
  /** Some lines at a time, so that what is read or expanded is in the first-level cache when it is packed. */
  const inParts = (size: number, visit: () => void) => {
    c.int(size).set(part);
    pushBytes(c, mode, kc);
    c.set(bytes);
    c.forLess(j, lines, size, () => {
      pushRest(c, lines, j, part, some);
      c.get(from).get(step).get(some).get(bytes).get(to).call(touch);
      visit();
      c.get(to)
        .get(kc)
        .int(4 * size)
        .op("i32.mul")
        .op("i32.add")
        .set(to);
    });
  };
  const packParts = (pack: Code) => {
    if (together === undefined) {
      c.get(from).get(step).get(lines).get(kc).get(to).call(pack);
      return;
    }
    inParts(together, () => {
      c.get(from).get(step).get(some).get(kc).get(to).call(pack);
      c.get(from).get(step).int(together).op("i32.mul").op("i32.add").set(from);
    });
  };
  c.get(mode)
    .int(across - 1)
    .op("i32.and")
    .set(kind);
  c.get(mode).int(across).op("i32.and").if();
  c.get(address).get(k0).get(step).op("i32.mul").op("i32.add");
  pushBytes(c, mode, first);
  c.op("i32.add").set(from);
  c.get(kind).op("i32.eqz").if().get(from).get(step).get(lines).get(kc).get(to).call(packAcross).else();
  expandLines(kc, lines);
  c.get(wide).get(lines).int(2).op("i32.shl").get(lines).get(kc).get(to).call(packAcross).end();
  c.else();
  c.get(address).get(first).get(step).op("i32.mul").op("i32.add");
  pushBytes(c, mode, k0);
  c.op("i32.add").set(from);
  for (const [mode, pack] of along) {
    c.get(kind).int(mode).op("i32.eq").if();
    packParts(pack);
    c.else();
  }
  inParts(width, () => {
    expandLines(some, kc);
    c.get(wide).get(kc).int(2).op("i32.shl").get(some).get(kc).get(to).call(packWide);
  });
  for (const _ of along) c.end();
  c.end();
  return c;
}
