// An elementwise expression as vector code: leaves its value for four elements on the stack.
import type { BinaryOp, ExprNode, ExprType, UnaryOp } from "../../../ops/expr.ts";
import { type Code, type Local, v128 } from "../../../wasm/encoder.ts";
import { SimdFunctions } from "./simd-functions.ts";
import type { SimdMath } from "./simd-math.ts";
import { emitPower } from "./simd-power.ts";

/** What joins truth values. */
export const boolBinary = { and: "v128.and", or: "v128.or", xor: "v128.xor" } as const;

/** Exponents that are multiplied out. */
const wholePowers: ReadonlySet<number> = new Set([1, 2, 3, 4]);
/** Whether powers with this exponent are multiplied out. */
export const isWholePower = (y: ExprNode): y is ExprNode & { kind: "const" } => y.kind === "const" && wholePowers.has(y.value);

/** Emits an expression over inputs that lie in locals. */
export class Expression {
  readonly #c: Code;
  readonly #math: SimdMath;
  readonly #more: SimdFunctions;
  readonly #inputs: readonly Local[];
  readonly #shared = new Map<ExprNode, Local>();
  readonly #ready = new Set<ExprNode>();

  constructor(c: Code, math: SimdMath, inputs: readonly Local[]) {
    this.#c = c;
    this.#math = math;
    this.#more = new SimdFunctions(c, math);
    this.#inputs = inputs;
  }

  /** Leaves the value of `expr`. */
  emit(expr: ExprNode): void {
    this.#findShared(expr, new Set());
    this.#node(expr);
  }

  #findShared(e: ExprNode, seen: Set<ExprNode>): void {
    if (e.kind === "input" || e.kind === "const") return;
    if (seen.has(e)) {
      if (!this.#shared.has(e)) this.#shared.set(e, this.#c.local(v128));
      return;
    }
    seen.add(e);
    if (e.kind === "where") this.#findShared(e.c, seen);
    this.#findShared(e.x, seen);
    if (e.kind === "binary" || e.kind === "where") this.#findShared(e.y, seen);
  }

