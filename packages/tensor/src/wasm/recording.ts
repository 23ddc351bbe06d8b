// Straight-line vector code recorded as a graph, so that several copies of it can be written in lockstep: a chain of dependent instructions
// then waits for its own results while the processor works on its neighbour's, however the compiler orders what it is given.
import { Code, i32, type Local, type ValueType, v128 } from "./encoder.ts";
import type { MemoryOp, PlainOp } from "./opcodes.ts";

/** One instruction: pushes nothing by itself; `args` are pushed before it. */
export interface Step {
  readonly emit: (c: Code) => unknown;
  readonly args: readonly Operand[];
  /** Type of its result; undefined for stores. */
  readonly type: ValueType | undefined;
  /** Cycles until its result is there, about; 0 for loads, which do not wait for anything. */
  readonly cycles: number;
}
/** What an instruction takes: another one's result, or what is pushed where it is needed (constants, locals of the function). */
export type Operand = Step | ((c: Code) => unknown);

/** Straight-line code: its instructions, and what locals hold at its end. */
export interface Track {
  readonly steps: readonly Step[];
  value(local: Local): Operand;
}

const unary: ReadonlySet<string> = new Set([
  ...["v128.not", "v128.any_true", "i32x4.splat", "f32x4.splat", "f64x2.splat", "f32x4.ceil", "f32x4.floor", "f32x4.trunc"],
  ...[
    "f64x2.abs",
    "f64x2.neg",
    "f64x2.sqrt",
    "f32x4.nearest",
    "f32x4.abs",
    "f32x4.neg",
    "f32x4.sqrt",
    "i32x4.abs",
    "i32x4.trunc_sat_f32x4_s",
    "f32x4.convert_i32x4_s",
  ],
  ...["f64x2.promote_low_f32x4", "f32x4.demote_f64x2_zero", "f64x2.convert_low_i32x4_s", "f64x2.nearest", "i32x4.trunc_sat_f64x2_s_zero"],
  ...["i32x4.extend_low_i16x8_s", "i32x4.extend_high_i16x8_s", "i32x4.extend_low_i16x8_u", "i32x4.extend_high_i16x8_u"],
  ...["i16x8.extend_low_i8x16_u", "i16x8.extend_high_i8x16_u"],
]);
/** Cycles of instructions on floats that take more than one, about. */
const floatCycles: Readonly<Record<string, number>> = { div: 11, sqrt: 14, mul: 3, add: 3, sub: 3, relaxed_madd: 4 };
const cyclesOf = (name: string): number => (name.startsWith("f") ? floatCycles[name.split(".")[1]!] : undefined) ?? 1;
const ternary: ReadonlySet<string> = new Set(["v128.bitselect", "f32x4.relaxed_madd"]);
/** Locals that exist in a recording only. */
const firstOwn = 2 ** 30;

/** Takes the place of a function body while straight-line code is emitted; its locals live in the recording only. */
export class Recording extends Code implements Track {
  readonly steps: Step[] = [];
  readonly #stack: Operand[] = [];
  readonly #values = new Map<Local, Operand>();
  #own = firstOwn;

  constructor() {
    super(0, [], []);
  }

  /** What a local holds at the end. */
  value(local: Local): Operand {
    return this.#values.get(local)!;
  }

  #take(count: number): Operand[] {
    return this.#stack.splice(this.#stack.length - count, count);
  }

  #step(type: ValueType | undefined, count: number, emit: (c: Code) => unknown, cycles = 1): this {
    const step: Step = { emit, args: this.#take(count), type, cycles };
    this.steps.push(step);
    if (type !== undefined) this.#stack.push(step);
    return this;
  }

  #push(value: Operand): this {
    this.#stack.push(value);
    return this;
  }

  override if(): this {
    throw new TypeError("recordings hold no branches");
  }

  override local(_type: ValueType): Local {
    return this.#own++;
  }

  override get(x: Local): this {
    return this.#push(this.#values.get(x) ?? ((c: Code) => c.get(x)));
  }

  override set(x: Local): this {
    this.#values.set(x, this.#take(1)[0]!);
    return this;
  }

  override tee(x: Local): this {
    this.#values.set(x, this.#stack.at(-1)!);
    return this;
  }

  override int(value: number): this {
    return this.#push((c) => c.int(value));
  }

  override floats(value: number): this {
    return this.#push((c) => c.floats(value));
  }

  override ints(value: number): this {
    return this.#push((c) => c.ints(value));
  }

  override doubles(value: number): this {
    return this.#push((c) => c.doubles(value));
  }

  override op(name: PlainOp): this {
    const type = name.startsWith("i32.") || name === "v128.any_true" ? i32 : v128;
    return this.#step(type, unary.has(name) ? 1 : ternary.has(name) ? 3 : 2, (c) => c.op(name), cyclesOf(name));
  }

  override memory(name: MemoryOp, offset = 0): this {
    if (name.includes("store")) return this.#step(undefined, 2, (c) => c.memory(name, offset));
    return this.#step(name.startsWith("i32.") ? i32 : v128, 1, (c) => c.memory(name, offset), 0);
  }

  override storeLane(
    name: "v128.store8_lane" | "v128.store16_lane" | "v128.store32_lane" | "v128.store64_lane",
    lane: number,
    offset = 0,
  ): this {
    return this.#step(undefined, 2, (c) => c.storeLane(name, lane, offset));
  }

  override shuffle(...lanes: readonly [number, number, number, number]): this {
    return this.#step(v128, 2, (c) => c.shuffle(...lanes));
  }
}

/** Writes tracks of the same code into `c`, instruction by instruction in turn, with as few locals as values live at a time. */
export class Lockstep {
  readonly #c: Code;
  readonly #tracks: readonly Track[];
  /** Uses of a result that are still to be written. */
  readonly #uses = new Map<Operand, number>();
  readonly #places = new Map<Operand, Local>();
  readonly #free: Record<number, Local[]> = { [v128]: [], [i32]: [] };

  /** Everything must be recorded before. */
  constructor(c: Code, tracks: readonly Track[]) {
    this.#c = c;
    this.#tracks = tracks;
    for (const { steps } of tracks) {
      for (const { args } of steps) for (const arg of args) this.#uses.set(arg, (this.#uses.get(arg) ?? 0) + 1);
    }
  }

  /** Pushes what a local of track `index` holds at its end. */
  push(index: number, local: Local): void {
    const value = this.#tracks[index]!.value(local);
    if (typeof value === "function") value(this.#c);
    else this.#c.get(this.#places.get(value)!);
  }

  /** Writes the tracks. */
  write(): void {
    const longest = Math.max(...this.#tracks.map(({ steps }) => steps.length));
    for (let i = 0; i < longest; i++) for (const { steps } of this.#tracks) if (steps[i]) this.#write(steps[i]!);
  }

  #write(step: Step): void {
    const c = this.#c;
    for (const arg of step.args) {
      if (typeof arg === "function") arg(c);
      else c.get(this.#places.get(arg)!);
    }
    for (const arg of step.args) {
      const left = this.#uses.get(arg)! - 1;
      this.#uses.set(arg, left);
      if (left === 0 && typeof arg !== "function") this.#free[arg.type!]!.push(this.#places.get(arg)!);
    }
    step.emit(c);
    if (step.type === undefined) return;
    const place = this.#free[step.type]!.pop() ?? c.local(step.type);
    this.#places.set(step, place);
    c.set(place);
  }
}
