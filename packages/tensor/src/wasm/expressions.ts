// Vector arithmetic written as expressions: each pushes its operands and then its instruction, so that formulas read as formulas.
import type { Code, Local } from "./encoder.ts";
import type { MemoryOp, PlainOp } from "./opcodes.ts";

/** A value: a local, or what pushes it. */
export type Value = Local | (() => unknown);

type Unary = (a: Value) => () => Code;
type Binary = (a: Value, b: Value) => () => Code;

/** Pairs of f64 and what goes with them, for one function body. */
export class Expressions {
  readonly c: Code;
  readonly add: Binary;
  readonly sub: Binary;
  readonly mul: Binary;
  readonly div: Binary;
  /** b < a ? b : a */
  readonly min: Binary;
  /** a < b ? b : a */
  readonly max: Binary;
  readonly abs: Unary;
  readonly neg: Unary;
  readonly sqrt: Unary;
  readonly and: Binary;
  readonly or: Binary;
  /** a and not b */
  readonly andNot: Binary;

  constructor(c: Code) {
    this.c = c;
    const binary = (name: PlainOp): Binary => {
      return (a, b) => this.op(name, a, b);
    };
    const unary = (name: PlainOp): Unary => {
      return (a) => this.op(name, a);
    };
    this.add = binary("f64x2.add");
    this.sub = binary("f64x2.sub");
    this.mul = binary("f64x2.mul");
    this.div = binary("f64x2.div");
    this.min = binary("f64x2.pmin");
    this.max = binary("f64x2.pmax");
    this.abs = unary("f64x2.abs");
    this.neg = unary("f64x2.neg");
    this.sqrt = unary("f64x2.sqrt");
    this.and = binary("v128.and");
    this.or = binary("v128.or");
    this.andNot = binary("v128.andnot");
  }

  /** Pushes a value. */
  push(value: Value): Code {
    if (typeof value === "number") this.c.get(value);
    else value();
    return this.c;
  }

  /** Any instruction. */
  op(name: PlainOp, ...args: readonly Value[]): () => Code {
    return () => {
      for (const arg of args) this.push(arg);
      return this.c.op(name);
    };
  }

  /** Two equal f64. */
  number(value: number): () => Code {
    return () => this.c.doubles(value);
  }

  /** Where the bits of `mask` are set `a`, else `b`. */
  select(mask: Value, a: Value, b: Value): () => Code {
    return this.op("v128.bitselect", a, b, mask);
  }

  /** What lies `offset` bytes behind the address in a local. */
  load(address: Local, offset = 0, name: MemoryOp = "v128.load"): () => Code {
    return () => this.c.get(address).memory(name, offset);
  }

  store(address: Local, offset: number, value: Value, name: MemoryOp = "v128.store"): void {
    this.c.get(address);
    this.push(value).memory(name, offset);
  }

  set(local: Local, value: Value): void {
    this.push(value).set(local);
  }

  /** 32-bit lanes of one or two vectors. */
  shuffle(a: Value, b: Value, ...lanes: readonly [number, number, number, number]): () => Code {
    return () => {
      this.push(a);
      return this.push(b).shuffle(...lanes);
    };
  }

  /** The two low f32 as f64. */
  promote(a: Value): () => Code {
    return this.op("f64x2.promote_low_f32x4", a);
  }

  /** Rounded to f32 and back. */
  rounded(a: Value): () => Code {
    return this.promote(this.op("f32x4.demote_f64x2_zero", a));
  }
}
