// Elementwise expressions as WebAssembly: one function that runs an expression along a row.
// It serves maps, epilogues and plain stores alike; what it cannot express stays with the plain kernels.
import type { DType } from "../../../dtype.ts";
import type { BinaryOp, ExprNode, UnaryOp } from "../../../ops/expr.ts";
import { exprKey } from "../../../ops/expr.ts";
import { type Code, i32, type Local, Module, v128 } from "../../../wasm/encoder.ts";
import { Lockstep, Recording } from "../../../wasm/recording.ts";
import { type ElementKind, type FloatKind, kindBytes } from "../../../wasm/simd-formats.ts";
import { Stages } from "../../../wasm/stages.ts";
import { scratch } from "./blocking.ts";
import { whileLeft } from "./loops.ts";
import { boolBinary, Expression, isWholePower } from "./row-expression.ts";
import { SimdMath } from "./simd-math.ts";

/** How a row function reads an operand: element by element, or one value for the whole row. */
export interface RowOperand {
  readonly kind: ElementKind;
  readonly along: boolean;
}

/** What a row function computes: out[…] = expr(operands…); with `fromResult`, input 0 is an f32 row at `source`. */
export interface RowSpec {
  readonly expr: ExprNode;
  readonly operands: readonly RowOperand[];
  readonly fromResult: boolean;
  readonly out: ElementKind;
}

/**
 * Parameters of a row function: operand table, batch, row, first column, count, source, and memory of the thread's own (`scratch.staged`).
 * The table holds three words for out and for each operand: address, bytes per batch, bytes per row.
 */
export const rowParams = [i32, i32, i32, i32, i32, i32, i32] as const;
/** The parameters by their numbers. */
const param = { table: 0, batch: 1, row: 2, column: 3, count: 4, source: 5, near: 6 } as const;

const unaryOps: ReadonlySet<UnaryOp> = new Set<UnaryOp>([
  ...(["neg", "abs", "sign", "exp", "sqrt", "rsqrt", "square", "recip", "tanh", "sigmoid", "silu", "relu", "gelu", "geluErf"] as const),
  ...(["geluQuick", "erf", "floor", "ceil", "round", "trunc", "log", "log1p", "log2", "expm1", "softplus", "sin", "cos", "tan"] as const),
]);
/** Functions whose largest arguments are left to the plain kernels: see `hasAngles`. */
const angleOps: ReadonlySet<UnaryOp> = new Set<UnaryOp>(["sin", "cos", "tan"]);
/** Functions with a fast form that leaves seldom arguments to a careful one. */
const doubtfulOps: ReadonlySet<UnaryOp> = new Set<UnaryOp>(["exp", "log", "log2", "log1p", "softplus", "sin", "cos", "tan"]);
/** Functions of so many instructions that vectors are worked on side by side. */
const longOps: ReadonlySet<UnaryOp> = new Set<UnaryOp>([
  ...doubtfulOps,
  ...(["tanh", "sigmoid", "silu", "gelu", "geluErf", "geluQuick", "erf", "expm1"] as const),
]);
/** Tests of floats. */
const boolUnary: ReadonlySet<UnaryOp> = new Set<UnaryOp>(["not", "isNan", "isInf", "isFinite"]);
const binaryOps: ReadonlySet<BinaryOp> = new Set<BinaryOp>([
  "add",
  "sub",
  "mul",
  "div",
  "pow",
  "min",
  "max",
  "eq",
  "ne",
  "lt",
  "le",
  "gt",
  "ge",
]);
const comparisons: ReadonlySet<BinaryOp> = new Set<BinaryOp>(["eq", "ne", "lt", "le", "gt", "ge"]);

/** Whether a row function has a WebAssembly form: floats throughout, or truth values; bytes are either, or numbers made floats. */
export function isSupported({ expr, operands, fromResult, out }: RowSpec): boolean {
  const isByte = (index: number) => operands[index - (fromResult ? 1 : 0)]?.kind === "u8";
  return (out === "u8" ? expr.type === "bool" : expr.type === "f32") && isExpressed(expr, isByte);
}

function isExpressed(e: ExprNode, isByte: (input: number) => boolean): boolean {
  const known = (x: ExprNode) => isExpressed(x, isByte);
  switch (e.kind) {
    case "input":
      return isByte(e.index) ? e.type !== "f32" : e.type === "f32";
    case "const":
      return e.type === "f32";
    case "unary":
      if (boolUnary.has(e.op)) return (e.x.type === "f32" || e.x.type === "bool") && known(e.x);
      return e.type === "f32" && unaryOps.has(e.op) && known(e.x);
    case "binary":
      if (e.type === "bool" && e.x.type === "bool") return e.op in boolBinary && known(e.x) && known(e.y);
      return e.x.type === "f32" && (e.type === "f32" || comparisons.has(e.op)) && binaryOps.has(e.op) && known(e.x) && known(e.y);
    case "where":
      return e.type === "f32" && known(e.c) && known(e.x) && known(e.y);
    case "cast":
      return (e.type === "f32" || e.type === "bool") && known(e.x);
    case "roundTo":
      return known(e.x);
  }
}

