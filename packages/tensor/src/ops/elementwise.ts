// Elementwise ops and the fuser: every op builds a small expression; chains of them become one kernel when the bytes are needed.
import { checkDType, type DType, isFloat, isQuantized, promote } from "../dtype.ts";
import { DeviceError, DTypeError, TensorError } from "../errors.ts";
import { isContiguous } from "../layout.ts";
import { broadcastShapes, type Shape, sameShape, sizeOf } from "../shape.ts";
import type { PendingInput } from "../storage.ts";
import type { Tensor } from "../tensor.ts";
import {
  type BinaryOp,
  binaryNode,
  castNode,
  constNode,
  countNodes,
  type ExprNode,
  type ExprType,
  inputNode,
  mapInputs,
  type UnaryOp,
  unaryNode,
  whereNode,
} from "./expr.ts";

/** Operands of one fused kernel; with the output this stays within the 8 storage bindings every WebGPU device has. */
const maxInputs = 6;
/** Above this an expression is computed before it grows further. */
const maxNodes = 32;

/** The type an element of `dtype` has inside an expression. */
export function exprType(dtype: DType): ExprType {
  if (isFloat(dtype)) return "f32";
  return dtype === "u8" || dtype === "u32" ? "u32" : "i32";
}

/** Throws unless all tensors live on one device. */
export function checkDevices(op: string, tensors: readonly Tensor[]): void {
  const first = tensors[0]!;
  for (const t of tensors) {
    if (t?.isTensor !== true) throw new TensorError(op, `takes tensors: got ${String(t)}`);
    if (t.device !== first.device) {
      throw new DeviceError(
        op,
        "mixed-devices",
        `operands are on different devices: ${first} on ${first.device}, ${t} on ${t.device}; move one with to(device)`,
      );
    }
  }
}

/** Throws for dtypes that are storage only. */
export function checkComputable(op: string, x: Tensor): void {
  if (isQuantized(x.dtype)) throw new DTypeError(op, `takes no quantized operand: ${x}; call dequantize() first`);
  if (x.dtype === "i64" || x.dtype.startsWith("f8"))
    throw new DTypeError(op, `${x.dtype} is a storage format: ${x}; cast first, e.g. to("${x.dtype === "i64" ? "i32" : "f32"}")`);
}

/**
 * The deferred result of `build` over `inputs`, broadcast to `shape`. Operands that are themselves deferred, unshared and of the same
 * size are taken into the new expression; others are computed.
 */
export function mapTensors(
  op: string,
  inputs: readonly Tensor[],
  shape: Shape,
  dtype: DType,
  build: (nodes: ExprNode[]) => ExprNode,
): Tensor {
  checkDevices(op, inputs);
  const operands: PendingInput[] = [];
  const leaves = new Map<Tensor, ExprNode>();
  const distinct = [...new Set(inputs)];
  let nodes = 0;
  for (const [i, t] of distinct.entries()) {
    const taken = takePending(t, shape, operands, nodes, maxInputs - (distinct.length - 1 - i));
    nodes += taken ? countNodes(taken) : 0;
    const input = () => operandIndex(operands, { storage: t.computed(), dtype: t.dtype, layout: t.layout });
    leaves.set(t, taken ? roundedTo(taken, t.dtype) : inputNode(input(), exprType(t.dtype)));
  }
  return inputs[0]!.deferred(op, shape, dtype, { expr: build(inputs.map((t) => leaves.get(t)!)), inputs: operands, shape });
}

/** The expression of a deferred tensor with its operands renumbered into `operands`, or undefined if it must be computed first. */
function takePending(t: Tensor, shape: Shape, operands: PendingInput[], nodes: number, room: number): ExprNode | undefined {
  const pending = t.pendingWhole();
  if (!pending || t.storageInlined() > 0) return undefined;
  if (!sameShape(pending.shape, shape) || nodes + countNodes(pending.expr) > maxNodes) return undefined;
  const merged = [...operands];
  for (const p of pending.inputs) operandIndex(merged, p);
  if (merged.length > room) return undefined;
  t.markInlined();
  const numbers = pending.inputs.map((p) => operandIndex(operands, p));
  return mapInputs(pending.expr, (i, type) => inputNode(numbers[i]!, type));
}

