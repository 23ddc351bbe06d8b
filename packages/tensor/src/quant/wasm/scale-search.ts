// `scaleQ6`, `scaleIq4` and `scaleQ3` of ../scale-search.ts over eight groups at once: the same operations in the same order, one group in
// each half of a vector.
import { type Code, i32, type Local, type Module, v128 } from "../../wasm/encoder.ts";
import { Expressions, type Value } from "../../wasm/expressions.ts";
import { iq4Values } from "../layout.ts";
import { nearestByHalf, numeratorsIq4, numeratorsQ6, TINY } from "../scale-search.ts";
import { clampedRound, fieldsOf, forRange, overGroups, pairs, places, recordBytes, rounder } from "./places.ts";

/** After the numerators: for every half from -127 to 113 the nearest level, as f64 and as its index. */
const levelsAt = places.tables + 256;
const indexesAt: number = levelsAt + 8 * nearestByHalf.length;

/** The codes a scale is searched for. */
export type Scaled = "q6" | "iq4";

const kinds = {
  q6: { n: 16, numerators: numeratorsQ6, code: (e: Expressions, v: Value) => clampedRound(e, v, -32, 31) },
  iq4: { n: 32, numerators: numeratorsIq4, code: nearestLevel },
} as const;

/** Tables of the non-linear levels, for `nearestLevel` and `nearestIndexes`. */
function addLevels(module: Module): void {
  const levels = Float64Array.from(nearestByHalf, (index) => iq4Values[index]!);
  module.data(levelsAt, new Uint8Array(levels.buffer));
  module.data(indexesAt, nearestByHalf);
}

/** The half of each value, counted from that of -127, in the low words. */
const halves = (e: Expressions, v: Value): Value => {
  const clamped = e.min(e.max(v, e.number(-127)), e.number(113));
  return e.add(e.op("f64x2.floor", e.mul(clamped, e.number(2))), e.number(rounder + 254));
};

/** The level nearest to each value. */
function nearestLevel(e: Expressions, v: Value): Value {
  return () => {
    const { c } = e;
    const at = c.local(v128);
    e.set(at, halves(e, v));
    for (const lane of [0, 2]) c.get(at).extract("i32x4.extract_lane", lane).int(3).op("i32.shl");
    // The high half's address waits on the stack.
    const high = c.local(i32);
    c.set(high).memory("v128.load64_zero", levelsAt).set(at);
    return c.get(high).get(at).loadLane("v128.load64_lane", 1, levelsAt);
  };
}

/** Stores the indexes of the levels nearest to a pair of values as bytes at an address plus `offset`. */
export function storeNearest(e: Expressions, v: Value, halvesLocal: Local, address: Local, offset: number): void {
  const { c } = e;
  e.set(halvesLocal, halves(e, v));
  for (const lane of [0, 2]) {
    c.get(address).get(halvesLocal).extract("i32x4.extract_lane", lane);
    c.memory("i32.load8_u", indexesAt).memory("i32.store8", offset + (lane >> 1));
  }
}

/** Stages values, their squares and cubes; `largest` gets the value of largest magnitude of each group, the first among equals. */
function stageSquared(e: Expressions, n: number, x: Local, largest: readonly Local[], value: Local, weight: Local): void {
  for (const local of largest) e.set(local, e.number(0));
  overGroups(e, x, n, value, (pair, record, at) => {
    const fields = fieldsOf(pair);
    const best = largest[pair]!;
    e.store(record, at + fields.x, value);
    e.set(weight, e.mul(value, value));
    e.store(record, at + fields.w, weight);
    e.store(record, at + fields.wx, e.mul(weight, value));
    e.set(best, e.select(e.op("f64x2.gt", e.abs(value), e.abs(best)), value, best));
  });
}

/** Groups whose values count as zero become masks that hide the lane. */
const tiny = (e: Expressions, largest: Local): Value => e.op("f64x2.lt", e.abs(largest), e.number(TINY));