/** Whether the row function marks arguments beyond its reach in the word before its operand table; the job is then done over by plain kernels. */
export const hasAngles = (e: ExprNode): boolean => hasUnary(e, angleOps);

/** Whether vectors are worked on side by side. */
const isLong = (e: ExprNode): boolean =>
  hasUnary(e, longOps) || hasNode(e, (n) => n.kind === "binary" && n.op === "pow" && !isWholePower(n.y));

const hasUnary = (e: ExprNode, ops: ReadonlySet<UnaryOp>): boolean => hasNode(e, (n) => n.kind === "unary" && ops.has(n.op));

function hasNode(e: ExprNode, is: (node: ExprNode) => boolean): boolean {
  if (is(e)) return true;
  if (e.kind === "input" || e.kind === "const") return false;
  return hasNode(e.x, is) || ((e.kind === "binary" || e.kind === "where") && hasNode(e.y, is)) || (e.kind === "where" && hasNode(e.c, is));
}

/** The float kind of a dtype, or undefined. */
export const floatKind = (dtype: DType): FloatKind | undefined =>
  dtype === "f32" || dtype === "f16" || dtype === "bf16" ? dtype : undefined;

/** What a row function takes a dtype for, or undefined. */
export const elementKind = (dtype: DType): ElementKind | undefined => (dtype === "u8" ? dtype : floatKind(dtype));

/** The key under which a compiled row function is kept. */
export const rowKey = ({ expr, operands, fromResult, out }: RowSpec): string =>
  `${exprKey(expr)};${operands.map((o) => o.kind + (o.along ? "" : "*")).join()};${fromResult ? "r" : ""}${out}`;

/** A module with the row function as its export `run`. */
export function rowModule(spec: RowSpec, fma: boolean, shared: boolean): Uint8Array<ArrayBuffer> {
  const module = new Module(shared);
  new RowEmitter(module.func("run", rowParams), spec, fma).emit();
  return module.build();
}

/** Vectors of a row that are worked on in lockstep: more than a few need more registers than there are. */
const blockVectorsOf = (fma: boolean): number => (fma ? 2 : 3);
/** Most values of a row that run through one stage before the next: whole blocks. */
const mostPartValues = 504;

class RowEmitter {
  readonly #c: Code;
  readonly #spec: RowSpec;
  readonly #fma: boolean;
  readonly #pointers: Local[];
  /** Operands that are the same along the row. */
  readonly #values: Local[];
  readonly #to: Local;

  constructor(c: Code, spec: RowSpec, fma: boolean) {
    this.#c = c.keepConstants();
    this.#spec = spec;
    this.#fma = fma;
    this.#to = c.local(i32);
    this.#pointers = c.locals(i32, spec.operands.length);
    this.#values = c.locals(v128, spec.operands.length);
  }