/** Position of `p` among `operands`, added if it is new. */
function operandIndex(operands: PendingInput[], p: PendingInput): number {
  const same = (o: PendingInput) =>
    o.storage === p.storage &&
    o.dtype === p.dtype &&
    o.layout.offset === p.layout.offset &&
    sameShape(o.layout.shape, p.layout.shape) &&
    sameShape(o.layout.strides, p.layout.strides);
  const found = operands.findIndex(same);
  return found >= 0 ? found : operands.push(p) - 1;
}

/** What storing `e` as `dtype` and loading it again would give: keeps fused 16-bit and u8 chains equal to unfused ones. */
function roundedTo(e: ExprNode, dtype: DType): ExprNode {
  if (dtype === "f16" || dtype === "bf16") return e.type === "f32" ? { kind: "roundTo", dtype, x: e, type: "f32" } : castNode(e, "f32");
  if (dtype === "u8" && e.type === "u32") return binaryNode("and", e, constNode(255, "u32"));
  return castNode(e, exprType(dtype));
}

/** `op` of every value: questions (isNan) give u8; others keep floats, and integers where they give whole numbers, else f32. */
export function unary(op: UnaryOp, x: Tensor): Tensor {
  checkComputable(op, x);
  const keeps =
    op === "neg" ||
    op === "abs" ||
    op === "sign" ||
    op === "square" ||
    op === "relu" ||
    op === "floor" ||
    op === "ceil" ||
    op === "round" ||
    op === "trunc";
  const boolean = op === "not" || op === "isNan" || op === "isInf" || op === "isFinite";
  const dtype = boolean ? "u8" : keeps || isFloat(x.dtype) ? x.dtype : "f32";
  const type: ExprType = op === "not" ? "bool" : dtype === "u8" && boolean ? "f32" : exprType(dtype);
  return mapTensors(op, [x], x.shape, dtype, ([n]) => unaryNode(op, castNode(n!, type)));
}

const comparisons = new Set<BinaryOp>(["eq", "ne", "lt", "le", "gt", "ge"]);
const floatResult = new Set<BinaryOp>(["div", "atan2"]);
const bitwise = new Set<BinaryOp>(["and", "or", "xor"]);

/** Elementwise with broadcasting and PyTorch's promotion; a number takes the tensor's dtype unless it would lose its fraction. */
export function binary(op: BinaryOp, x: Tensor, y: Tensor | number, reversed = false): Tensor {
  checkComputable(op, x);
  if (typeof y === "number") return binaryNumber(op, x, y, reversed);
  checkComputable(op, y);
  const common = commonDType(op, x, promote(x.dtype, y.dtype));
  const type = exprType(common);
  const shape = sameShape(x.shape, y.shape) ? x.shape : broadcastShapes(op, x.shape, y.shape, () => `lhs ${x}, rhs ${y}`);
  return mapTensors(op, [x, y], shape, comparisons.has(op) ? "u8" : common, ([a, b]) =>
    binaryNode(op, castNode(a!, type), castNode(b!, type)),
  );
}

function binaryNumber(op: BinaryOp, x: Tensor, y: number, reversed: boolean): Tensor {
  const common = commonDType(op, x, isFloat(x.dtype) || Number.isInteger(y) ? x.dtype : "f32");
  const type = exprType(common);
  return mapTensors(op, [x], x.shape, comparisons.has(op) ? "u8" : common, ([a]) => {
    const lhs = castNode(a!, type);
    const rhs = constNode(y, type);
    return reversed ? binaryNode(op, rhs, lhs) : binaryNode(op, lhs, rhs);
  });
}

function commonDType(op: BinaryOp, x: Tensor, promoted: DType): DType {
  if (bitwise.has(op) && isFloat(promoted)) throw new DTypeError(op, `takes integers or u8 masks: ${x}`);
  return floatResult.has(op) && !isFloat(promoted) ? "f32" : promoted;
}

