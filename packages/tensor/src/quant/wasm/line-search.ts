// `scaleMin` of ../scale-search.ts over eight groups at once: the same operations in the same order, one group in each half of a vector.
import { type Code, i32, type Local, type Module, v128 } from "../../wasm/encoder.ts";
import { Expressions } from "../../wasm/expressions.ts";
import type { ScaleMinSearch } from "../scale-search.ts";
import { clampedRound, fieldsOf, forRange, overGroups, pairs, places, recordBytes } from "./places.ts";

/** Sums and the best line so far of one pair of groups. */
const names = ["max", "w", "x", "xx", "scale", "depth", "least", "same"] as const;
type State = Record<(typeof names)[number], Local>;

/** What a line search is made for. */
export interface LineSearch extends ScaleMinSearch {
  /** Values of a group. */
  readonly n: number;
  /** Adds the root mean square to the weights. */
  readonly base: boolean;
}

/**
 * search(x, at): scales and depths of the eight groups at x, as f64, `at` bytes behind `places.scales` and `places.depths`.
 */
export function emitLineSearch(module: Module, search: LineSearch): Code {
  const c = module.func(undefined, [i32, i32]).keepConstants();
  module.data(places.tables, numerators(search));
  const emitter = new LineEmitter(new Expressions(c), search);
  emitter.stage(0);
  emitter.start();
  const trial = c.local(i32);
  forRange(c, trial, places.tables, places.tables + 8 * (search.tries + 1), 8, () => emitter.tryAll(trial));
  emitter.finish(1);
  return c;
}

/** Numerators of the inverse scales, in the order they are tried. */
function numerators({ first, top, tries }: LineSearch): Uint8Array {
  return new Uint8Array(Float64Array.from({ length: tries + 1 }, (_, i) => first + 0.1 * i + top).buffer);
}

class LineEmitter {
  readonly #e: Expressions;
  readonly #search: LineSearch;
  readonly #states: readonly State[];
  readonly #value: Local;
  readonly #record: Local;
  /** Sums of a trial, and the line that follows from them. */
  readonly #q: Local;
  readonly #qq: Local;
  readonly #xq: Local;
  readonly #iscale: Local;
  readonly #min: Local;
  readonly #newScale: Local;
  readonly #newDepth: Local;
  readonly #error: Local;
  readonly #mask: Local;
  readonly #other: Local;

  constructor(e: Expressions, search: LineSearch) {
    this.#e = e;
    this.#search = search;
    const { c } = e;
    this.#states = Array.from({ length: pairs }, () => Object.fromEntries(names.map((name) => [name, c.local(v128)])) as State);
    this.#record = c.local(i32);
    this.#value = c.local(v128);
    [this.#q, this.#qq, this.#xq] = c.locals(v128, 3) as [Local, Local, Local];
    [this.#iscale, this.#min, this.#newScale, this.#newDepth] = c.locals(v128, 4) as [Local, Local, Local, Local];
    [this.#error, this.#mask, this.#other] = c.locals(v128, 3) as [Local, Local, Local];
  }

  /** Values, weights and their sums; `depth` gets the negative of the least value or 0. */
  stage(x: Local): void {
    const e = this.#e;
    const { n, base } = this.#search;
    const squares = e.c.locals(v128, pairs);
    for (const [pair, { max, depth }] of this.#states.entries()) {
      e.set(depth, e.number(0));
      e.set(max, e.number(Number.NEGATIVE_INFINITY));
      e.set(squares[pair]!, e.number(0));
    }
    overGroups(e, x, n, this.#value, (pair, record, at) => {
      const { max, depth } = this.#states[pair]!;
      const v = this.#value;
      e.store(record, at + fieldsOf(pair).x, v);
      e.set(depth, e.min(depth, v));
      e.set(max, e.max(max, v));
      if (base) e.set(squares[pair]!, e.add(squares[pair]!, e.mul(v, v)));
    });
    for (const [pair, { depth, w, x: sum, xx }] of this.#states.entries()) {
      e.set(depth, e.neg(depth));
      e.set(squares[pair]!, e.sqrt(e.div(squares[pair]!, e.number(n))));
      for (const local of [w, sum, xx]) e.set(local, e.number(0));
    }
    this.#overRecords((pair, at) => this.#weigh(pair, at, squares[pair]!));
  }

  #overRecords(visit: (pair: number, at: number) => void, each = [...this.#states.keys()]): void {
    const { n } = this.#search;
    const end = places.records + n * recordBytes;
    forRange(this.#e.c, this.#record, places.records, end, 4 * recordBytes, () => {
      for (let i = 0; i < 4; i++) for (const pair of each) visit(pair, i * recordBytes);
    });
  }

