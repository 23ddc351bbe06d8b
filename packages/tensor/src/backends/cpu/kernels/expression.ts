// Evaluates elementwise expressions block by block: the tree becomes a list of loops over working registers.
// Every step rounds to f32, as unfused ops do. No code is generated, so it runs under any content policy.
import { roundThrough } from "../../../dtype-convert.ts";
import type { ExprNode, ExprType } from "../../../ops/expr.ts";
import type { View } from "../../../view.ts";
import { type Block, blockLength, Reader, Writer } from "./access.ts";
import { floatBinary, floatUnary, intBinary, intUnary } from "./scalar-math.ts";

/** Supplies linear stretches of one input. */
export interface BlockSource {
  floats(start: number, count: number, out: Float32Array): void;
  ints(start: number, count: number, out: Int32Array): void;
  /** True if all elements are one and the same. */
  readonly constant: boolean;
}

/** A source that reads a strided view. */
export function viewSource(view: View): BlockSource {
  const reader = new Reader(view);
  return {
    floats: (start, count, out) => reader.floats(start, count, out),
    ints: (start, count, out) => reader.ints(start, count, out),
    constant: reader.walker.constant,
  };
}

type Step = (start: number, count: number) => void;

/** An expression bound to its inputs, ready to run over linear stretches. */
export class Program {
  readonly #steps: Step[] = [];
  readonly #registers = new Map<ExprNode, Block>();
  readonly #sources: readonly BlockSource[];
  readonly #length: number;
  readonly #result: Block;

  /** `length`: the longest stretch that will be asked for. */
  constructor(expr: ExprNode, sources: readonly BlockSource[], length: number) {
    this.#sources = sources;
    this.#length = length;
    this.#result = this.#compile(expr);
  }

  /** Values at positions `start` … `start + count - 1`, at the front of a register valid until the next run. */
  run(start: number, count: number): Block {
    for (const step of this.#steps) step(start, count);
    return this.#result;
  }

  #register(type: ExprType): Block {
    return type === "f32" ? new Float32Array(this.#length) : new Int32Array(this.#length);
  }

  #compile(node: ExprNode): Block {
    const known = this.#registers.get(node);
    if (known) return known;
    const block = this.#emit(node);
    this.#registers.set(node, block);
    return block;
  }

  #emit(node: ExprNode): Block {
    switch (node.kind) {
      case "input":
        return this.#emitInput(node.index, node.type);
      case "const":
        return this.#register(node.type).fill(node.value) as Block;
      case "cast":
        return this.#emitCast(node.x, node.type);
      case "roundTo":
        return this.#emitMap(node.x, "f32", (v) => roundThrough(node.dtype, v));
      case "unary":
        return this.#emitUnary(node);
      case "binary":
        return this.#emitBinary(node);
      case "where":
        return this.#emitWhere(node);
    }
  }

  #emitInput(index: number, type: ExprType): Block {
    const source = this.#sources[index]!;
    const out = this.#register(type);
    const read = (start: number, count: number) =>
      out instanceof Float32Array ? source.floats(start, count, out) : source.ints(start, count, out);
    if (source.constant) read(0, this.#length);
    else this.#steps.push(read);
    if (type === "bool") this.#pushMap(out, out, (v) => (v !== 0 ? 1 : 0));
    return out;
  }

  #pushMap(x: Block, out: Block, fn: (v: number) => number): void {
    this.#steps.push((_, count) => {
      for (let i = 0; i < count; i++) out[i] = fn(x[i]!);
    });
  }

  #emitMap(xNode: ExprNode, type: ExprType, fn: (v: number) => number): Block {
    const x = this.#compile(xNode);
    const out = this.#register(type);
    this.#pushMap(x, out, fn);
    return out;
  }

  #emitCast(x: ExprNode, type: ExprType): Block {
    return this.#emitMap(x, type, castFunction(x.type, type));
  }

  #emitUnary(node: ExprNode & { kind: "unary" }): Block {
    const { op, x, type } = node;
    if (x.type === "f32") return this.#emitMap(x, type, floatUnary[op]);
    const fn = intUnary[op] ?? floatUnary[op];
    return this.#emitMap(x, type, x.type === "u32" ? (v) => fn(v >>> 0) : fn);
  }

  #emitBinary(node: ExprNode & { kind: "binary" }): Block {
    const { op, type } = node;
    const x = this.#compile(node.x);
    const y = this.#compile(node.y);
    const out = this.#register(type);
    const fast = fastLoops[op];
    if (fast && x instanceof Float32Array) {
      this.#steps.push((_, count) => fast(x, y as Float32Array, out as Float32Array, count));
      return out;
    }
    const fn = node.x.type === "f32" || node.x.type === "bool" ? floatBinary[op] : (intBinary[op] ?? floatBinary[op]);
    this.#steps.push(node.x.type === "u32" ? unsignedLoop(fn, x, y, out) : binaryLoop(fn, x, y, out));
    return out;
  }

  #emitWhere(node: ExprNode & { kind: "where" }): Block {
    const c = this.#compile(node.c);
    const x = this.#compile(node.x);
    const y = this.#compile(node.y);
    const out = this.#register(node.type);
    this.#steps.push((_, count) => {
      for (let i = 0; i < count; i++) out[i] = c[i] !== 0 ? x[i]! : y[i]!;
    });
    return out;
  }
}

