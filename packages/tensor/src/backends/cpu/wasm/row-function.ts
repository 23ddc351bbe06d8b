// Elementwise expressions as WebAssembly: one function that runs an expression along a row.
// It serves maps, epilogues and plain stores alike; what it cannot express stays with the plain kernels.
import type { DType } from "../../../dtype.ts";
import type { BinaryOp, ExprNode, UnaryOp } from "../../../ops/expr.ts";
import { exprKey } from "../../../ops/expr.ts";
import { type Code, i32, type Local, Module, v128 } from "./encoder.ts";
import { whileLeft } from "./loops.ts";
import { SimdFunctions } from "./simd-functions.ts";
import { type FloatKind, kindBytes, SimdMath } from "./simd-math.ts";

/** How a row function reads an operand: element by element, or one value for the whole row. */
export interface RowOperand {
  readonly kind: FloatKind;
  readonly along: boolean;
}

/** What a row function computes: out[…] = expr(operands…); with `fromResult`, input 0 is an f32 row at `source`. */
export interface RowSpec {
  readonly expr: ExprNode;
  readonly operands: readonly RowOperand[];
  readonly fromResult: boolean;
  readonly out: FloatKind;
}

/**
 * Parameters of a row function: operand table, batch, row, first column, count, source.
 * The table holds three words for out and for each operand: address, bytes per batch, bytes per row.
 */
export const rowParams = [i32, i32, i32, i32, i32, i32] as const;

const unaryOps: ReadonlySet<UnaryOp> = new Set<UnaryOp>([
  ...(["neg", "abs", "sign", "exp", "sqrt", "rsqrt", "square", "recip", "tanh", "sigmoid", "silu", "relu", "gelu", "geluErf"] as const),
  ...(["geluQuick", "erf", "floor", "ceil", "round", "trunc", "log", "log1p", "log2", "expm1", "softplus", "sin", "cos", "tan"] as const),
]);
/** Functions whose largest arguments are left to the plain kernels: see `hasAngles`. */
const angleOps: ReadonlySet<UnaryOp> = new Set<UnaryOp>(["sin", "cos", "tan"]);
/** Tests of floats, and what joins truth values. */
const boolUnary: ReadonlySet<UnaryOp> = new Set<UnaryOp>(["not", "isNan", "isInf", "isFinite"]);
const boolBinary = { and: "v128.and", or: "v128.or", xor: "v128.xor" } as const;
/** Whole exponents that are multiplied out. */
const powers: ReadonlySet<number> = new Set([1, 2, 3, 4]);
const binaryOps: ReadonlySet<BinaryOp> = new Set<BinaryOp>(["add", "sub", "mul", "div", "min", "max", "eq", "ne", "lt", "le", "gt", "ge"]);
const comparisons: ReadonlySet<BinaryOp> = new Set<BinaryOp>(["eq", "ne", "lt", "le", "gt", "ge"]);

/** Whether an expression over floats has a WebAssembly form. */
export function isSupported(e: ExprNode): boolean {
  switch (e.kind) {
    case "input":
    case "const":
      return e.type === "f32";
    case "unary":
      if (boolUnary.has(e.op)) return (e.x.type === "f32" || e.x.type === "bool") && isSupported(e.x);
      return e.type === "f32" && unaryOps.has(e.op) && isSupported(e.x);
    case "binary":
      if (e.type === "bool" && e.x.type === "bool") return e.op in boolBinary && isSupported(e.x) && isSupported(e.y);
      if (e.op === "pow") return e.type === "f32" && e.y.kind === "const" && powers.has(e.y.value) && isSupported(e.x);
      return (
        e.x.type === "f32" && (e.type === "f32" || comparisons.has(e.op)) && binaryOps.has(e.op) && isSupported(e.x) && isSupported(e.y)
      );
    case "where":
      return e.type === "f32" && isSupported(e.c) && isSupported(e.x) && isSupported(e.y);
    case "cast":
      return e.type === "f32" && e.x.type === "bool" && isSupported(e.x);
    case "roundTo":
      return isSupported(e.x);
  }
}

/** Whether the row function marks arguments beyond its reach in the word before its operand table; the job is then done over by plain kernels. */
export function hasAngles(e: ExprNode): boolean {
  if (e.kind === "input" || e.kind === "const") return false;
  if (e.kind === "unary" && angleOps.has(e.op)) return true;
  return hasAngles(e.x) || ((e.kind === "binary" || e.kind === "where") && hasAngles(e.y)) || (e.kind === "where" && hasAngles(e.c));
}

/** The float kind of a dtype, or undefined. */
export const floatKind = (dtype: DType): FloatKind | undefined =>
  dtype === "f32" || dtype === "f16" || dtype === "bf16" ? dtype : undefined;

/** The key under which a compiled row function is kept. */
export const rowKey = ({ expr, operands, fromResult, out }: RowSpec): string =>
  `${exprKey(expr)};${operands.map((o) => o.kind + (o.along ? "" : "*")).join()};${fromResult ? "r" : ""}${out}`;

