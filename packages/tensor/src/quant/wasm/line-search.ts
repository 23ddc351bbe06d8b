// `scaleMin` of ../scale-search.ts over eight groups at once: the same operations in the same order, one group in each half of a vector.
import { type Code, i32, type Local, type Module, v128 } from "../../wasm/encoder.ts";
import { Expressions } from "../../wasm/expressions.ts";
import { Lockstep, Recording } from "../../wasm/recording.ts";
import type { ScaleMinSearch } from "../scale-search.ts";
import { clampedRound, fieldsOf, forRange, overGroups, pairs, places, recordBytes } from "./places.ts";

/** Locals of one pair of groups: its range and sums, the best line so far, the sums of a trial and the line that follows from them. */
const names = [
  "max",
  "w",
  "x",
  "xx",
  "same",
  "scale",
  "depth",
  "least",
  "iscale",
  "q",
  "qq",
  "xq",
  "newScale",
  "newDepth",
  "mask",
  "error",
] as const;
type State = Record<(typeof names)[number], Local>;

/** Values of a group that are worked on in one turn of a loop; more would not fit the registers. */
const unroll = 2;

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
  readonly #other: Local;
  readonly #record: Local;

  constructor(e: Expressions, search: LineSearch) {
    this.#e = e;
    this.#search = search;
    const { c } = e;
    this.#states = Array.from({ length: pairs }, () => Object.fromEntries(names.map((name) => [name, c.local(v128)])) as State);
    [this.#value, this.#other] = c.locals(v128, 2) as [Local, Local];
    this.#record = c.local(i32);
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
    forRange(this.#e.c, this.#record, places.records, end, unroll * recordBytes, () => {
      for (let i = 0; i < unroll; i++) for (const pair of each) visit(pair, i * recordBytes);
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
    for (const state of this.#states) {
      const { max, scale, depth, same, iscale } = state;
      e.set(this.#other, e.add(max, depth));
      e.set(same, e.op("f64x2.eq", max, e.neg(depth)));
      e.set(scale, e.div(this.#other, top));
      e.set(iscale, e.div(top, this.#other));
    }
    this.#tryCodes();
    for (const [pair, state] of this.#states.entries()) {
      this.#missed(e, state, pair, state.scale, state.depth);
      e.set(state.least, state.error);
    }
  }

  /** Codes of all pairs for their inverse scales, and their sums. */
  #tryCodes(): void {
    const e = this.#e;
    const { top, absolute } = this.#search;
    const [code, weighted] = [this.#value, this.#other];
    for (const [pair, { depth, iscale, q, qq, xq }] of this.#states.entries()) {
      const fields = fieldsOf(pair);
      const field = (at: number) => e.load(this.#record, at);
      for (const sum of [q, qq, xq]) e.set(sum, e.number(0));
      this.#overRecords(
        (_, at) => {
          e.set(code, clampedRound(e, e.mul(iscale, e.add(field(at + fields.x), depth)), 0, top));
          if (absolute) e.store(this.#record, at + fields.q, code);
          e.set(weighted, e.mul(field(at + fields.w), code));
          e.set(q, e.add(q, weighted));
          e.set(qq, e.add(qq, e.mul(weighted, code)));
          e.set(xq, e.add(xq, e.mul(field(at + fields.wx), code)));
        },
        [pair],
      );
    }
  }

  /** Leaves in `error` what scale·q - depth misses. */
  #missed(e: Expressions, state: State, pair: number, scale: Local, depth: Local): void {
    if (this.#search.absolute) this.#missedMagnitudes(state, pair, scale, depth);
    else missedSquares(e, state, scale, depth);
  }

  #missedMagnitudes({ error }: State, pair: number, scale: Local, depth: Local): void {
    const e = this.#e;
    const fields = fieldsOf(pair);
    const field = (at: number) => e.load(this.#record, at);
    e.set(error, e.number(0));
    this.#overRecords(
      (_, at) => {
        const missed = e.abs(e.sub(e.sub(e.mul(scale, field(at + fields.q)), depth), field(at + fields.x)));
        e.set(error, e.add(error, e.mul(field(at + fields.w), missed)));
      },
      [pair],
    );
  }

  /**
   * One more inverse scale for every pair, whose numerator lies at the address in `trial`. What follows from the sums is a long chain of
   * dependent instructions: the pairs' chains run side by side.
   */
  tryAll(trial: Local): void {
    const { absolute } = this.#search;
    this.#together(["iscale"], (e, { max, depth, iscale }) => {
      e.set(iscale, e.div(e.load(trial, 0, "v128.load64_splat"), e.add(max, depth)));
    });
    this.#tryCodes();
    if (absolute) {
      this.#together(["newScale", "newDepth", "mask"], fitLine);
      for (const [pair, state] of this.#states.entries()) this.#missedMagnitudes(state, pair, state.newScale, state.newDepth);
      this.#together(["scale", "depth", "least"], keepBetter);
      return;
    }
    this.#together(["scale", "depth", "least"], (e, state) => {
      fitLine(e, state);
      missedSquares(e, state, state.newScale, state.newDepth);
      keepBetter(e, state);
    });
  }

  /** Writes the same code for all pairs in lockstep; of what it sets, `results` are kept. */
  #together(results: readonly (keyof State)[], emit: (e: Expressions, state: State) => void): void {
    const { c } = this.#e;
    const recordings = this.#states.map((state) => {
      const recording = new Recording();
      emit(new Expressions(recording), state);
      return recording;
    });
    const block = new Lockstep(c, recordings);
    block.write();
    for (const [pair, state] of this.#states.entries()) {
      for (const name of results) {
        block.push(pair, state[name]);
        c.set(state[name]);
      }
    }
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

/** The weighted least-squares line through the codes; `mask` says where there is one. */
function fitLine(e: Expressions, { w, x, q, qq, xq, newScale, newDepth, mask, error }: State): void {
  const [d, offset, above] = [newScale, newDepth, error];
  e.set(d, e.sub(e.mul(w, qq), e.mul(q, q)));
  e.set(mask, e.op("f64x2.gt", d, e.number(0)));
  e.set(offset, e.div(e.sub(e.mul(qq, x), e.mul(q, xq)), d));
  e.set(above, e.op("f64x2.gt", offset, e.number(0)));
  const slope = e.sub(e.mul(w, xq), e.mul(x, q));
  e.set(newScale, e.div(e.select(above, xq, slope), e.select(above, qq, d)));
  e.set(newDepth, e.andNot(e.neg(offset), above));
}

/** Weighted squares of what scale·q - depth misses, from the sums. */
function missedSquares(e: Expressions, { w, x, xx, q, qq, xq, error }: State, scale: Local, depth: Local): void {
  const two = e.number(2);
  const inner = e.mul(two, e.add(e.mul(depth, q), xq));
  e.set(error, e.mul(scale, e.sub(e.mul(scale, qq), inner)));
  e.set(error, e.add(error, e.mul(depth, e.add(e.mul(depth, w), e.mul(two, x)))));
  e.set(error, e.add(error, xx));
}

/** Takes a line over where it misses less. */
function keepBetter(e: Expressions, { scale, depth, least, newScale, newDepth, mask, error }: State): void {
  e.set(mask, e.andNot(mask, e.op("f64x2.ge", error, least)));
  e.set(least, e.select(mask, error, least));
  e.set(scale, e.select(mask, newScale, scale));
  e.set(depth, e.select(mask, newDepth, depth));
}
