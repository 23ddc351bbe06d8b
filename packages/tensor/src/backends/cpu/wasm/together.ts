// Operands that lie in several WebAssembly memories: generated code sees one memory, so strays are copied beside the others for one call.
// With more than 4 GiB of weights every bias and norm may be a stray; a copy costs little, the plain loops cost hundreds of times more.
import { isQuantized } from "../../../dtype.ts";
import type { View } from "../../../view.ts";
import { CpuBuffer, type Region } from "../memory.ts";
import { Arena, type ArenaSource } from "./arena.ts";
import { arenaOf, elementBytes } from "./plan.ts";

/** Inputs of a kernel: views and lists of views. */
type Inputs = Readonly<Record<string, View | readonly View[] | undefined>>;

/** The views of `inputs` that `leave` does not name. */
const viewsOf = (inputs: Inputs, leave: readonly string[]): View[] =>
  Object.entries(inputs).flatMap(([name, x]) => (x === undefined || leave.includes(name) ? [] : "buffer" in x ? [x] : [...x]));

/** Offsets of the first and behind the last element that a view reaches, in elements. */
function reach({ layout: { shape, strides, offset } }: View): readonly [first: number, end: number] {
  let [first, last] = [offset, offset];
  for (const [d, size] of shape.entries()) {
    const far = (size - 1) * strides[d]!;
    if (far < 0) first += far;
    else last += far;
  }
  return [first, last + 1];
}

/** Copies made in one memory for one call. */
class Copies {
  readonly arena: Arena;
  readonly #made = new Map<View, readonly [copy: View, region: Region]>();
  constructor(arena: Arena) {
    this.arena = arena;
  }

  /** The view itself if it lies here, else a copy of what it reaches; undefined when there is no room. */
  near(view: View): View | undefined {
    if (arenaOf(view) === this.arena) return view;
    const known = this.#made.get(view);
    if (known) return known[0];
    const [first, end] = reach(view);
    const byteLength = (end - first) * elementBytes(view);
    const region = this.arena.take(Math.max(64, Math.ceil(byteLength / 64) * 64));
    if (!region) return undefined;
    const buffer = new CpuBuffer(byteLength, "beside other operands", region);
    buffer.array("u8").set(bytesOf(view).subarray(first * elementBytes(view), end * elementBytes(view)));
    const copy = { buffer, dtype: view.dtype, layout: { ...view.layout, offset: view.layout.offset - first } };
    this.#made.set(view, [copy, region]);
    return copy;
  }

  /** Whether so many bytes more could be taken. */
  hasRoom(byteLength: number): boolean {
    const region = byteLength === 0 ? undefined : this.arena.take(byteLength);
    if (region) this.arena.give(region);
    return byteLength === 0 || region !== undefined;
  }

  /** Writes a copy back to where it came from. */
  store(view: View): void {
    const copy = this.#made.get(view);
    if (!copy) return;
    const [first, end] = reach(view);
    const size = elementBytes(view);
    bytesOf(view).set(bytesOf(copy[0]).subarray(0, (end - first) * size), first * size);
  }

  release(): void {
    for (const [, region] of this.#made.values()) this.arena.give(region);
  }
}

const bytesOf = (view: View): Uint8Array => (view.buffer as CpuBuffer).array("u8");

/** What stays where it is, and what a kernel needs besides. */
export interface TogetherOptions {
  /** Inputs that may lie in another memory. */
  readonly leave?: readonly string[];
  /** Bytes the kernel takes from its memory for the time of the call. */
  readonly spareBytes?: number;
}

/**
 * Calls `run` with all operands in one memory that has room: the output's, else another, at last a new one. False when they are together
 * already (`run` has failed on them as they are), or `run` gives false.
 */
export function together<I extends object>(
  out: View,
  inputs: I,
  source: ArenaSource,
  run: (out: View, inputs: I) => boolean,
  { leave = [], spareBytes = 0 }: TogetherOptions = {},
): boolean {
  // Every line of the op table has views and lists of views alone; its types lack the index signature that says so.
  const given = inputs as unknown as Inputs;
  const views = [out, ...viewsOf(given, leave)];
  if (views.some((v) => isQuantized(v.dtype) || !(arenaOf(v) instanceof Arena))) return false;
  const home = arenaOf(out);
  if ([out, ...viewsOf(given, [])].every((v) => arenaOf(v) === home)) return false;
  const tried = views.every((v) => arenaOf(v) === home);
  for (const arena of candidates(home, source)) {
    const copies = new Copies(arena);
    try {
      if (arena === home && tried && copies.hasRoom(spareBytes)) return false;
      const done = runNear(copies, out, given, { leave, spareBytes }, run as (out: View, inputs: Inputs) => boolean);
      if (done !== undefined) return done;
    } finally {
      copies.release();
    }
  }
  return false;
}

function* candidates(home: Arena, source: ArenaSource): Generator<Arena> {
  yield home;
  yield* source.arenas.toReversed().filter((arena) => arena !== home);
  // An empty memory has been tried just now: what does not fit there fits into no new one.
  const opened = source.arenas.some((arena) => arena.usedBytes === 0) ? undefined : source.open();
  if (opened) yield opened;
}

/** `run` on copies; undefined when they have no room. */
function runNear(
  copies: Copies,
  out: View,
  inputs: Inputs,
  { leave, spareBytes }: Required<TogetherOptions>,
  run: (out: View, inputs: Inputs) => boolean,
): boolean | undefined {
  const near: Record<string, View | readonly View[] | undefined> = { ...inputs };
  for (const [name, x] of Object.entries(inputs)) {
    if (x === undefined || leave.includes(name)) continue;
    const moved = ("buffer" in x ? [x] : x).map((view) => copies.near(view));
    if (moved.some((view) => view === undefined)) return undefined;
    near[name] = "buffer" in x ? moved[0] : (moved as View[]);
  }
  const to = copies.near(out);
  if (!to || !copies.hasRoom(spareBytes)) return undefined;
  const done = run(to, near);
  if (done) copies.store(out);
  return done;
}
