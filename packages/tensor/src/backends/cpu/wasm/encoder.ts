// A small WebAssembly encoder: enough of the binary format for SIMD kernels over an imported memory.
// Opcodes: WebAssembly core specification 2.0, SIMD and relaxed-SIMD proposals.

export const i32 = 0x7f;
export const f32 = 0x7d;
export const f64 = 0x7c;
export const v128 = 0x7b;
export type ValueType = typeof i32 | typeof f32 | typeof f64 | typeof v128;
/** Number of a local variable or parameter. */
export type Local = number;

const plainOps = {
  "i32.eqz": 0x45,
  "i32.eq": 0x46,
  "i32.ne": 0x47,
  "i32.lt_s": 0x48,
  "i32.lt_u": 0x49,
  "i32.gt_s": 0x4a,
  "i32.ge_s": 0x4e,
  "i32.ge_u": 0x4f,
  "i32.le_s": 0x4c,
  "i32.add": 0x6a,
  "i32.sub": 0x6b,
  "i32.mul": 0x6c,
  "i32.div_u": 0x6e,
  "i32.rem_u": 0x70,
  "i32.and": 0x71,
  "i32.or": 0x72,
  "i32.shl": 0x74,
  "i32.shr_u": 0x76,
  "f32.eq": 0x5b,
  "f32.lt": 0x5d,
  "f32.gt": 0x5e,
  "f32.sqrt": 0x91,
  "f32.add": 0x92,
  "f32.sub": 0x93,
  "f32.mul": 0x94,
  "f32.div": 0x95,
  "f32.max": 0x97,
  "f32.convert_i32_s": 0xb2,
  "f32.demote_f64": 0xb6,
  "i32.reinterpret_f32": 0xbc,
  "f32.reinterpret_i32": 0xbe,
  "f64.sqrt": 0x9f,
  "f64.add": 0xa0,
  "f64.sub": 0xa1,
  "f64.mul": 0xa2,
  "f64.div": 0xa3,
  "f64.convert_i32_s": 0xb7,
  "f64.promote_f32": 0xbb,
  select: 0x1b,
  drop: 0x1a,
  return: 0x0f,
} as const;

const memoryOps = {
  "i32.load": 0x28,
  "f32.load": 0x2a,
  "i32.load8_u": 0x2d,
  "i32.load16_u": 0x2f,
  "i32.store": 0x36,
  "f32.store": 0x38,
} as const;

const simdMemoryOps = {
  "v128.load": 0x00,
  "v128.load8x8_s": 0x01,
  "v128.load8x8_u": 0x02,
  "v128.load16x4_u": 0x04,
  "v128.load32_splat": 0x09,
  "v128.load32_zero": 0x5c,
  "v128.load64_zero": 0x5d,
  "v128.store": 0x0b,
} as const;

const simdOps = {
  "i32x4.splat": 0x11,
  "f32x4.splat": 0x13,
  "f32x4.eq": 0x41,
  "f32x4.ne": 0x42,
  "f32x4.lt": 0x43,
  "f32x4.gt": 0x44,
  "f32x4.le": 0x45,
  "f32x4.ge": 0x46,
  "i32x4.eq": 0x37,
  "i32x4.gt_s": 0x3b,
  "i32x4.lt_s": 0x39,
  "v128.not": 0x4d,
  "v128.and": 0x4e,
  "v128.andnot": 0x4f,
  "v128.or": 0x50,
  "v128.xor": 0x51,
  "v128.bitselect": 0x52,
  "i8x16.shr_u": 0x6d,
  "i16x8.narrow_i32x4_u": 0x86,
  "i16x8.extend_low_i8x16_u": 0x89,
  "i16x8.extend_high_i8x16_u": 0x8a,
  "i32x4.extend_low_i16x8_s": 0xa7,
  "i32x4.extend_high_i16x8_s": 0xa8,
  "i32x4.extend_low_i16x8_u": 0xa9,
  "i32x4.extend_high_i16x8_u": 0xaa,
  "i32x4.shl": 0xab,
  "i32x4.shr_s": 0xac,
  "i32x4.shr_u": 0xad,
  "i32x4.add": 0xae,
  "i32x4.sub": 0xb1,
  "f32x4.ceil": 0x67,
  "f32x4.floor": 0x68,
  "f32x4.trunc": 0x69,
  "f32x4.nearest": 0x6a,
  "f32x4.abs": 0xe0,
  "f32x4.neg": 0xe1,
  "f32x4.sqrt": 0xe3,
  "f32x4.add": 0xe4,
  "f32x4.sub": 0xe5,
  "f32x4.mul": 0xe6,
  "f32x4.div": 0xe7,
  "f32x4.min": 0xe8,
  "f32x4.max": 0xe9,
  "f32x4.pmin": 0xea,
  "f32x4.pmax": 0xeb,
  "i32x4.trunc_sat_f32x4_s": 0xf8,
  "f32x4.convert_i32x4_s": 0xfa,
  "f32x4.relaxed_madd": 0x105,
} as const;

