// A restricted unpickler: the stack machine of Python's pickle, protocols 0 to 5 as far as checkpoints use them, that can build plain
// data and call nothing but what its caller lists by name. Format: Python's Lib/pickletools.py.
import { FormatError } from "../errors.ts";

/** What unpickling yields: dicts are Maps, lists and tuples arrays, long integers bigints where they do not fit, bytes Uint8Arrays. */
export type Unpickled =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | Unpickled[]
  | Map<Unpickled, Unpickled>
  | Callable
  | object;

/** A global that the caller allows: an inert value, or a function of a tuple of arguments. */
export interface Callable {
  readonly pythonName: string;
  readonly call?: (args: readonly Unpickled[]) => Unpickled;
}

export interface UnpickleContext {
  readonly op: string;
  /** For messages. */
  readonly where: string;
  /** The allowed globals by "module name". */
  readonly globals: ReadonlyMap<string, Callable>;
  /** Turns a persistent id into a value. */
  readonly persistent: (id: Unpickled) => Unpickled;
}

/** The bytes ended inside of the pickle. */
export class PickleEnded extends Error {}

class Mark {}
const MARK = new Mark();
const MAX_STACK = 10_000_000;

/** Runs one pickle from `bytes[start…]`; returns its value and where it ended. Throws PickleEnded, or FormatError for anything foreign. */
export function unpickle(bytes: Uint8Array, start: number, context: UnpickleContext): { value: Unpickled; end: number } {
  const machine = new Machine(bytes, start, context);
  return { value: machine.run(), end: machine.at };
}

class Machine {
  at: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly context: UnpickleContext;
  readonly stack: (Unpickled | Mark)[] = [];
  readonly memo: Map<number, Unpickled> = new Map();

  constructor(bytes: Uint8Array, at: number, context: UnpickleContext) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.at = at;
    this.context = context;
  }

  run(): Unpickled {
    for (;;) {
      const opcode = this.u8();
      if (opcode === 0x2e) return this.pop();
      const run = opcodes.get(opcode);
      if (!run) throw this.error(`pickle opcode 0x${opcode.toString(16)} is not one that checkpoints use`);
      run(this);
      if (this.stack.length > MAX_STACK) throw this.error("the pickle stack is absurdly deep");
    }
  }

  error(what: string): FormatError {
    return new FormatError(this.context.op, `${what}: ${this.context.where} at byte ${this.at}`);
  }

  /** Moves past `length` bytes and returns where they began. */
  skip(length: number): number {
    const from = this.at;
    if (!(from + length <= this.bytes.length)) throw new PickleEnded();
    this.at = from + length;
    return from;
  }

  u8(): number {
    return this.bytes[this.skip(1)]!;
  }
  u16(): number {
    return this.view.getUint16(this.skip(2), true);
  }
  u32(): number {
    return this.view.getUint32(this.skip(4), true);
  }
  u64(): number {
    return Number(this.view.getBigUint64(this.skip(8), true));
  }

  take(length: number): Uint8Array {
    const from = this.skip(length);
    return this.bytes.subarray(from, from + length);
  }

  text(length: number): string {
    return new TextDecoder().decode(this.take(length));
  }

  line(): string {
    const end = this.bytes.indexOf(10, this.at);
    if (end < 0) throw new PickleEnded();
    const line = this.text(end - this.at);
    this.at++;
    return line;
  }

  push(value: Unpickled | Mark): void {
    this.stack.push(value);
  }

  pop(): Unpickled {
    const value = this.stack.pop();
    if (value === undefined || value instanceof Mark) throw this.error("the pickle takes from an empty stack");
    return value;
  }

  peek(): Unpickled {
    const value = this.stack.at(-1);
    if (value === undefined || value instanceof Mark) throw this.error("the pickle takes from an empty stack");
    return value;
  }

  /** What lies above the last mark. */
  toMark(): Unpickled[] {
    const mark = this.stack.lastIndexOf(MARK);
    if (mark < 0) throw this.error("the pickle has no mark");
    const items = this.stack.splice(mark) as Unpickled[];
    items.shift();
    return items;
  }

  global(module: string, name: string): Callable {
    const found = this.context.globals.get(`${module} ${name}`);
    if (found) return found;
    const remedy = "only tensors and plain data are loaded; re-save the state dict alone, or as safetensors";
    throw this.error(`the pickle refers to ${module}.${name}; ${remedy}`);
  }

  call(callee: Unpickled, args: Unpickled): Unpickled {
    const callable = callee as Callable | null;
    if (typeof callable !== "object" || callable === null || typeof callable.call !== "function" || !("pythonName" in callable)) {
      throw this.error("the pickle calls something that is not a known function");
    }
    if (!Array.isArray(args)) throw this.error(`the pickle calls ${callable.pythonName} without a tuple of arguments`);
    return callable.call(args);
  }

  setItems(items: readonly Unpickled[]): void {
    const target = this.peek();
    if (!(target instanceof Map) || items.length % 2 !== 0) throw this.error("the pickle sets items of something that is no dict");
    for (let i = 0; i < items.length; i += 2) target.set(items[i]!, items[i + 1]!);
  }

  append(items: readonly Unpickled[]): void {
    const target = this.peek();
    if (!Array.isArray(target)) throw this.error("the pickle appends to something that is no list");
    for (const item of items) target.push(item);
  }

  recall(index: number): void {
    const value = this.memo.get(index);
    if (value === undefined) throw this.error(`the pickle recalls memo ${index}, which was never stored`);
    this.push(value);
  }
}

