// The weights of a softmax row. A power of two is a long chain of steps that wait for each other, and a processor's queue holds three of them:
// so a part of the row runs the first half of the chain for all its values, through the first-level cache, and then the second.
import { type Code, i32, type Local, v128 } from "../../../wasm/encoder.ts";
import { scratch } from "./blocking.ts";
import { loadLanes, whileLeft } from "./loops.ts";
import type { SimdMath } from "./simd-math.ts";

/** Values of a part; each has 8 bytes between the halves. */
const partValues = 512;

/** A row of f32. */
interface Row {
  readonly from: Local;
  readonly columns: Local;
  /** Its greatest value, in all lanes. */
  readonly top: Local;
}

/** Sees the weight, its lanes, where it stands (byte offset of the row and more bytes), and the number of its vector. */
type Use = (weight: Local, lanes: 1 | 4, offset: Local, at: number, vector: number) => void;

/** What the loops share: code, functions, the row, bytes from its start, values of the part, and where a vector lies between the halves. */
interface Loops {
  readonly c: Code;
  readonly math: SimdMath;
  readonly row: Row;
  readonly offset: Local;
  readonly count: Local;
  readonly near: Local;
  readonly weight: Local;
}

/**
 * A loop over the weights e^(x - top) · `shareOfZero` of a row, vectors and then single values; other lanes of these are 0. Parameter 2 of the
 * function is the scratch memory.
 */
export function overShares(c: Code, math: SimdMath, row: Row, use: Use): void {
  const [left, offset, count, near, weight] = [...c.locals(i32, 4), c.local(v128)] as [Local, Local, Local, Local, Local];
  const loops: Loops = { c, math, row, offset, count, near, weight };
  c.get(row.columns).set(left).int(0).set(offset);
  c.block().loop().get(left).int(-16).op("i32.and").tee(count).op("i32.eqz").branchIf(1);
  c.get(count).int(partValues).get(count).int(partValues).op("i32.lt_s").op("select").set(count);
  emitFirstHalf(loops);
  c.get(offset).get(count).int(2).op("i32.shl").op("i32.sub").set(offset);
  emitSecondHalf(loops, use);
  c.get(left).get(count).op("i32.sub").set(left).branch(0).end().end();
  for (const lanes of [4, 1] as const) {
    whileLeft(c, left, lanes, () => {
      pushOctaves(loops, lanes, 0);
      math.share();
      c.set(weight);
      use(weight, lanes, offset, 0, 0);
      c.advance(offset, 4 * lanes);
    });
  }
}

/** Pushes the powers of two of a vector, or of one value. */
function pushOctaves({ c, math, row: { from, top }, offset }: Loops, lanes: 1 | 4, at: number): void {
  loadLanes(c, math, from, offset, lanes, Number.NEGATIVE_INFINITY, at);
  c.get(top)
    .op("f32x4.sub")
    .floats(Math.LOG2E * math.octave)
    .op("f32x4.mul");
}

/** A loop over four vectors of a part at a time, 32 bytes for each between the halves. */
function overPart({ c, count, near, offset }: Loops, visit: (vector: number) => void): void {
  const rest = c.local(i32);
  c.get(count).set(rest).get(2).int(scratch.packedB).op("i32.add").set(near);
  whileLeft(c, rest, 16, () => {
    for (let v = 0; v < 4; v++) visit(v);
    c.advance(near, 128).advance(offset, 64);
  });
}

function emitFirstHalf(loops: Loops): void {
  const { c, math, near } = loops;
  overPart(loops, (v) => {
    pushOctaves(loops, 4, 16 * v);
    const [rest, whole] = math.shareParts();
    for (const [i, part] of [rest, whole].entries())
      c.get(near)
        .get(part)
        .memory("v128.store", 32 * v + 16 * i);
  });
}

function emitSecondHalf(loops: Loops, use: Use): void {
  const { c, math, offset, near, weight } = loops;
  overPart(loops, (v) => {
    const push = (at: number) => () => c.get(near).memory("v128.load", 32 * v + at);
    math.shareOf(push(0), push(16));
    c.set(weight);
    use(weight, 4, offset, 16 * v, v);
  });
}