const laneOps = { "f32x4.extract_lane": 0x1f } as const;
const laneStores = { "v128.store16_lane": 0x59, "v128.store32_lane": 0x5a, "v128.store64_lane": 0x5b } as const;

export type PlainOp = keyof typeof plainOps | keyof typeof simdOps;
export type MemoryOp = keyof typeof memoryOps | keyof typeof simdMemoryOps;

function unsigned(n: number): number[] {
  const out: number[] = [];
  do {
    const byte = n % 128;
    n = Math.floor(n / 128);
    out.push(n > 0 ? byte | 0x80 : byte);
  } while (n > 0);
  return out;
}

function signed(n: number): number[] {
  const out: number[] = [];
  for (;;) {
    const byte = n & 0x7f;
    n >>= 7;
    if ((n === 0 && !(byte & 0x40)) || (n === -1 && byte & 0x40)) return [...out, byte];
    out.push(byte | 0x80);
  }
}

const text = (s: string): number[] => [...unsigned(s.length), ...new TextEncoder().encode(s)];
const list = (items: readonly (readonly number[])[]): number[] => [...unsigned(items.length), ...items.flat()];
const section = (id: number, content: readonly number[]): number[] => [id, ...unsigned(content.length), ...content];

/** The body of one function, written in stack order; methods return `this` for chaining. */
export class Code {
  readonly params: readonly ValueType[];
  readonly results: readonly ValueType[];
  readonly index: number;
  readonly #locals: ValueType[] = [];
  readonly #bytes: number[] = [];

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