/** A module with the row function as its export `run`. */
export function rowModule(spec: RowSpec, fma: boolean, shared: boolean): Uint8Array<ArrayBuffer> {
  const module = new Module(shared);
  new RowEmitter(module.func("run", rowParams), spec, fma).emit();
  return module.build();
}

class RowEmitter {
  readonly #c: Code;
  readonly #spec: RowSpec;
  readonly #math: SimdMath;
  readonly #pointers: Local[];
  readonly #values: Local[];
  readonly #to: Local;
  readonly #more: SimdFunctions;
  readonly #shared = new Map<ExprNode, Local>();
  #ready = new Set<ExprNode>();

  constructor(c: Code, spec: RowSpec, fma: boolean) {
    this.#c = c.keepConstants();
    this.#spec = spec;
    this.#math = new SimdMath(c, fma);
    this.#more = new SimdFunctions(c, this.#math);
    this.#to = c.local(i32);
    this.#pointers = c.locals(i32, spec.operands.length);
    this.#values = c.locals(v128, spec.operands.length + 1);
    this.#findShared(spec.expr, new Set());
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

  /** Address of a table entry at (batch, row), moved to the first column when it runs along the row. */
  #address(entry: number, columnBytes: number): void {
    const c = this.#c;
    c.get(0).memory("i32.load", 12 * entry);
    c.get(1)
      .get(0)
      .memory("i32.load", 12 * entry + 4)
      .op("i32.mul")
      .op("i32.add");
    c.get(2)
      .get(0)
      .memory("i32.load", 12 * entry + 8)
      .op("i32.mul")
      .op("i32.add");
    if (columnBytes > 0) c.get(3).int(columnBytes).op("i32.mul").op("i32.add");
  }

  emit(): void {
    const c = this.#c;
    const { operands, out } = this.#spec;
    this.#address(0, kindBytes[out]);
    c.set(this.#to);
    operands.forEach(({ kind, along }, i) => {
      this.#address(i + 1, along ? kindBytes[kind] : 0);
      c.set(this.#pointers[i]!);
      if (along) return;
      c.get(this.#pointers[i]!);
      this.#math.load(kind, 1);
      const v = this.#values[i]!;
      c.set(v).get(v).get(v).shuffle(0, 0, 0, 0).set(v);
    });
    this.#emitLoop(4);
    this.#emitLoop(1);
  }

  #emitLoop(lanes: 1 | 4): void {
    const c = this.#c;
    const { operands, out, fromResult } = this.#spec;
    whileLeft(c, 4, lanes, () => {
      this.#ready = new Set();
      c.get(this.#to);
      this.#loadInputs(lanes);
      this.#node(this.#spec.expr);
      this.#math.store(out, lanes);
      c.advance(this.#to, lanes * kindBytes[out]);
      operands.forEach(({ kind, along }, i) => {
        if (along) c.advance(this.#pointers[i]!, lanes * kindBytes[kind]);
      });
      if (fromResult) c.advance(5, 4 * lanes);
    });
  }

  #loadInputs(lanes: 1 | 4): void {
    const c = this.#c;
    const { operands, fromResult } = this.#spec;
    operands.forEach(({ kind, along }, i) => {
      if (!along) return;
      c.get(this.#pointers[i]!);
      this.#math.load(kind, lanes);
      c.set(this.#values[i]!);
    });
    if (!fromResult) return;
    c.get(5);
    this.#math.load("f32", lanes);
    c.set(this.#values[operands.length]!);
  }

  #input(index: number): Local {
    const { operands, fromResult } = this.#spec;
    if (!fromResult) return this.#values[index]!;
    return this.#values[index === 0 ? operands.length : index - 1]!;
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
    if (e.kind === "input") c.get(this.#input(e.index));
    else if (e.kind === "const") c.floats(e.value);
    else if (e.kind === "unary") this.#unary(e.op, e.x);
    else if (e.kind === "binary") this.#binary(e.op, e.x, e.y);
    else if (e.kind === "where") {
      this.#node(e.x);
      this.#node(e.y);
      this.#node(e.c);
      c.op("v128.bitselect");
    } else {
      this.#node(e.x);
      if (e.kind === "cast") c.floats(1).op("v128.and");
      else {
        this.#math.narrow(e.dtype);
        this.#math.widen(e.dtype);
      }
    }
  }

  #binary(op: BinaryOp, x: ExprNode, y: ExprNode): void {
    if (op === "pow" && y.kind === "const") {
      this.#power(x, y.value);
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
          .get(x)
          .use(() => m.gate()),
      geluQuick: () =>
        c
          .get(x)
          .floats(1.702)
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
    const scale = 2 * Math.sqrt(2 / Math.PI);
    c.get(x)
      .get(x)
      .op("f32x4.mul")
      .floats(0.044715 * scale)
      .op("f32x4.mul")
      .floats(scale)
      .op("f32x4.add");
    c.get(x).op("f32x4.mul").get(x);
    this.#math.gate();
  }
}