/** search(x, at): scales of the eight groups at x, as f64, `at` bytes behind `places.scales`. */
export function emitScaleSearch(module: Module, kind: Scaled): Code {
  const { n, numerators } = kinds[kind];
  const c = module.func(undefined, [i32, i32]).keepConstants();
  const e = new Expressions(c);
  module.data(places.tables, new Uint8Array(numerators.buffer));
  if (kind === "iq4") addLevels(module);
  const [largest, scale, best] = [c.locals(v128, pairs), c.locals(v128, pairs), c.locals(v128, pairs)];
  const [value, weight, sums] = [c.local(v128), c.local(v128), c.locals(v128, 2)];
  stageSquared(e, n, 0, largest, value, weight);
  for (const local of [...scale, ...best]) e.set(local, e.number(0));
  const [trial, iscale] = [c.local(i32), c.local(v128)];
  forRange(c, trial, places.tables, places.tables + numerators.byteLength, 8, () => {
    for (let pair = 0; pair < pairs; pair++) {
      // A lane of zeros must not look up what lies outside the tables.
      e.set(iscale, e.div(e.load(trial, 0, "v128.load64_splat"), largest[pair]!));
      e.set(iscale, e.andNot(iscale, tiny(e, largest[pair]!)));
      emitSums(e, kind, pair, iscale, sums as [Local, Local], [value, weight]);
      keepBetter(e, sums as [Local, Local], scale[pair]!, best[pair]!, weight);
    }
  });
  for (let pair = 0; pair < pairs; pair++) {
    e.store(1, places.scales + 16 * pair, e.andNot(e.rounded(scale[pair]!), tiny(e, largest[pair]!)));
  }
  return c;
}

/** Σ w·x·q and Σ w·q² over the codes of one inverse scale. */
function emitSums(
  e: Expressions,
  kind: Scaled,
  pair: number,
  iscale: Local,
  [xq, qq]: readonly [Local, Local],
  [q, record]: readonly [Local, Local],
): void {
  const { n, code } = kinds[kind];
  const fields = fieldsOf(pair);
  const p = e.c.local(i32);
  for (const sum of [xq, qq]) e.set(sum, e.number(0));
  forRange(e.c, p, places.records, places.records + n * recordBytes, 4 * recordBytes, () => {
    for (let at = 0; at < 4 * recordBytes; at += recordBytes) {
      e.set(q, code(e, e.mul(iscale, e.load(p, at + fields.x))));
      e.set(xq, e.add(xq, e.mul(e.load(p, at + fields.wx), q)));
      e.set(record, e.mul(e.mul(e.load(p, at + fields.w), q), q));
      e.set(qq, e.add(qq, record));
    }
  });
}

/** Takes the scale over where it explains more. */
function keepBetter(e: Expressions, [xq, qq]: readonly [Local, Local], scale: Local, best: Local, mask: Local): void {
  const isMore = e.op("f64x2.gt", e.mul(xq, xq), e.mul(best, qq));
  e.set(mask, e.and(e.op("f64x2.gt", qq, e.number(0)), isMore));
  e.set(scale, e.select(mask, e.div(xq, qq), scale));
  e.set(best, e.select(mask, e.mul(scale, xq), best));
}

/** search(x, at): scales for codes -4…3 of the eight groups of 16 at x, as f64, `at` bytes behind `places.scales`. */
export function emitCodeSearch(module: Module): Code {
  const c = module.func(undefined, [i32, i32]).keepConstants();
  const search = new CodeSearch(new Expressions(c));
  search.start(0);
  search.improve();
  search.finish(1);
  return c;
}

/** The search for 3-bit codes: rounds once, then moves single codes while the fit improves. */
class CodeSearch {
  readonly #e: Expressions;
  readonly #largest: readonly Local[];
  readonly #xq: readonly Local[];
  readonly #qq: readonly Local[];
  readonly #moved: Local;
  readonly #temps: readonly Local[];
  readonly #record: Local;