  #put(...bytes: number[]): this {
    for (const b of bytes) this.#bytes.push(b);
    return this;
  }

  get(x: Local): this {
    return this.#put(0x20, ...unsigned(x));
  }

  set(x: Local): this {
    return this.#put(0x21, ...unsigned(x));
  }

  tee(x: Local): this {
    return this.#put(0x22, ...unsigned(x));
  }

  int(value: number): this {
    return this.#put(0x41, ...signed(value | 0));
  }

  float(value: number): this {
    return this.#put(0x43, ...new Uint8Array(Float32Array.of(value).buffer));
  }

  /** A vector of four equal floats. */
  floats(value: number): this {
    return this.#put(0xfd, 0x0c, ...new Uint8Array(new Float32Array(4).fill(value).buffer));
  }

  /** A vector of four given 32-bit patterns. */
  words(values: readonly [number, number, number, number]): this {
    return this.#put(0xfd, 0x0c, ...new Uint8Array(Uint32Array.from(values).buffer));
  }

  /** A vector of four equal integers. */
  ints(value: number): this {
    return this.#put(0xfd, 0x0c, ...new Uint8Array(new Int32Array(4).fill(value).buffer));
  }

  op(name: PlainOp): this {
    if (name in plainOps) return this.#put(plainOps[name as keyof typeof plainOps]);
    return this.#put(0xfd, ...unsigned(simdOps[name as keyof typeof simdOps]));
  }

  /** A load or store at the address on the stack plus `offset` bytes. */
  memory(name: MemoryOp, offset = 0): this {
    if (name in memoryOps) return this.#put(memoryOps[name as keyof typeof memoryOps], 0, ...unsigned(offset));
    return this.#put(0xfd, ...unsigned(simdMemoryOps[name as keyof typeof simdMemoryOps]), 0, ...unsigned(offset));
  }

  /** Target, source and count of bytes on the stack: copies within the memory. */
  copyBytes(): this {
    return this.#put(0xfc, 10, 0, 0);
  }

  extract(name: keyof typeof laneOps, lane: number): this {
    return this.#put(0xfd, laneOps[name], lane);
  }

  storeLane(name: keyof typeof laneStores, lane: number, offset = 0): this {
    return this.#put(0xfd, laneStores[name], 0, ...unsigned(offset), lane);
  }

  /** Picks four 32-bit lanes out of two vectors; lanes 4 to 7 are the second's. */
  shuffle(...lanes: readonly [number, number, number, number]): this {
    return this.#put(0xfd, 0x0d, ...lanes.flatMap((x) => [4 * x, 4 * x + 1, 4 * x + 2, 4 * x + 3]));
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
    return this.#put(0x02, 0x40);
  }

  loop(): this {
    return this.#put(0x03, 0x40);
  }

  if(): this {
    return this.#put(0x04, 0x40);
  }

  else(): this {
    return this.#put(0x05);
  }

  end(): this {
    return this.#put(0x0b);
  }

  branch(depth: number): this {
    return this.#put(0x0c, depth);
  }

  branchIf(depth: number): this {
    return this.#put(0x0d, depth);
  }

  call(callee: { readonly index: number }): this {
    return this.#put(0x10, ...unsigned(callee.index));
  }

  /** Calls the table entry on the stack, of a type from `Module.signature`. */
  callIndirect(signature: number): this {
    return this.#put(0x11, ...unsigned(signature), 0);
  }

  /** for (i = from; i < to; i += step) body, on signed numbers; `"here"` starts at the present i. */
  forLess(i: Local, to: Local, step: number, body: () => void, from: number | "here" = 0): this {
    if (from !== "here") this.int(from).set(i);
    this.block().loop().get(i).get(to).op("i32.ge_s").branchIf(1);
    body();
    return this.advance(i, step).branch(0).end().end();
  }

  bytes(): number[] {
    const groups = this.#locals.map((t) => [1, t]);
    const body = [...list(groups), ...this.#bytes, 0x0b];
    return [...unsigned(body.length), ...body];
  }
}

/** A module that imports `env.memory` and, on demand, `env.table`, and exports functions. */
export class Module {
  readonly #functions: { code: Code; name: string | undefined }[] = [];
  readonly #types: number[][] = [];
  readonly #shared: boolean;
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

  /** A new function, exported if it has a name. */
  func(name: string | undefined, params: readonly ValueType[], results: readonly ValueType[] = []): Code {
    const code = new Code(this.#functions.length, params, results);
    this.#functions.push({ code, name });
    return code;
  }

  /** The binary. */
  build(): Uint8Array<ArrayBuffer> {
    const declared = this.#functions.map(({ code }) => unsigned(this.#type(code.params, code.results)));
    const limits = this.#shared ? [3, ...unsigned(1), ...unsigned(65536)] : [1, ...unsigned(1), ...unsigned(65536)];
    const imports = [[...text("env"), ...text("memory"), 2, ...limits]];
    if (this.#table) imports.push([...text("env"), ...text("table"), 1, 0x70, 0, ...unsigned(1)]);
    const exported = this.#functions.flatMap(({ name }, i) => (name ? [[...text(name), 0, ...unsigned(i)]] : []));
    return Uint8Array.from([
      ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
      ...section(1, list(this.#types)),
      ...section(2, list(imports)),
      ...section(3, list(declared)),
      ...section(7, list(exported)),
      ...section(10, list(this.#functions.map(({ code }) => code.bytes()))),
    ]);
  }
}
