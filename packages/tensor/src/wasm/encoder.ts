// A small WebAssembly encoder: enough of the binary format for SIMD kernels over an imported memory.
import { laneLoads, laneOps, laneStores, type MemoryOp, memoryOps, type PlainOp, plainOps, simdMemoryOps, simdOps } from "./opcodes.ts";

export const i32 = 0x7f;
export const f32 = 0x7d;
export const f64 = 0x7c;
export const v128 = 0x7b;
export type ValueType = typeof i32 | typeof f32 | typeof f64 | typeof v128;
/** Number of a local variable or parameter. */
export type Local = number;

function unsigned(n: number): number[] {
  const out: number[] = [];
  do {
    const byte = n % 128;
    n = Math.floor(n / 128);
    out.push(n > 0 ? byte | 0x80 : byte);
  } while (n > 0);
  return out;
}

const text = (s: string): number[] => [...unsigned(s.length), ...new TextEncoder().encode(s)];
const list = (items: readonly (readonly number[])[]): number[] => [...unsigned(items.length), ...items.flat()];
const section = (id: number, content: readonly number[]): number[] => [id, ...unsigned(content.length), ...content];

/** Four 32-bit constants, and the same as bytes. */
const constantBytes = new Uint8Array(16);
const constant = {
  floats: new Float32Array(constantBytes.buffer),
  ints: new Int32Array(constantBytes.buffer),
  doubles: new Float64Array(constantBytes.buffer),
};

/** Bytes that grow: emitting a kernel takes thousands of small writes, before its first result. */
class Bytes {
  #data = new Uint8Array(1024);
  #length = 0;

  byte(value: number): void {
    if (this.#length === this.#data.length) this.#reserve(1);
    this.#data[this.#length++] = value;
  }

  #reserve(count: number): void {
    const larger = new Uint8Array(Math.max(2 * this.#data.length, this.#length + count));
    larger.set(this.present);
    this.#data = larger;
  }

  unsigned(n: number): void {
    for (; n >= 128; n = Math.floor(n / 128)) this.byte((n % 128) | 0x80);
    this.byte(n);
  }

  signed(n: number): void {
    for (; n < -64 || n > 63; n >>= 7) this.byte((n & 0x7f) | 0x80);
    this.byte(n & 0x7f);
  }

  all(values: ArrayLike<number>): void {
    if (this.#length + values.length > this.#data.length) this.#reserve(values.length);
    this.#data.set(values, this.#length);
    this.#length += values.length;
  }

  get present(): Uint8Array {
    return this.#data.subarray(0, this.#length);
  }
}

/** A function that can be called: one of this module's, or one it imports. */
export interface Callee {
  readonly index: number;
}

/** The body of one function, written in stack order; methods return `this` for chaining. */
export class Code implements Callee {
  readonly params: readonly ValueType[];
  readonly results: readonly ValueType[];
  readonly index: number;
  readonly #locals: ValueType[] = [];
  readonly #bytes = new Bytes();
  readonly #prologue = new Bytes();
  #kept: Map<string, Local> | undefined;

  constructor(index: number, params: readonly ValueType[], results: readonly ValueType[]) {
    this.index = index;
    this.params = params;
    this.results = results;
  }

  local(type: ValueType): Local {
    this.#locals.push(type);
    return this.params.length + this.#locals.length - 1;
  }

  locals(type: ValueType, count: number): Local[] {
    return Array.from({ length: count }, () => this.local(type));
  }

  #put(code: number): this {
    this.#bytes.byte(code);
    return this;
  }

  /** An instruction with one unsigned operand. */
  #with(code: number, operand: number): this {
    this.#bytes.byte(code);
    this.#bytes.unsigned(operand);
    return this;
  }

  /** A vector instruction. */
  #simd(code: number): this {
    return this.#with(0xfd, code);
  }

  get(x: Local): this {
    return this.#with(0x20, x);
  }

  set(x: Local): this {
    return this.#with(0x21, x);
  }

  tee(x: Local): this {
    return this.#with(0x22, x);
  }

  int(value: number): this {
    this.#bytes.byte(0x41);
    this.#bytes.signed(value | 0);
    return this;
  }

  float(value: number): this {
    constant.floats[0] = value;
    this.#bytes.byte(0x43);
    this.#bytes.all(constantBytes.subarray(0, 4));
    return this;
  }