  #weigh(pair: number, at: number, level: Local): void {
    const e = this.#e;
    const { w, x, xx } = this.#states[pair]!;
    const fields = fieldsOf(pair);
    const [v, weight] = [this.#value, this.#other];
    e.set(v, e.load(this.#record, at + fields.x));
    e.set(weight, e.add(level, e.abs(v)));
    e.store(this.#record, at + fields.w, weight);
    e.set(w, e.add(w, weight));
    e.set(weight, e.mul(weight, v));
    e.store(this.#record, at + fields.wx, weight);
    e.set(x, e.add(x, weight));
    e.set(xx, e.add(xx, e.mul(weight, v)));
  }

  /** The line over the full range of each group. */
  start(): void {
    const e = this.#e;
    const top = e.number(this.#search.top);
    for (const [pair, { max, scale, depth, least, same }] of this.#states.entries()) {
      e.set(this.#other, e.add(max, depth));
      e.set(same, e.op("f64x2.eq", max, e.neg(depth)));
      e.set(scale, e.div(this.#other, top));
      e.set(this.#iscale, e.div(top, this.#other));
      e.set(this.#min, e.neg(depth));
      this.#tryCodes(pair);
      e.set(least, this.#missed(pair, scale, depth));
    }
  }

  /** Codes for one inverse scale, and their sums. */
  #tryCodes(pair: number): void {
    const e = this.#e;
    const { top, absolute } = this.#search;
    const [q, weighted, fields] = [this.#value, this.#other, fieldsOf(pair)];
    for (const sum of [this.#q, this.#qq, this.#xq]) e.set(sum, e.number(0));
    this.#overRecords(
      (_, at) => {
        const x = e.load(this.#record, at + fields.x);
        e.set(q, clampedRound(e, e.mul(this.#iscale, e.sub(x, this.#min)), 0, top));
        if (absolute) e.store(this.#record, at + fields.q, q);
        e.set(weighted, e.mul(e.load(this.#record, at + fields.w), q));
        e.set(this.#q, e.add(this.#q, weighted));
        e.set(this.#qq, e.add(this.#qq, e.mul(weighted, q)));
        e.set(this.#xq, e.add(this.#xq, e.mul(e.load(this.#record, at + fields.wx), q)));
      },
      [pair],
    );
  }

  /** Leaves in a local what scale·q - depth misses. */
  #missed(pair: number, scale: Local, depth: Local): Local {
    const e = this.#e;
    const error = this.#error;
    if (this.#search.absolute) this.#missedMagnitudes(pair, scale, depth);
    else {
      const { w, x, xx } = this.#states[pair]!;
      const two = e.number(2);
      const inner = e.mul(two, e.add(e.mul(depth, this.#q), this.#xq));
      e.set(error, e.mul(scale, e.sub(e.mul(scale, this.#qq), inner)));
      e.set(error, e.add(error, e.mul(depth, e.add(e.mul(depth, w), e.mul(two, x)))));
      e.set(error, e.add(error, xx));
    }
    return error;
  }

  #missedMagnitudes(pair: number, scale: Local, depth: Local): void {
    const e = this.#e;
    const fields = fieldsOf(pair);
    const field = (at: number) => e.load(this.#record, at);
    e.set(this.#error, e.number(0));
    this.#overRecords(
      (_, at) => {
        const missed = e.abs(e.sub(e.sub(e.mul(scale, field(at + fields.q)), depth), field(at + fields.x)));
        e.set(this.#error, e.add(this.#error, e.mul(field(at + fields.w), missed)));
      },
      [pair],
    );
  }

  /** One more inverse scale for every pair, whose numerator lies at the address in `trial`. */
  tryAll(trial: Local): void {
    const e = this.#e;
    for (const [pair, { max, depth }] of this.#states.entries()) {
      e.set(this.#iscale, e.div(e.load(trial, 0, "v128.load64_splat"), e.add(max, depth)));
      e.set(this.#min, e.neg(depth));
      this.#tryCodes(pair);
      this.#fitLine(pair);
      this.#keepBetter(pair, this.#missed(pair, this.#newScale, this.#newDepth));
    }
  }

  /** The weighted least-squares line through the codes; `mask` says where there is one. */
  #fitLine(pair: number): void {
    const e = this.#e;
    const { w, x } = this.#states[pair]!;
    const [d, offset, above] = [this.#other, this.#newDepth, this.#error];
    e.set(d, e.sub(e.mul(w, this.#qq), e.mul(this.#q, this.#q)));
    e.set(this.#mask, e.op("f64x2.gt", d, e.number(0)));
    e.set(offset, e.div(e.sub(e.mul(this.#qq, x), e.mul(this.#q, this.#xq)), d));
    e.set(above, e.op("f64x2.gt", offset, e.number(0)));
    const slope = e.sub(e.mul(w, this.#xq), e.mul(x, this.#q));
    e.set(this.#newScale, e.div(e.select(above, this.#xq, slope), e.select(above, this.#qq, d)));
    e.set(this.#newDepth, e.andNot(e.neg(offset), above));
  }

  #keepBetter(pair: number, error: Local): void {
    const e = this.#e;
    const { scale, depth, least } = this.#states[pair]!;
    e.set(this.#mask, e.andNot(this.#mask, e.op("f64x2.ge", error, least)));
    e.set(least, e.select(this.#mask, error, least));
    e.set(scale, e.select(this.#mask, this.#newScale, scale));
    e.set(depth, e.select(this.#mask, this.#newDepth, depth));
  }

  /** Stores scales and depths; a group of equal values has scale 0. */
  finish(at: Local): void {
    const e = this.#e;
    for (const [pair, { max, scale, depth, same }] of this.#states.entries()) {
      e.store(at, places.scales + 16 * pair, e.andNot(e.rounded(scale), same));
      e.store(at, places.depths + 16 * pair, e.select(same, e.neg(max), e.rounded(depth)));
    }
  }
}