  /** Address of a table entry at (batch, row), moved to the first column when it runs along the row. */
  #address(entry: number, columnBytes: number): void {
    const c = this.#c;
    c.get(param.table).memory("i32.load", 12 * entry);
    c.get(param.batch)
      .get(param.table)
      .memory("i32.load", 12 * entry + 4)
      .op("i32.mul")
      .op("i32.add");
    c.get(param.row)
      .get(param.table)
      .memory("i32.load", 12 * entry + 8)
      .op("i32.mul")
      .op("i32.add");
    if (columnBytes > 0) c.get(param.column).int(columnBytes).op("i32.mul").op("i32.add");
  }

  emit(): void {
    const c = this.#c;
    const { operands, out, expr } = this.#spec;
    const math = new SimdMath(c, this.#fma);
    this.#address(0, kindBytes[out]);
    c.set(this.#to);
    operands.forEach(({ kind, along }, i) => {
      this.#address(i + 1, along ? kindBytes[kind] : 0);
      c.set(this.#pointers[i]!);
      if (along) return;
      c.get(this.#pointers[i]!);
      math.load(kind, 1);
      const v = this.#values[i]!;
      c.set(v).get(v).get(v).shuffle(0, 0, 0, 0).set(v);
    });
    const left = param.count;
    if (!isLong(expr)) {
      this.#emitLoops(math, left);
      return;
    }
    const some = c.local(i32);
    if (!hasUnary(expr, doubtfulOps)) {
      this.#emitParts(false, some);
      this.#emitLoops(math, left);
      return;
    }
    c.loop();
    this.#emitParts(true, some);
    c.get(left).get(some).op("i32.sub").set(left);
    this.#emitLoops(math, some);
    c.get(left).branchIf(0).end();
  }

  /**
   * Parts of the row, in stages, while a block is left; with `doubts`, until a part that the fast functions do not cover. Leaves in `count`
   * how many values are to be computed with care then.
   */
  #emitParts(doubts: boolean, count: Local): void {
    const c = this.#c;
    const blockVectors = blockVectorsOf(this.#fma);
    const blockValues = 4 * blockVectors;
    const recordings = [...Array(blockVectors).keys()].map(() => new Recording());
    const maths = recordings.map((r) => new SimdMath(r, this.#fma, doubts));
    recordings.forEach((r, at) => void this.#record(r, maths[at]!, at));
    const [rest, near] = c.locals(i32, 2) as [Local, Local];
    const stages = new Stages(recordings, { near, kept: doubts ? maths.map(({ doubtful }) => [...doubtful.values()]) : [] });
    const values = Math.min(mostPartValues, Math.floor(scratch.stagedBytes / Math.max(1, blockVectors * stages.bytes)) * blockValues);
    const left = param.count;
    const worst = [...maths[0]!.doubtful.keys()].map(() => c.local(v128));
    c.get(left).set(count);
    if (values === 0) return;
    c.block().loop().get(left).tee(count).int(blockValues).op("i32.lt_s").branchIf(1);
    c.get(left).get(left).int(blockValues).op("i32.rem_u").op("i32.sub").tee(count).int(values);
    c.get(count).int(values).op("i32.lt_s").op("select").set(count);
    for (let stage = 0; stage < stages.count; stage++) {
      if (stage > 0) this.#rewind(count);
      else for (const w of worst) c.ints(0).set(w);
      c.get(count).set(rest).get(param.near).set(near);
      whileLeft(c, rest, blockValues, () => {
        const block = new Lockstep(c, stages.tracks(stage));
        block.write();
        if (stage === 0) this.#watch(block, maths, worst);
        this.#advance(blockValues);
        c.advance(near, blockVectors * stages.bytes);
      });
      if (stage === 0 && doubts) this.#leaveDoubts(maths[0]!, worst, count);
    }
    c.get(left).get(count).op("i32.sub").set(left).branch(0).end().end();
  }

  /** Keeps the largest of the integers that may make results wrong. */
  #watch(block: Lockstep, maths: readonly SimdMath[], worst: readonly Local[]): void {
    const c = this.#c;
    [...maths[0]!.doubtful.keys()].forEach((limit, n) => {
      c.get(worst[n]!);
      maths.forEach(({ doubtful }, i) => {
        block.push(i, doubtful.get(limit)!);
        c.op("i32x4.max_s");
      });
      c.set(worst[n]!);
    });
  }

  /** Ends the parts, back at the start of this one, where a fast function does not cover a value. */
  #leaveDoubts({ doubtful }: SimdMath, worst: readonly Local[], count: Local): void {
    const c = this.#c;
    [...doubtful.keys()].forEach((limit, n) => {
      c.get(worst[n]!).ints(limit).op("i32x4.gt_s");
      if (n > 0) c.op("v128.or");
    });
    c.op("v128.any_true").if();
    this.#rewind(count);
    c.branch(2).end();
  }

  /** Records a vector's work and its store. */
  #record(r: Recording, math: SimdMath, at: number): void {
    const result = r.local(v128);
    this.#compute(r, math, 4, at);
    r.set(result);
    r.get(this.#to).get(result);
    math.store(this.#spec.out, 4, 4 * at * kindBytes[this.#spec.out]);
  }

  /** Vectors, then single values, of `left` values. */
  #emitLoops(math: SimdMath, left: Local): void {
    const c = this.#c;
    for (const lanes of [4, 1] as const) {
      whileLeft(c, left, lanes, () => {
        c.get(this.#to);
        this.#compute(c, math, lanes, 0);
        math.store(this.#spec.out, lanes);
        this.#advance(lanes);
      });
    }
  }

  /** Goes back by `count` values. */
  #rewind(count: Local): void {
    const c = this.#c;
    const { operands, out, fromResult } = this.#spec;
    const back = (pointer: Local, bytes: number) => c.get(pointer).get(count).int(bytes).op("i32.mul").op("i32.sub").set(pointer);
    back(this.#to, kindBytes[out]);
    operands.forEach(({ kind, along }, i) => {
      if (along) back(this.#pointers[i]!, kindBytes[kind]);
    });
    if (fromResult) back(param.source, 4);
  }

  #advance(count: number): void {
    const c = this.#c;
    const { operands, out, fromResult } = this.#spec;
    c.advance(this.#to, count * kindBytes[out]);
    operands.forEach(({ kind, along }, i) => {
      if (along) c.advance(this.#pointers[i]!, count * kindBytes[kind]);
    });
    if (fromResult) c.advance(param.source, 4 * count);
  }

  /** Leaves the expression's value for the vector (or value) number `at` from the present place. */
  #compute(c: Code, math: SimdMath, lanes: 1 | 4, at: number): void {
    const { operands, fromResult, expr } = this.#spec;
    const inputs: Local[] = [];
    if (fromResult) {
      c.get(param.source);
      math.load("f32", lanes, 4 * lanes * at);
      c.set((inputs[0] = c.local(v128)));
    }
    operands.forEach(({ kind, along }, i) => {
      const input = along ? c.local(v128) : this.#values[i]!;
      inputs.push(input);
      if (!along) return;
      c.get(this.#pointers[i]!);
      math.load(kind, lanes, lanes * at * kindBytes[kind]);
      c.set(input);
    });
    new Expression(c, math, inputs).emit(expr);
  }
}
