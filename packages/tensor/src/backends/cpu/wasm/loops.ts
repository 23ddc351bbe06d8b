// Loops of the generated row kernels: over job words, rows, and the vectors of a row.
import { type Code, i32, type Local } from "../../../wasm/encoder.ts";
import type { SimdMath } from "./simd-math.ts";

/** Locals holding the words of a job, whose address is parameter 1. */
export function loadWords<N extends string>(c: Code, names: readonly N[]): Record<N, Local> {
  const words = Object.fromEntries(names.map((name) => [name, c.local(i32)])) as Record<N, Local>;
  names.forEach(
    (name, i) =>
      void c
        .get(1)
        .memory("i32.load", 4 * i)
        .set(words[name]),
  );
  return words;
}

/** end = min(start + step, total) */
export const setEnd = (c: Code, start: Local, step: Local, total: Local, end: Local): Code =>
  c.get(start).get(step).op("i32.add").tee(end).get(total).get(end).get(total).op("i32.lt_s").op("select").set(end);

/** Pushes base + offset. */
export const address = (c: Code, base: Local, offset: Local): Code => c.get(base).get(offset).op("i32.add");

/** A loop over a row by vectors and then by single values; `visit` sees the lanes and the byte offset's local. */
export function overRow(c: Code, columns: Local, visit: (lanes: 1 | 4, offset: Local) => void): void {
  overVectors(c, columns, 1, (lanes, offset) => visit(lanes, offset));
}

/** Runs `body` and takes `step` from `left` while at least `step` is left; tested at its end, so that V8 may move constants out of it. */
export function whileLeft(c: Code, left: Local, step: number, body: () => void): void {
  c.get(left).int(step).op("i32.ge_s").if().loop();
  body();
  c.advance(left, -step).get(left).int(step).op("i32.ge_s").branchIf(0).end().end();
}

/**
 * A loop over a row by `unroll` vectors, then by single vectors, then by single values. `visit` sees the lanes, the local of the byte
 * offset, the constant bytes to add to it, and the number of the vector: independent accumulators hide the latency of additions.
 */
export function overVectors(
  c: Code,
  columns: Local,
  unroll: number,
  visit: (lanes: 1 | 4, offset: Local, at: number, vector: number) => void,
): void {
  const [left, offset] = c.locals(i32, 2) as [Local, Local];
  c.get(columns).set(left).int(0).set(offset);
  const steps: [1 | 4, number][] = unroll > 1 ? [[4, unroll]] : [];
  for (const [lanes, vectors] of [...steps, [4, 1], [1, 1]] as [1 | 4, number][]) {
    whileLeft(c, left, lanes * vectors, () => {
      for (let v = 0; v < vectors; v++) visit(lanes, offset, 16 * v, v);
      c.advance(offset, 4 * lanes * vectors);
    });
  }
}

/** Combines the four lanes of a vector and spreads the result over all lanes. */
export function spread(c: Code, v: Local, op: "f32x4.add" | "f32x4.pmin" | "f32x4.pmax" | "v128.or"): void {
  c.get(v).get(v).get(v).shuffle(2, 3, 0, 1).op(op).set(v).get(v).get(v).get(v).shuffle(1, 0, 3, 2).op(op).set(v);
}

/** Loads four values, or one with the other lanes filled by `rest`. */
export function loadLanes(c: Code, math: SimdMath, base: Local, offset: Local, lanes: 1 | 4, rest: number, at = 0): void {
  address(c, base, offset);
  math.load("f32", lanes, at);
  if (lanes === 1) c.floats(rest).shuffle(0, 4, 4, 4);
}