function littleEndian(bytes: Uint8Array): number | bigint {
  let value = 0n;
  for (let i = bytes.length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]!);
  if (bytes.length > 0 && bytes.at(-1)! & 0x80) value -= 1n << BigInt(8 * bytes.length);
  return narrow(value);
}

const narrow = (value: bigint): number | bigint => (value >= -(2n ** 53n) && value <= 2n ** 53n ? Number(value) : value);

function long(m: Machine, length: number): number | bigint {
  if (length > 1024) throw m.error(`an integer of ${length} bytes`);
  return littleEndian(m.take(length));
}

function decimal(m: Machine, line: string): Unpickled {
  if (line === "00") return false;
  if (line === "01") return true;
  if (!/^-?\d{1,1000}L?$/.test(line)) throw m.error("a malformed integer");
  return narrow(BigInt(line.replace("L", "")));
}

const state = (m: Machine): void => {
  // Attributes set on a rebuilt object, such as a state dict's version notes: no checkpoint needs them.
  m.pop();
  m.peek();
};

const opcodes: ReadonlyMap<number, (m: Machine) => void> = new Map<number, (m: Machine) => void>([
  [0x80, (m) => void m.u8()], // PROTO
  [0x95, (m) => void m.u64()], // FRAME
  [0x28, (m) => m.push(MARK)],
  [0x30, (m) => void m.stack.pop()], // POP
  [0x31, (m) => void m.toMark()], // POP_MARK
  [0x32, (m) => m.push(m.peek())], // DUP
  [0x4e, (m) => m.push(null)],
  [0x88, (m) => m.push(true)],
  [0x89, (m) => m.push(false)],
  [0x49, (m) => m.push(decimal(m, m.line()))], // INT
  [0x4c, (m) => m.push(decimal(m, m.line()))], // LONG
  [0x4a, (m) => m.push(m.u32() | 0)], // BININT
  [0x4b, (m) => m.push(m.u8())],
  [0x4d, (m) => m.push(m.u16())],
  [0x8a, (m) => m.push(long(m, m.u8()))],
  [0x8b, (m) => m.push(long(m, m.u32()))],
  [0x46, (m) => m.push(Number(m.line()))], // FLOAT
  [0x47, (m) => m.push(m.view.getFloat64(m.skip(8), false))],
  [0x58, (m) => m.push(m.text(m.u32()))], // BINUNICODE
  [0x8c, (m) => m.push(m.text(m.u8()))],
  [0x8d, (m) => m.push(m.text(m.u64()))],
  [0x56, (m) => m.push(m.line())], // UNICODE
  [0x55, (m) => m.push(m.text(m.u8()))], // SHORT_BINSTRING (Python 2 text)
  [0x54, (m) => m.push(m.text(m.u32()))],
  [0x42, (m) => m.push(m.take(m.u32()).slice())], // BINBYTES
  [0x43, (m) => m.push(m.take(m.u8()).slice())],
  [0x8e, (m) => m.push(m.take(m.u64()).slice())],
  [0x96, (m) => m.push(m.take(m.u64()).slice())], // BYTEARRAY8
  [0x5d, (m) => m.push([])],
  [0x29, (m) => m.push([])],
  [0x7d, (m) => m.push(new Map())],
  [0x8f, (m) => m.push([])], // EMPTY_SET
  [0x90, (m) => appendAll(m)], // ADDITEMS
  [0x91, (m) => m.push(m.toMark())], // FROZENSET
  [0x6c, (m) => m.push(m.toMark())], // LIST
  [0x74, (m) => m.push(m.toMark())], // TUPLE
  [0x64, (m) => dict(m)],
  [0x85, (m) => tuple(m, 1)],
  [0x86, (m) => tuple(m, 2)],
  [0x87, (m) => tuple(m, 3)],
  [0x61, (m) => appendOne(m)],
  [0x65, (m) => appendAll(m)],
  [0x73, (m) => setOne(m)],
  [0x75, (m) => m.setItems(m.toMark())],
  [0x63, (m) => m.push(m.global(m.line(), m.line()))],
  [0x93, (m) => stackGlobal(m)],
  [0x52, (m) => reduce(m)],
  [0x81, (m) => reduce(m)], // NEWOBJ
  [0x62, state], // BUILD
  [0x51, (m) => m.push(m.context.persistent(m.pop()))],
  [0x70, (m) => m.memo.set(Number(m.line()), m.peek())],
  [0x71, (m) => m.memo.set(m.u8(), m.peek())],
  [0x72, (m) => m.memo.set(m.u32(), m.peek())],
  [0x94, (m) => m.memo.set(m.memo.size, m.peek())],
  [0x67, (m) => m.recall(Number(m.line()))],
  [0x68, (m) => m.recall(m.u8())],
  [0x6a, (m) => m.recall(m.u32())],
]);

function appendOne(m: Machine): void {
  const item = m.pop();
  m.append([item]);
}

function appendAll(m: Machine): void {
  const items = m.toMark();
  m.append(items);
}

function setOne(m: Machine): void {
  const value = m.pop();
  const key = m.pop();
  m.setItems([key, value]);
}

function dict(m: Machine): void {
  const items = m.toMark();
  m.push(new Map());
  m.setItems(items);
}

function tuple(m: Machine, length: number): void {
  const items: Unpickled[] = [];
  for (let i = 0; i < length; i++) items.unshift(m.pop());
  m.push(items);
}

function stackGlobal(m: Machine): void {
  const name = m.pop();
  const module = m.pop();
  if (typeof name !== "string" || typeof module !== "string") throw m.error("the pickle names a global by something that is no text");
  m.push(m.global(module, name));
}

function reduce(m: Machine): void {
  const args = m.pop();
  m.push(m.call(m.pop(), args));
}