  /**
   * From here on, vector constants are made once, on entry: V8 from 13 on (Node 24) makes one by several instructions wherever it stands,
   * in loops too.
   */
  keepConstants(): this {
    this.#kept ??= new Map();
    return this;
  }

  #vector(): this {
    const key = constant.ints.join();
    if (!this.#kept || key === "0,0,0,0") {
      this.#simd(0x0c);
      this.#bytes.all(constantBytes);
      return this;
    }
    let local = this.#kept.get(key);
    if (local === undefined) {
      local = this.local(v128);
      this.#kept.set(key, local);
      this.#prologue.byte(0xfd);
      this.#prologue.byte(0x0c);
      this.#prologue.all(constantBytes);
      this.#prologue.byte(0x21);
      this.#prologue.unsigned(local);
    }
    return this.get(local);
  }

  /** A vector of four equal floats. */
  floats(value: number): this {
    constant.floats.fill(value);
    return this.#vector();
  }

  /** A vector of four given 32-bit patterns. */
  words(values: readonly [number, number, number, number]): this {
    constant.ints.set(values);
    return this.#vector();
  }

  /** A vector of two equal f64. */
  doubles(value: number): this {
    constant.doubles.fill(value);
    return this.#vector();
  }

  /** A vector of four equal integers. */
  ints(value: number): this {
    constant.ints.fill(value);
    return this.#vector();
  }

  op(name: PlainOp): this {
    const code = (plainOps as Partial<Record<PlainOp, number>>)[name];
    return code === undefined ? this.#simd(simdOps[name as keyof typeof simdOps]) : this.#put(code);
  }

  /** A load or store at the address on the stack plus `offset` bytes. */
  memory(name: MemoryOp, offset = 0): this {
    const code = (memoryOps as Partial<Record<MemoryOp, number>>)[name];
    if (code === undefined) this.#simd(simdMemoryOps[name as keyof typeof simdMemoryOps]);
    else this.#put(code);
    return this.#with(0, offset);
  }

  /** Target, source and count of bytes on the stack: copies within the memory. */
  copyBytes(): this {
    return this.#with(0xfc, 10).#put(0).#put(0);
  }

  /** Target, byte and count on the stack: fills within the memory. */
  fillBytes(): this {
    return this.#with(0xfc, 11).#put(0);
  }

  extract(name: keyof typeof laneOps, lane: number): this {
    return this.#simd(laneOps[name]).#put(lane);
  }

  loadLane(name: keyof typeof laneLoads, lane: number, offset = 0): this {
    return this.#simd(laneLoads[name]).#with(0, offset).#put(lane);
  }

  storeLane(name: keyof typeof laneStores, lane: number, offset = 0): this {
    return this.#simd(laneStores[name]).#with(0, offset).#put(lane);
  }

  /** Picks four 32-bit lanes out of two vectors; lanes 4 to 7 are the second's. */
  shuffle(...lanes: readonly [number, number, number, number]): this {
    this.#simd(0x0d);
    for (const lane of lanes) for (let i = 0; i < 4; i++) this.#bytes.byte(4 * lane + i);
    return this;
  }

  /** Picks eight 16-bit lanes out of two vectors; lanes 8 to 15 are the second's. */
  shuffleHalves(lanes: readonly number[]): this {
    this.#simd(0x0d);
    for (const lane of lanes) this.#put(2 * lane).#put(2 * lane + 1);
    return this;
  }

  /** Lets another emitter continue here. */
  use(emit: () => void): this {
    emit();
    return this;
  }

  /** value += by */
  advance(x: Local, by: number): this {
    return this.get(x).int(by).op("i32.add").set(x);
  }

  block(): this {
    return this.#put(0x02).#put(0x40);
  }

  loop(): this {
    return this.#put(0x03).#put(0x40);
  }

  if(): this {
    return this.#put(0x04).#put(0x40);
  }

  /** A condition whose branches each leave an f32. */
  ifFloat(): this {
    return this.#put(0x04).#put(f32);
  }

  else(): this {
    return this.#put(0x05);
  }

  end(): this {
    return this.#put(0x0b);
  }

  branch(depth: number): this {
    return this.#with(0x0c, depth);
  }

  branchIf(depth: number): this {
    return this.#with(0x0d, depth);
  }

  call(callee: Callee): this {
    return this.#with(0x10, callee.index);
  }

  /** Calls the table entry on the stack, of a type from `Module.signature`. */
  callIndirect(signature: number): this {
    return this.#with(0x11, signature).#put(0);
  }

  /** for (i = from; i < to; i += step) body, on signed numbers; `"here"` starts at the present i. */
  forLess(i: Local, to: Local, step: number, body: () => void, from: number | "here" = 0): this {
    if (from !== "here") this.int(from).set(i);
    this.block().loop().get(i).get(to).op("i32.ge_s").branchIf(1);
    body();
    return this.advance(i, step).branch(0).end().end();
  }

  /** The instructions so far. */
  get bytes(): Uint8Array {
    return this.#bytes.present;
  }

  /** Writes size, locals and body. */
  write(to: Bytes): void {
    const groups = list(this.#locals.map((t) => [1, t]));
    const [prologue, body] = [this.#prologue.present, this.#bytes.present];
    to.unsigned(groups.length + prologue.length + body.length + 1);
    to.all(groups);
    to.all(prologue);
    to.all(body);
    to.byte(0x0b);
  }
}

/** A module that imports `env.memory` and, on demand, `env.table` and functions, and exports functions. */
export class Module {
  readonly #imported: { name: string; type: number }[] = [];
  readonly #functions: { code: Code; name: string | undefined }[] = [];
  readonly #types: number[][] = [];
  readonly #shared: boolean;
  readonly #data: (readonly number[])[] = [];
  #table = false;

  /** `shared`: whether the memory it imports is. */
  constructor(shared: boolean) {
    this.#shared = shared;
  }

  /** Number of a function type, for `callIndirect`; makes the module import `env.table`. */
  signature(params: readonly ValueType[], results: readonly ValueType[]): number {
    this.#table = true;
    return this.#type(params, results);
  }

  #type(params: readonly ValueType[], results: readonly ValueType[]): number {
    const type = [0x60, ...list(params.map((p) => [p])), ...list(results.map((r) => [r]))];
    const known = this.#types.findIndex((t) => t.join() === type.join());
    if (known >= 0) return known;
    return this.#types.push(type) - 1;
  }

  /** A function without results that another module exports by this name; to be asked for before any function is made. */
  imported(name: string, params: readonly ValueType[]): Callee {
    return { index: this.#imported.push({ name, type: this.#type(params, []) }) - 1 };
  }

  /** A new function, exported if it has a name. */
  func(name: string | undefined, params: readonly ValueType[], results: readonly ValueType[] = []): Code {
    const code = new Code(this.#imported.length + this.#functions.length, params, results);
    this.#functions.push({ code, name });
    return code;
  }

  /** Bytes that lie at `address` of the memory once the module is instantiated. */
  data(address: number, bytes: Uint8Array): void {
    const at = new Code(0, [], []).int(address);
    this.#data.push([0, ...at.bytes, 0x0b, ...unsigned(bytes.length), ...bytes]);
  }

  /** The binary. */
  build(): Uint8Array<ArrayBuffer> {
    const declared = this.#functions.map(({ code }) => unsigned(this.#type(code.params, code.results)));
    const limits = this.#shared ? [3, ...unsigned(1), ...unsigned(65536)] : [1, ...unsigned(1), ...unsigned(65536)];
    const imports = [[...text("env"), ...text("memory"), 2, ...limits]];
    for (const { name, type } of this.#imported) imports.push([...text("env"), ...text(name), 0, ...unsigned(type)]);
    if (this.#table) imports.push([...text("env"), ...text("table"), 1, 0x70, 0, ...unsigned(1)]);
    const exported = this.#functions.flatMap(({ code, name }) => (name ? [[...text(name), 0, ...unsigned(code.index)]] : []));
    const code = new Bytes();
    code.unsigned(this.#functions.length);
    for (const { code: body } of this.#functions) body.write(code);
    const head = [
      ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
      ...section(1, list(this.#types)),
      ...section(2, list(imports)),
      ...section(3, list(declared)),
      ...section(7, list(exported)),
      ...[10, ...unsigned(code.present.length)],
    ];
    const tail = this.#data.length > 0 ? section(11, list(this.#data)) : [];
    const out = new Uint8Array(head.length + code.present.length + tail.length);
    out.set(head);
    out.set(code.present, head.length);
    out.set(tail, head.length + code.present.length);
    return out;
  }
}
