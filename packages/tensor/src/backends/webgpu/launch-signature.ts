// A kernel call as a row of numbers: everything a kernel may base its decisions on (which op, how operands lie, attributes), and nothing else.
// Two calls with equal signatures record the same dispatches on different buffers.
import type { Layout } from "../../layout.ts";
import type { ExprNode } from "../../ops/expr.ts";
import type { View } from "../../view.ts";
import { type GpuBuffer, type Store, storeOf } from "./store.ts";

const capacity = 2048;
const codes = new Map<string, number>();

/** A number for a word, the same for the life of the process. */
function codeOf(word: string): number {
  let code = codes.get(word);
  if (code === undefined) codes.set(word, (code = codes.size + 1));
  return code;
}

/** Collects one call; reused for every call, so nothing is allocated. */
export class LaunchSignature {
  readonly numbers = new Float64Array(capacity);
  /** The first `storeCount` are the operands' stores, each once, in order of appearance. */
  readonly stores: Store[] = [];
  storeCount = 0;
  length = 0;

  /** Starts over with a call's op, output, operands and attributes. */
  describe(op: number, out: View, inputs: object, attrs: object): void {
    this.length = 0;
    this.storeCount = 0;
    this.push(op);
    this.view(out);
    for (const name in inputs) this.operand(name, (inputs as Record<string, View | readonly View[] | undefined>)[name]);
    this.attributes(attrs as Record<string, unknown>);
  }

  /** Whether everything fitted. */
  get complete(): boolean {
    return this.length <= capacity;
  }

  hash(): number {
    const { numbers, length } = this;
    let h = length;
    for (let i = 0; i < length; i++) h = Math.imul(h ^ (numbers[i]! | 0), 0x9e3779b1) ^ (h >>> 15);
    return h;
  }

  equals(other: Float64Array): boolean {
    const { numbers, length } = this;
    if (other.length !== length) return false;
    for (let i = 0; i < length; i++) if (!Object.is(numbers[i], other[i])) return false;
    return true;
  }

  private push(n: number): void {
    this.numbers[this.length++] = n;
  }

  private operand(name: string, value: View | readonly View[] | undefined): void {
    if (value === undefined) return;
    this.push(codeOf(name));
    if (!Array.isArray(value)) {
      this.view(value as View);
      return;
    }
    this.push(value.length);
    for (const view of value) this.view(view as View);
  }

  private view({ buffer, dtype, layout }: View): void {
    const store = storeOf(buffer as GpuBuffer);
    this.push(this.slotOf(store));
    this.push(store.sizeBytes);
    this.push(buffer.byteLength);
    this.push(codeOf(dtype));
    this.layout(layout);
  }

  private slotOf(store: Store): number {
    const { stores, storeCount } = this;
    for (let i = 0; i < storeCount; i++) if (stores[i] === store) return i;
    stores[storeCount] = store;
    this.storeCount++;
    return storeCount;
  }

  private layout({ shape, strides, offset }: Layout): void {
    this.push(offset);
    this.push(shape.length);
    for (let i = 0; i < shape.length; i++) {
      this.push(shape[i]!);
      this.push(strides[i]!);
    }
  }

  private attributes(attrs: Record<string, unknown>): void {
    for (const name in attrs) {
      const value = attrs[name];
      if (value === undefined) continue;
      this.push(codeOf(name));
      if (name === "expr" || name === "epilogue") this.expression(value as ExprNode);
      else this.value(value);
    }
  }

  private value(value: unknown): void {
    if (typeof value === "number") this.push(value);
    else if (Array.isArray(value)) {
      this.push(value.length);
      for (const v of value) this.value(v);
    } else if (typeof value === "object") {
      // Not a number, word or list: the call cannot be told from others and must not be remembered.
      this.length = capacity + 1;
    } else this.push(codeOf(String(value)));
  }

  private expression(e: ExprNode): void {
    this.push(codeOf(e.kind));
    this.push(codeOf(e.type));
    switch (e.kind) {
      case "input":
        this.push(e.index);
        break;
      case "const":
        this.push(e.value);
        break;
      case "cast":
        this.expression(e.x);
        break;
      case "roundTo":
        this.push(codeOf(e.dtype));
        this.expression(e.x);
        break;
      case "unary":
        this.push(codeOf(e.op));
        this.expression(e.x);
        break;
      case "binary":
        this.push(codeOf(e.op));
        this.expression(e.x);
        this.expression(e.y);
        break;
      case "where":
        this.expression(e.c);
        this.expression(e.x);
        this.expression(e.y);
    }
  }
}
