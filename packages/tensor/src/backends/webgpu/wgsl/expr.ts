// Compiles an elementwise expression into WGSL: a function of its inputs, with PyTorch's semantics.
import type { BinaryOp, ExprNode, ExprType, UnaryOp } from "../../../ops/expr.ts";

/** Short text that two expressions share exactly when they compile to the same code. */
export function exprKey(e: ExprNode): string {
  switch (e.kind) {
    case "input":
      return `$${e.index}${e.type[0]}`;
    case "const":
      return `${Object.is(e.value, -0) ? "-0" : e.value}${e.type[0]}`;
    case "unary":
      return `${e.op}(${exprKey(e.x)})`;
    case "binary":
      return `${e.op}(${exprKey(e.x)},${exprKey(e.y)})`;
    case "where":
      return `?(${exprKey(e.c)},${exprKey(e.x)},${exprKey(e.y)})`;
    case "cast":
      return `${e.type}(${exprKey(e.x)})`;
    case "roundTo":
      return `${e.dtype}(${exprKey(e.x)})`;
  }
}

/** The WGSL expression; `input(index)` names an input and its WGSL type. */
export function exprText(e: ExprNode, input: (index: number) => { text: string; type: ExprType }): string {
  const sub = (x: ExprNode): string => exprText(x, input);
  switch (e.kind) {
    case "input": {
      const { text, type } = input(e.index);
      return convert(text, type, e.type);
    }
    case "const":
      return constant(e.value, e.type);
    case "unary":
      return unary(e.op, sub(e.x), e.x.type);
    case "binary":
      return e.op === "pow" && e.y.kind === "const" && e.x.type === "f32"
        ? power(sub(e.x), e.y.value)
        : binary(e.op, sub(e.x), sub(e.y), e.x.type);
    case "where":
      return `select(${sub(e.y)}, ${sub(e.x)}, ${sub(e.c)})`;
    case "cast":
      return convert(sub(e.x), e.x.type, e.type);
    case "roundTo":
      return `f_${e.dtype}(${sub(e.x)})`;
  }
}

/** A literal; values WGSL cannot write (infinities, NaN) are made from their bits behind a function call. */
export function constant(value: number, type: ExprType): string {
  if (type === "bool") return value !== 0 ? "true" : "false";
  if (type === "i32") return (value | 0) === -2147483648 ? "(-2147483647i - 1i)" : `${value | 0}i`.replace(/^(-.*)$/, "($1)");
  if (type === "u32") return `${value >>> 0}u`;
  const bits = new Uint32Array(Float32Array.of(value).buffer)[0]!;
  if ((bits & 0x7f800000) === 0x7f800000 || bits === 0x80000000) return `f_bits(${bits}u)`;
  const text = `${Math.fround(value)}`;
  return /[.e]/.test(text) ? `(${text}f)` : `(${text}.0f)`;
}

/** A value of one type as another, by torch's casts: truncation to integers, nonzero to true. */
export function convert(x: string, from: ExprType, to: ExprType): string {
  if (from === to) return x;
  if (to === "bool") return from === "f32" ? `!(${x} == 0.0)` : `(${x} != ${from === "i32" ? "0i" : "0u"})`;
  if (from === "f32" && to === "u32") return `select(bitcast<u32>(i32(${x})), u32(max(${x}, 0.0)), ${x} >= 0.0)`;
  return `${to}(${x})`;
}

const floatUnary: Partial<Record<UnaryOp, (x: string) => string>> = {
  neg: (x) => `(-${x})`,
  abs: (x) => `bitcast<f32>(bitcast<u32>(${x}) & 0x7fffffffu)`,
  square: (x) => `f_square(${x})`,
  recip: (x) => `(1.0 / ${x})`,
  sin: (x) => `f_sincos(${x}, 0)`,
  cos: (x) => `f_sincos(${x}, 1)`,
  floor: (x) => `floor(${x})`,
  ceil: (x) => `ceil(${x})`,
  round: (x) => `f_round(${x})`,
  trunc: (x) => `trunc(${x})`,
  not: (x) => `(${x} == 0.0)`,
  isNan: (x) => `f_nan(${x})`,
  isInf: (x) => `f_inf(${x})`,
  isFinite: (x) => `((bitcast<u32>(${x}) & 0x7fffffffu) < 0x7f800000u)`,
};

function unary(op: UnaryOp, x: string, type: ExprType): string {
  if (type === "f32") return floatUnary[op]?.(x) ?? `f_${op}(${x})`;
  if (type === "bool") return op === "not" ? `(!${x})` : op === "isFinite" ? "true" : op.startsWith("is") ? "false" : x;
  switch (op) {
    case "neg":
      return type === "i32" ? `(-${x})` : `(0u - ${x})`;
    case "abs":
    case "sign":
      return type === "i32" ? `${op}(${x})` : op === "abs" ? x : `min(${x}, 1u)`;
    case "square":
      return `(${x} * ${x})`;
    case "relu":
      return type === "i32" ? `max(${x}, 0i)` : x;
    case "not":
      return `(${x} == ${type === "i32" ? "0i" : "0u"})`;
    case "isNan":
    case "isInf":
      return "false";
    case "isFinite":
      return "true";
    default:
      return x; // floor, ceil, round, trunc of integers
  }
}

/** x to a constant power without logarithms where torch does so too. */
function power(x: string, y: number): string {
  if (y === 2) return `f_square(${x})`;
  if (y === 3) return `f_cube(${x})`;
  if (y === 1) return x;
  if (y === 0.5) return `f_sqrt(${x})`;
  if (y === -1) return `(1.0 / ${x})`;
  return `f_pow(${x}, ${constant(y, "f32")})`;
}

const symbols: Partial<Record<BinaryOp, string>> = { add: "+", sub: "-", mul: "*", eq: "==", lt: "<", le: "<=", gt: ">", ge: ">=" };

function binary(op: BinaryOp, x: string, y: string, type: ExprType): string {
  if (op === "ne") return type === "f32" ? `!(${x} == ${y})` : `(${x} != ${y})`;
  if (type === "bool") return logical(op, x, y);
  const symbol = symbols[op];
  if (symbol) return `(${x} ${symbol} ${y})`;
  if (type === "f32") return op === "div" ? `(${x} / ${y})` : op === "atan2" ? `f_atan2(${x}, ${y})` : `f_${op}(${x}, ${y})`;
  const t = type === "i32" ? "i" : "u";
  if (op === "min" || op === "max") return `${op}(${x}, ${y})`;
  if (op === "and") return `(${x} & ${y})`;
  if (op === "or") return `(${x} | ${y})`;
  if (op === "xor") return `(${x} ^ ${y})`;
  if (op === "div") return `(f32(${x}) / f32(${y}))`;
  return `${t}_${op}(${x}, ${y})`;
}

function logical(op: BinaryOp, x: string, y: string): string {
  switch (op) {
    case "and":
    case "mul":
    case "min":
      return `(${x} && ${y})`;
    case "or":
    case "add":
    case "max":
      return `(${x} || ${y})`;
    case "eq":
      return `(${x} == ${y})`;
    case "lt":
      return `(!${x} && ${y})`;
    case "le":
      return `(!${x} || ${y})`;
    case "gt":
      return `(${x} && !${y})`;
    case "ge":
      return `(${x} || !${y})`;
    default:
      return `(${x} != ${y})`; // xor, sub
  }
}