/** condition ≠ 0 ? x : y, all broadcast together. */
export function where(condition: Tensor, x: Tensor | number, y: Tensor | number): Tensor {
  checkComputable("where", condition);
  const tensors = [condition, x, y].filter((v): v is Tensor => typeof v !== "number");
  for (const t of tensors) checkComputable("where", t);
  const shape = tensors.reduce<Shape>((s, t) => broadcastShapes("where", s, t.shape, () => tensors.join(", ")), []);
  const dtype = whereDType(x, y);
  const type = exprType(dtype);
  return mapTensors("where", tensors, shape, dtype, (nodes) => {
    let next = 1;
    const pick = (v: Tensor | number) => (typeof v === "number" ? constNode(v, type) : castNode(nodes[next++]!, type));
    const a = pick(x);
    return whereNode(nodes[0]!, a, pick(y));
  });
}

function whereDType(x: Tensor | number, y: Tensor | number): DType {
  if (typeof x !== "number" && typeof y !== "number") return promote(x.dtype, y.dtype);
  const t = typeof x !== "number" ? x : typeof y !== "number" ? y : undefined;
  const numbers = [x, y].filter((v): v is number => typeof v === "number");
  return t && (isFloat(t.dtype) || numbers.every(Number.isInteger)) ? t.dtype : "f32";
}

/** Values limited to min…max; NaN stays NaN. Integers with a bound that is none give f32. */
export function clamp(x: Tensor, min: number | undefined, max: number | undefined): Tensor {
  checkComputable("clamp", x);
  const isWhole = [min, max].every((bound) => bound === undefined || Number.isInteger(bound));
  const dtype = isFloat(x.dtype) || isWhole ? x.dtype : "f32";
  const type = exprType(dtype);
  return mapTensors("clamp", [x], x.shape, dtype, ([n]) => {
    const low = min === undefined ? castNode(n!, type) : binaryNode("max", castNode(n!, type), constNode(min, type));
    return max === undefined ? low : binaryNode("min", low, constNode(max, type));
  });
}

/**
 * Half to even at `decimals` digits after the point (before it, if negative); the dtype is kept.
 * Throws DTypeError for integers and for a part of a digit.
 */
export function roundTo(x: Tensor, decimals: number): Tensor {
  if (decimals === 0) return unary("round", x);
  checkComputable("round", x);
  if (!isFloat(x.dtype) || !Number.isInteger(decimals)) throw new DTypeError("round", `takes floats and whole decimals: ${x}, ${decimals}`);
  const factor = constNode(10 ** Math.abs(decimals), "f32");
  const [before, after] = decimals > 0 ? (["mul", "div"] as const) : (["div", "mul"] as const);
  return mapTensors("round", [x], x.shape, x.dtype, ([n]) => binaryNode(after, unaryNode("round", binaryNode(before, n!, factor)), factor));
}

/** x where positive, else alpha · (exp(x) - 1); integers give f32. */
export function elu(x: Tensor, alpha: number): Tensor {
  checkComputable("elu", x);
  return mapTensors("elu", [x], x.shape, isFloat(x.dtype) ? x.dtype : "f32", ([n]) => {
    const value = castNode(n!, "f32");
    const below = binaryNode("mul", unaryNode("expm1", value), constNode(alpha, "f32"));
    return whereNode(binaryNode("gt", value, constNode(0, "f32")), value, below);
  });
}

/**
 * Another dtype, rounding to nearest even; floats truncate towards zero on the way to integers, as torch.
 * Throws DTypeError for a block format.
 */
export function cast(x: Tensor, dtype: DType): Tensor {
  if (x.dtype === dtype) return x.view_();
  checkDType("to", dtype);
  if (isQuantized(dtype)) throw new DTypeError("to", `cannot quantize on the device: ${x} to ${dtype}; quantize when loading or saving`);
  if (isQuantized(x.dtype)) return x.dequantize(dtype);
  return mapTensors("to", [x], x.shape, dtype, ([n]) => castNode(n!, exprType(dtype)));
}

/** The same values in a storage of their own or, if they are already laid out row-major, a second handle to this one. */
export function contiguous(x: Tensor): Tensor {
  return isContiguous(x.layout) && x.layout.offset === 0 ? x.view_() : copyOf(x);
}

/** A fresh row-major copy. */
export function copyOf(x: Tensor): Tensor {
  const out = x.device.empty(x.shape, x.dtype, "copy");
  if (sizeOf(x.shape) > 0) x.device.backend.kernels.copy(out.view, { x: x.view }, {});
  return out;
}
