// Epilogues: what happens to a matmul, norm or convolution result before it is stored, written with the same words as tensors.

import { isFloat } from "../dtype.ts";
import { DTypeError } from "../errors.ts";
import { expandLayout } from "../layout.ts";
import type { Shape } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import type { View } from "../view.ts";
import { checkDevices, exprType } from "./elementwise.ts";
import { type BinaryOp, binaryNode, castNode, constNode, type ExprNode, inputNode, mapInputs, type UnaryOp, unaryNode } from "./expr.ts";

/** One f32 value of an epilogue under construction. */
export class Value {
  /** The expression so far. */
  readonly node: ExprNode;
  constructor(node: ExprNode) {
    this.node = castNode(node, "f32");
  }
  /** this + y */
  add(y: Value | number): Value {
    return this.#binary("add", y);
  }
  /** this - y */
  sub(y: Value | number): Value {
    return this.#binary("sub", y);
  }
  /** this · y */
  mul(y: Value | number): Value {
    return this.#binary("mul", y);
  }
  /** this / y */
  div(y: Value | number): Value {
    return this.#binary("div", y);
  }
  /** The smaller of both. */
  minimum(y: Value | number): Value {
    return this.#binary("min", y);
  }
  /** The larger of both. */
  maximum(y: Value | number): Value {
    return this.#binary("max", y);
  }
  /** -this */
  neg(): Value {
    return this.unary("neg");
  }
  /** e to this. */
  exp(): Value {
    return this.unary("exp");
  }
  /** The hyperbolic tangent. */
  tanh(): Value {
    return this.unary("tanh");
  }
  /** 1 / (1 + e^-this) */
  sigmoid(): Value {
    return this.unary("sigmoid");
  }
  /** max(this, 0) */
  relu(): Value {
    return this.unary("relu");
  }
  /** this · sigmoid(this) */
  silu(): Value {
    return this.unary("silu");
  }
  /** The tanh approximation. */
  gelu(): Value {
    return this.unary("gelu");
  }
  /** The exact form. */
  geluErf(): Value {
    return this.unary("geluErf");
  }
  /** this · sigmoid(1.702 this) */
  geluQuick(): Value {
    return this.unary("geluQuick");
  }
  /** Any other elementwise function by its name. */
  unary(op: UnaryOp): Value {
    return new Value(unaryNode(op, this.node));
  }
  #binary(op: BinaryOp, y: Value | number): Value {
    return new Value(binaryNode(op, this.node, typeof y === "number" ? constNode(y, "f32") : y.node));
  }
}

/** An expression over an op's result (input 0) and further tensors; make one with `epilogue`. */
export interface Epilogue {
  /** Over the op's result (input 0) and the operands (1, 2, …). */
  readonly expr: ExprNode;
  /** Broadcast to the op's output. */
  readonly operands: readonly Tensor[];
}

type Values<T extends readonly Tensor[]> = { [K in keyof T]: Value };

/**
 * Fuses `fn` into the op that takes the epilogue: `x.matmul(w, epilogue((y, b, r) => y.add(b).gelu().add(r), bias, residual))`.
 * Operands broadcast to the op's output; the result is computed in f32 and rounded once.
 */
export function epilogue<T extends readonly Tensor[]>(fn: (y: Value, ...operands: Values<T>) => Value, ...operands: T): Epilogue {
  const values = operands.map((t, i) => new Value(inputNode(i + 1, exprType(t.dtype))));
  return { expr: fn(new Value(inputNode(0, "f32")), ...(values as Values<T>)).node, operands };
}

/** First `inner`, then `outer` on its result. */
export function chainEpilogues(inner: Epilogue | undefined, outer: Epilogue | undefined): Epilogue | undefined {
  if (!inner || !outer) return inner ?? outer;
  const shifted = mapInputs(outer.expr, (i, type) => (i === 0 ? inner.expr : inputNode(i + inner.operands.length, type)));
  return { expr: shifted, operands: [...inner.operands, ...outer.operands] };
}

/** Kernel operands and attributes of an epilogue whose op writes `shape`. Throws DTypeError for integer operands. */
export function epilogueViews(
  op: string,
  x: Tensor,
  shape: Shape,
  e: Epilogue | undefined,
): { operands?: View[]; attrs: { epilogue?: ExprNode } } {
  if (!e) return { attrs: {} };
  checkDevices(op, [x, ...e.operands]);
  const operands = e.operands.map((t) => {
    if (!isFloat(t.dtype)) throw new DTypeError(op, `epilogue operands are floats: ${t}`);
    const { buffer, dtype, layout } = t.view;
    return { buffer, dtype, layout: expandLayout(op, layout, shape, () => `epilogue operand ${t}`) };
  });
  return { operands, attrs: { epilogue: e.expr } };
}
