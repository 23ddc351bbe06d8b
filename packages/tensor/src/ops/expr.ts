// Elementwise expressions: the one language of maps, fused chains and epilogues.
// An expression is a small tree over numbered inputs; a backend compiles it into a single kernel.

/** f32 stands for all float formats: 16-bit inputs are widened on load and rounded on store. */
export type ExprType = "f32" | "i32" | "u32" | "bool";

export type UnaryOp =
  | "neg"
  | "abs"
  | "sign"
  | "exp"
  | "expm1"
  | "log"
  | "log1p"
  | "log2"
  | "sqrt"
  | "rsqrt"
  | "square"
  | "recip"
  | "sin"
  | "cos"
  | "tan"
  | "asin"
  | "acos"
  | "atan"
  | "sinh"
  | "cosh"
  | "tanh"
  | "sigmoid"
  | "silu"
  | "relu"
  | "gelu" // tanh approximation, as DiTs use it
  | "geluErf"
  | "geluQuick"
  | "softplus"
  | "erf"
  | "floor"
  | "ceil"
  | "round" // half to even, as torch
  | "trunc"
  | "not"
  | "isNan"
  | "isInf"
  | "isFinite";

export type BinaryOp =
  | "add"
  | "sub"
  | "mul"
  | "div" // true division; integers are promoted to f32 before
  | "floorDiv"
  | "rem" // sign of the divisor, as torch.remainder
  | "pow"
  | "min" // NaN if either is NaN, as torch.minimum
  | "max"
  | "atan2"
  | "eq"
  | "ne"
  | "lt"
  | "le"
  | "gt"
  | "ge"
  | "and" // bitwise on integers, logical on bool
  | "or"
  | "xor";

export type ExprNode =
  | { readonly kind: "input"; readonly index: number; readonly type: ExprType }
  | { readonly kind: "const"; readonly value: number; readonly type: ExprType }
  | { readonly kind: "unary"; readonly op: UnaryOp; readonly x: ExprNode; readonly type: ExprType }
  | { readonly kind: "binary"; readonly op: BinaryOp; readonly x: ExprNode; readonly y: ExprNode; readonly type: ExprType }
  | { readonly kind: "where"; readonly c: ExprNode; readonly x: ExprNode; readonly y: ExprNode; readonly type: ExprType }
  | { readonly kind: "cast"; readonly x: ExprNode; readonly type: ExprType }
  /** Rounds an f32 value through a 16-bit format, so that fused 16-bit chains equal unfused ones bit for bit. */
  | { readonly kind: "roundTo"; readonly dtype: "f16" | "bf16"; readonly x: ExprNode; readonly type: "f32" };

const boolUnary: ReadonlySet<UnaryOp> = new Set(["not", "isNan", "isInf", "isFinite"]);
const comparisons: ReadonlySet<BinaryOp> = new Set(["eq", "ne", "lt", "le", "gt", "ge"]);

/** Input number `index`, from 0. */
export const inputNode = (index: number, type: ExprType): ExprNode => ({ kind: "input", index, type });
/** A number. */
export const constNode = (value: number, type: ExprType): ExprNode => ({ kind: "const", value, type });
/** `x` as another type; itself where it has that. */
export const castNode = (x: ExprNode, type: ExprType): ExprNode => (x.type === type ? x : { kind: "cast", x, type });
/** An operation on one value; questions such as isnan give a bool. */
export const unaryNode = (op: UnaryOp, x: ExprNode): ExprNode => ({ kind: "unary", op, x, type: boolUnary.has(op) ? "bool" : x.type });
/** `x` where `c` holds, else `y`, in the type that both have. */
export const whereNode = (c: ExprNode, x: ExprNode, y: ExprNode): ExprNode => ({
  kind: "where",
  c: castNode(c, "bool"),
  x,
  y,
  type: x.type,
});

/** Both operands must already have one type (see `promoteExpr`). */
export function binaryNode(op: BinaryOp, x: ExprNode, y: ExprNode): ExprNode {
  return { kind: "binary", op, x, y, type: comparisons.has(op) ? "bool" : x.type };
}

/** Number of operation nodes: the fuser's measure of cost. */
export function countNodes(e: ExprNode): number {
  switch (e.kind) {
    case "input":
    case "const":
      return 0;
    case "unary":
    case "cast":
    case "roundTo":
      return 1 + countNodes(e.x);
    case "binary":
      return 1 + countNodes(e.x) + countNodes(e.y);
    case "where":
      return 1 + countNodes(e.c) + countNodes(e.x) + countNodes(e.y);
  }
}

/** Replaces every input by `leaf(index, type)`: substitution of one expression into another. */
export function mapInputs(e: ExprNode, leaf: (index: number, type: ExprType) => ExprNode): ExprNode {
  switch (e.kind) {
    case "input":
      return leaf(e.index, e.type);
    case "const":
      return e;
    case "unary":
    case "cast":
    case "roundTo":
      return { ...e, x: mapInputs(e.x, leaf) } as ExprNode;
    case "binary":
      return { ...e, x: mapInputs(e.x, leaf), y: mapInputs(e.y, leaf) };
    case "where":
      return { ...e, c: mapInputs(e.c, leaf), x: mapInputs(e.x, leaf), y: mapInputs(e.y, leaf) };
  }
}

/** A canonical text of the tree: the key under which a compiled kernel is cached. */
export function exprKey(e: ExprNode): string {
  switch (e.kind) {
    case "input":
      return `i${e.index}:${e.type}`;
    case "const":
      return `c${e.value}:${e.type}`;
    case "unary":
      return `${e.op}(${exprKey(e.x)})`;
    case "cast":
      return `${e.type}(${exprKey(e.x)})`;
    case "roundTo":
      return `${e.dtype}(${exprKey(e.x)})`;
    case "binary":
      return `${e.op}(${exprKey(e.x)},${exprKey(e.y)})`;
    case "where":
      return `where(${exprKey(e.c)},${exprKey(e.x)},${exprKey(e.y)})`;
  }
}
