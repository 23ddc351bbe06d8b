// Where things lie in the memory of a conversion module, and the loops and moves that its functions share.
import { type Code, i32, type Local } from "../../wasm/encoder.ts";
import type { Expressions, Value } from "../../wasm/expressions.ts";

/** Byte addresses; the first page holds everything but the input and the output. */
export const places = {
  /** Tables that instantiation fills in. */
  tables: 1024,
  /** The groups that a search works on: a record for each value of four pairs of groups. */
  records: 8192,
  /** f64 scales and depths of the sub-blocks of one block. */
  scales: 24_576,
  depths: 24_704,
  /** The whole numbers they become, as i32. */
  wholeScales: 24_832,
  wholeDepths: 24_896,
  /** A byte for each value of a block. */
  codes: 25_088,
  /** The values of all 8-bit floats. */
  bytes: 25_600,
  /** Decoded values, as f32. */
  values: 32_768,
  /** Whatever is converted. */
  input: 65_536,
} as const;

/** Values decoded at a time: whole blocks of every format. */
export const stripValues = 4096;

/** Added to a number of magnitude below 2^51, it rounds to a whole number, ties to even, that then stands in the low bits. */
export const rounder = 6755399441055744;

/** Vectors of two groups of values each that are searched together. */
export const pairs = 4;
/** The groups in them. */
export const groups: number = 2 * pairs;

/** Runs `body` for a local that goes from `from` to `to` by `step`. */
export function forRange(c: Code, i: Local, from: number, to: number, step: number, body: () => void): void {
  c.int(from).set(i).loop();
  body();
  c.advance(i, step).get(i).int(to).op("i32.lt_s").branchIf(0).end();
}

/** A record holds the fields of one value of each group. */
export const recordBytes: number = 64 * pairs;

/** Where the fields of pair `pair` lie in the record of a value: the value, its weight, weight times value, its code. */
export const fieldsOf = (pair: number) => ({ x: 64 * pair, w: 64 * pair + 16, wx: 64 * pair + 32, q: 64 * pair + 48 });

/**
 * Loads `groups` neighbouring groups of `n` f32 values from the address in `x`, four of each at a time; `visit` gets, for each pair, a local with
 * the pair's values number i, and the address of their record.
 */
export function overGroups(
  e: Expressions,
  x: Local,
  n: number,
  value: Local,
  visit: (pair: number, record: Local, at: number) => void,
): void {
  const { c } = e;
  const [from, record] = c.locals(i32, 2) as [Local, Local];
  c.get(x).set(from);
  forRange(c, record, places.records, places.records + n * recordBytes, 4 * recordBytes, () => {
    for (let pair = 0; pair < pairs; pair++) {
      const [a, b] = [e.load(from, 8 * n * pair), e.load(from, 8 * n * pair + 4 * n)];
      for (let i = 0; i < 4; i++) {
        e.set(value, e.promote(e.shuffle(a, b, i, i + 4, i, i + 4)));
        visit(pair, record, i * recordBytes);
      }
    }
    c.advance(from, 16);
  });
}

/** Clamped whole numbers plus `rounder`, whose low words they are. */
export const clampedWhole = (e: Expressions, x: Value, low: number, high: number): Value =>
  e.max(e.min(e.add(x, e.number(rounder)), e.number(rounder + high)), e.number(rounder + low));

/** The same as f64. */
export const clampedRound = (e: Expressions, x: Value, low: number, high: number): Value =>
  e.sub(clampedWhole(e, x, low, high), e.number(rounder));

/** Low words of two pairs. */
export const lowWords = (e: Expressions, a: Value, b: Value): Value => e.shuffle(a, b, 0, 2, 4, 6);