  constructor(e: Expressions) {
    this.#e = e;
    const { c } = e;
    [this.#largest, this.#xq, this.#qq] = [c.locals(v128, pairs), c.locals(v128, pairs), c.locals(v128, pairs)];
    this.#temps = c.locals(v128, 9);
    this.#moved = c.local(v128);
    this.#record = c.local(i32);
  }

  #overRecords(visit: (pair: number) => void): void {
    forRange(this.#e.c, this.#record, places.records, places.records + 16 * recordBytes, recordBytes, () => {
      for (let pair = 0; pair < pairs; pair++) visit(pair);
    });
  }

  start(x: Local): void {
    const e = this.#e;
    const [value, weight, q] = this.#temps as [Local, Local, Local];
    const iscales = e.c.locals(v128, pairs);
    stageSquared(e, 16, x, this.#largest, value, weight);
    for (const [pair, largest] of this.#largest.entries()) e.set(iscales[pair]!, e.div(e.number(-4), largest));
    for (const sum of [...this.#xq, ...this.#qq]) e.set(sum, e.number(0));
    this.#overRecords((pair) => {
      const fields = fieldsOf(pair);
      e.set(q, clampedRound(e, e.mul(iscales[pair]!, e.load(this.#record, fields.x)), -4, 3));
      e.store(this.#record, fields.q, q);
      e.set(this.#xq[pair]!, e.add(this.#xq[pair]!, e.mul(e.load(this.#record, fields.wx), q)));
      e.set(this.#qq[pair]!, e.add(this.#qq[pair]!, e.mul(e.mul(e.load(this.#record, fields.w), q), q)));
    });
  }

  /** Up to five rounds; a group in which nothing moved would not change any more. */
  improve(): void {
    const { c } = this.#e;
    const round = c.local(i32);
    c.block();
    forRange(c, round, 0, 5, 1, () => {
      this.#e.set(this.#moved, this.#e.number(0));
      this.#overRecords((pair) => this.#move(pair));
      c.get(this.#moved).op("v128.any_true").op("i32.eqz").branchIf(1);
    });
    c.end();
  }

  /** Gives one code of each group of a pair the value that fits best while the others stay. */
  #move(pair: number): void {
    const e = this.#e;
    const [xq, qq, fields] = [this.#xq[pair]!, this.#qq[pair]!, fieldsOf(pair)];
    const [q, to, restXq, restQq, newXq, newQq, accept, w, wx] = this.#temps as [
      ...[Local, Local, Local, Local, Local, Local, Local, Local, Local],
    ];
    e.set(q, e.load(this.#record, fields.q));
    e.set(w, e.load(this.#record, fields.w));
    e.set(wx, e.load(this.#record, fields.wx));
    e.set(restXq, e.sub(xq, e.mul(wx, q)));
    e.set(restQq, e.sub(qq, e.mul(e.mul(w, q), q)));
    e.set(to, clampedRound(e, e.div(e.mul(e.load(this.#record, fields.x), restQq), restXq), -4, 3));
    e.set(newXq, e.add(restXq, e.mul(wx, to)));
    e.set(newQq, e.add(restQq, e.mul(e.mul(w, to), to)));
    const zero = e.number(0);
    e.set(accept, e.andNot(e.op("f64x2.ne", to, q), e.op("f64x2.le", restXq, zero)));
    e.set(accept, e.andNot(accept, e.op("f64x2.le", newQq, zero)));
    e.set(accept, e.andNot(accept, e.op("f64x2.le", e.mul(e.mul(newXq, newXq), qq), e.mul(e.mul(xq, xq), newQq))));
    e.set(accept, e.andNot(accept, tiny(e, this.#largest[pair]!)));
    e.store(this.#record, fields.q, e.select(accept, to, q));
    e.set(xq, e.select(accept, newXq, xq));
    e.set(qq, e.select(accept, newQq, qq));
    e.set(this.#moved, e.or(this.#moved, accept));
  }

  finish(at: Local): void {
    const e = this.#e;
    const scale = this.#temps[0]!;
    for (const [pair, largest] of this.#largest.entries()) {
      const [xq, qq] = [this.#xq[pair]!, this.#qq[pair]!];
      e.set(scale, e.and(e.rounded(e.div(xq, qq)), e.op("f64x2.gt", qq, e.number(0))));
      e.store(at, places.scales + 16 * pair, e.andNot(scale, tiny(e, largest)));
    }
  }
}