  #node(e: ExprNode): void {
    const local = this.#shared.get(e);
    if (local === undefined) {
      this.#emitNode(e);
    } else if (this.#ready.has(e)) {
      this.#c.get(local);
    } else {
      this.#emitNode(e);
      this.#ready.add(e);
      this.#c.tee(local);
    }
  }

  #emitNode(e: ExprNode): void {
    const c = this.#c;
    if (e.kind === "input") {
      c.get(this.#inputs[e.index]!);
      if (e.type === "bool") c.ints(0).op("i32x4.ne");
    } else if (e.kind === "const") c.floats(e.value);
    else if (e.kind === "unary") this.#unary(e.op, e.x);
    else if (e.kind === "binary") this.#binary(e.op, e.x, e.y);
    else if (e.kind === "where") {
      this.#node(e.x);
      this.#node(e.y);
      this.#node(e.c);
      c.op("v128.bitselect");
    } else {
      this.#node(e.x);
      if (e.kind === "cast") this.#cast(e.x.type, e.type);
      else {
        this.#math.narrow(e.dtype);
        this.#math.widen(e.dtype);
      }
    }
  }

  /** Truth values are all bits of a lane or none; bytes are integers. */
  #cast(from: ExprType, to: ExprType): void {
    const c = this.#c;
    if (to === "bool") {
      if (from === "f32") c.floats(0).op("f32x4.ne");
      else if (from !== "bool") c.ints(0).op("i32x4.ne");
    } else if (from === "bool") c.floats(1).op("v128.and");
    else if (from !== "f32") c.op("f32x4.convert_i32x4_s");
  }

  #binary(op: BinaryOp, x: ExprNode, y: ExprNode): void {
    if (op === "pow") {
      if (isWholePower(y)) this.#power(x, y.value);
      else emitPower(this.#c, this.#math, this.#kept(x), this.#kept(y));
      return;
    }
    this.#node(x);
    this.#node(y);
    this.#c.op(op in boolBinary ? boolBinary[op as "and"] : (`f32x4.${op}` as "f32x4.add"));
  }

  #power(x: ExprNode, exponent: number): void {
    const base = this.#kept(x);
    const square = () => this.#c.get(base).get(base).op("f32x4.mul");
    if (exponent === 4) square().set(base);
    if (exponent % 2 === 0) square();
    else this.#c.get(base);
    if (exponent === 3) square().op("f32x4.mul");
  }

  /** Evaluates x into a local that may be read several times. */
  #kept(x: ExprNode): Local {
    const local = this.#c.local(v128);
    this.#node(x);
    this.#c.set(local);
    return local;
  }

  #unary(op: UnaryOp, xNode: ExprNode): void {
    const c = this.#c;
    const m = this.#math;
    const x = this.#kept(xNode);
    const table: Partial<Record<UnaryOp, () => unknown>> = {
      sign: () =>
        c.get(x).floats(0).op("f32x4.gt").floats(1).op("v128.and").get(x).floats(0).op("f32x4.lt").floats(1).op("v128.and").op("f32x4.sub"),
      square: () => c.get(x).get(x).op("f32x4.mul"),
      recip: () => c.floats(1).get(x).op("f32x4.div"),
      rsqrt: () => c.floats(1).get(x).op("f32x4.sqrt").op("f32x4.div"),
      // The pseudo-maximum keeps NaN when it comes first.
      relu: () => c.get(x).floats(0).op("f32x4.pmax"),
      round: () => c.get(x).op("f32x4.nearest"),
      exp: () => c.get(x).use(() => m.exp()),
      tanh: () => c.get(x).use(() => m.tanh()),
      erf: () => c.get(x).use(() => m.erf()),
      sigmoid: () => c.get(x).use(() => m.sigmoid()),
      silu: () =>
        c
          .get(x)
          .floats(-Math.LOG2E * m.octave)
          .op("f32x4.mul")
          .get(x)
          .use(() => m.gate()),
      geluQuick: () =>
        c
          .get(x)
          .floats(-1.702 * Math.LOG2E * m.octave)
          .op("f32x4.mul")
          .get(x)
          .use(() => m.gate()),
      gelu: () => this.#gelu(x),
      log: () => c.get(x).use(() => m.log()),
      log2: () => c.get(x).use(() => m.log2()),
      log1p: () => c.get(x).use(() => this.#more.log1p()),
      expm1: () => c.get(x).use(() => this.#more.expm1()),
      softplus: () => c.get(x).use(() => this.#more.softplus()),
      sin: () => c.get(x).use(() => this.#more.sine(0)),
      cos: () => c.get(x).use(() => this.#more.sine(1)),
      tan: () => c.get(x).use(() => this.#more.tan()),
      not: () => (xNode.type === "bool" ? c.get(x).op("v128.not") : c.get(x).floats(0).op("f32x4.eq")),
      isNan: () => c.get(x).get(x).op("f32x4.ne"),
      isInf: () => c.get(x).op("f32x4.abs").floats(Number.POSITIVE_INFINITY).op("f32x4.eq"),
      isFinite: () => c.get(x).op("f32x4.abs").floats(Number.POSITIVE_INFINITY).op("f32x4.lt"),
      geluErf: () => {
        c.get(x).floats(0.5).op("f32x4.mul").get(x).floats(Math.SQRT1_2).op("f32x4.mul");
        m.erf();
        c.floats(1).op("f32x4.add").op("f32x4.mul");
      },
    };
    const special = table[op];
    if (special) special();
    else c.get(x).op(`f32x4.${op}` as "f32x4.neg");
  }

  /** tanh-GELU as x · sigmoid(2u), u = √(2/π) (x + 0.044715 x³): the same function without the cancellation of 1 + tanh. */
  #gelu(x: Local): void {
    const c = this.#c;
    const cubic = 0.044715;
    const scale = -2 * Math.LOG2E * this.#math.octave * Math.sqrt(2 / Math.PI);
    c.get(x)
      .get(x)
      .floats(1 / cubic);
    this.#math.madd();
    c.get(x)
      .floats(cubic * scale)
      .op("f32x4.mul")
      .op("f32x4.mul")
      .get(x);
    this.#math.gate();
  }
}