const binaryLoop =
  (fn: (x: number, y: number) => number, x: Block, y: Block, out: Block): Step =>
  (_, count) => {
    for (let i = 0; i < count; i++) out[i] = fn(x[i]!, y[i]!);
  };

const unsignedLoop =
  (fn: (x: number, y: number) => number, x: Block, y: Block, out: Block): Step =>
  (_, count) => {
    for (let i = 0; i < count; i++) out[i] = fn(x[i]! >>> 0, y[i]! >>> 0);
  };

type FloatLoop = (x: Float32Array, y: Float32Array, out: Float32Array, count: number) => void;

/** Own loops for the arithmetic that dominates, so that the engine can inline it. */
const fastLoops: Partial<Record<string, FloatLoop>> = {
  add: (x, y, out, count) => {
    for (let i = 0; i < count; i++) out[i] = x[i]! + y[i]!;
  },
  sub: (x, y, out, count) => {
    for (let i = 0; i < count; i++) out[i] = x[i]! - y[i]!;
  },
  mul: (x, y, out, count) => {
    for (let i = 0; i < count; i++) out[i] = x[i]! * y[i]!;
  },
  div: (x, y, out, count) => {
    for (let i = 0; i < count; i++) out[i] = x[i]! / y[i]!;
  },
};

/** Float to integer truncates and saturates (NaN gives 0), except that negatives wrap in u32, as torch's u8 casts do. */
function castFunction(from: ExprType, to: ExprType): (v: number) => number {
  if (to === "bool") return (v) => (v !== 0 ? 1 : 0);
  if (from === "f32" && to === "i32") return (v) => Math.trunc(Math.min(2147483647, Math.max(-2147483648, v))) | 0;
  if (from === "f32" && to === "u32") return (v) => Math.trunc(Math.min(4294967295, Math.max(-2147483648, v)));
  return from === "u32" && to === "f32" ? (v) => v >>> 0 : (v) => v;
}

const emptySource: BlockSource = { floats: () => {}, ints: () => {}, constant: false };

/**
 * Where a kernel puts its f32 results: applies the epilogue, rounds to out's dtype and stores at linear positions of `out`.
 * Positions count row-major over out's shape.
 */
export class ResultSink {
  readonly #writer: Writer;
  readonly #program: Program | undefined;
  #values: Float32Array = new Float32Array(0);
  #shift = 0;

  constructor(out: View, epilogue?: ExprNode, operands: readonly View[] = []) {
    this.#writer = new Writer(out);
    if (!epilogue) return;
    const result: BlockSource = {
      ...emptySource,
      floats: (start, count, into) => into.set(this.#values.subarray(start + this.#shift, start + this.#shift + count)),
    };
    this.#program = new Program(epilogue, [result, ...operands.map(viewSource)], blockLength);
  }

  /** Stores `count` results found in `values` from `at`. */
  put(start: number, count: number, values: Float32Array, at: number): void {
    if (!this.#program) {
      this.#writer.put(start, count, values, at);
      return;
    }
    this.#values = values;
    this.#shift = at - start;
    for (let done = 0; done < count; done += blockLength) {
      const n = Math.min(blockLength, count - done);
      this.#writer.put(start + done, n, this.#program.run(start + done, n));
    }
  }
}
