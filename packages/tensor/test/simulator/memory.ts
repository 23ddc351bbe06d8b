// Memory of a simulated kernel. It refuses accesses out of bounds, reads of workgroup memory that nobody has written, and races: two invocations at
// one place, at least one of them writing, without a barrier in between.
import { halfBits, tableOfHalves } from "./values.ts";

/** Who accesses memory: an invocation, or a subgroup as a whole. */
export interface Actor {
  /** Distinct in the dispatch. */
  readonly id: number;
  /** Subgroup operations: their lanes meet memory in an order of the driver's own. */
  readonly collective: boolean;
}

const several = -2;

/** Who touched each pair of bytes last, and when. */
class Shadow {
  readonly writeTime: Int32Array;
  readonly writer: Int32Array;
  readonly readTime: Int32Array;
  readonly reader: Int32Array;
  /** Also by atomics. */
  readonly defined: Int32Array;

  constructor(bytes: number) {
    const units = (): Int32Array => new Int32Array(Math.ceil(bytes / 2));
    this.writeTime = units();
    this.writer = units();
    this.readTime = units();
    this.reader = units();
    this.defined = units();
  }
}

/** One variable's memory. Times start at 1 and advance at barriers; 0 is never. */
export class Memory {
  readonly name: string;
  readonly bytes: number;
  private readonly u32s: Uint32Array;
  private readonly i32s: Int32Array;
  private readonly f32s: Float32Array;
  private readonly u16s: Uint16Array;
  private readonly shadow: Shadow | undefined;
  private readonly mustBeWritten: boolean;
  private time = 1;
  /** Writes before this time belong to an earlier workgroup. */
  private since = 1;

  /** `watch`: "workgroup" memory starts undefined; "shared" memory may be written by the dispatch; "constant" memory may not. */
  constructor(name: string, buffer: ArrayBuffer, byteOffset: number, bytes: number, watch: "workgroup" | "shared" | "constant") {
    this.name = name;
    this.bytes = bytes;
    this.u32s = new Uint32Array(buffer, byteOffset, bytes >> 2);
    this.i32s = new Int32Array(buffer, byteOffset, bytes >> 2);
    this.f32s = new Float32Array(buffer, byteOffset, bytes >> 2);
    this.u16s = new Uint16Array(buffer, byteOffset, bytes >> 1);
    this.shadow = watch === "constant" ? undefined : new Shadow(bytes);
    this.mustBeWritten = watch === "workgroup";
  }

  /** A workgroup barrier. */
  advance(): void {
    this.time++;
  }

  /** A new workgroup: what the last one left is undefined. */
  forget(): void {
    this.since = ++this.time;
  }

  private fail(what: string, at: number): never {
    throw new Error(`${what} at byte ${at} of ${this.name} (${this.bytes} bytes)`);
  }

  read(actor: Actor, at: number, bytes: number): void {
    if (!(at >= 0 && at + bytes <= this.bytes)) this.fail("read out of bounds", at);
    const s = this.shadow;
    if (!s) return;
    for (let u = at >> 1; u < (at + bytes) >> 1; u++) {
      const written = s.writeTime[u]!;
      if (this.mustBeWritten && s.defined[u]! < this.since) this.fail("read of undefined memory", at);
      if (written === this.time && (s.writer[u] !== actor.id || actor.collective)) this.fail("race: read after another's write", at);
      s.reader[u] = s.readTime[u] === this.time && s.reader[u] !== actor.id ? several : actor.id;
      s.readTime[u] = this.time;
    }
  }

  write(actor: Actor, at: number, bytes: number): void {
    if (!(at >= 0 && at + bytes <= this.bytes)) this.fail("write out of bounds", at);
    const s = this.shadow;
    if (!s) this.fail("write to read-only memory", at);
    for (let u = at >> 1; u < (at + bytes) >> 1; u++) {
      if (s.writeTime[u] === this.time && s.writer[u] !== actor.id) this.fail("race: write after another's write", at);
      if (s.readTime[u] === this.time && (s.reader[u] !== actor.id || actor.collective)) this.fail("race: write after another's read", at);
      s.writer[u] = actor.id;
      s.writeTime[u] = s.defined[u] = this.time;
    }
  }

  u32(actor: Actor, at: number): number {
    this.read(actor, at, 4);
    return this.u32s[at >> 2]!;
  }

  i32(actor: Actor, at: number): number {
    this.read(actor, at, 4);
    return this.i32s[at >> 2]!;
  }

  f32(actor: Actor, at: number): number {
    this.read(actor, at, 4);
    return this.f32s[at >> 2]!;
  }

  f16(actor: Actor, at: number): number {
    this.read(actor, at, 2);
    return tableOfHalves[this.u16s[at >> 1]!]!;
  }

  set_u32(actor: Actor, at: number, v: number): void {
    this.write(actor, at, 4);
    this.u32s[at >> 2] = v;
  }

  set_i32(actor: Actor, at: number, v: number): void {
    this.set_u32(actor, at, v);
  }

  set_f32(actor: Actor, at: number, v: number): void {
    this.write(actor, at, 4);
    this.f32s[at >> 2] = v;
  }

  set_f16(actor: Actor, at: number, v: number): void {
    this.write(actor, at, 2);
    this.u16s[at >> 1] = halfBits(v);
  }

  /** Replaces a word by `change` of it and gives the old one. Atomics race with nothing but ordinary accesses. */
  atomic(at: number, signed: boolean, change: (old: number) => number): number {
    if (!(at >= 0 && at + 4 <= this.bytes)) this.fail("atomic out of bounds", at);
    const s = this.shadow;
    if (!s) this.fail("atomic on read-only memory", at);
    const old = signed ? this.i32s[at >> 2]! : this.u32s[at >> 2]!;
    this.u32s[at >> 2] = change(old);
    s.defined[at >> 1] = s.defined[(at >> 1) + 1] = this.time;
    return old;
  }
}
