// Straight-line vector code cut into stages, each run for many vectors before the next. A long chain of instructions that wait for each
// other fills the queue of a processor before its end is in sight; of half the chain, the queue holds several vectors'. What the first
// stage hands to the second passes through the first-level cache.
import { type Code, type Local, v128 } from "./encoder.ts";
import type { Operand, Recording, Step, Track } from "./recording.ts";

/** Cycles of a chain from which cutting it pays. */
const longChain = 40;
/** Part of the chain that the first stage should take: the second often ends with a division, which others can overtake. */
const firstShare = 0.4;
/** The least it may take. */
const leastShare = 0.2;
/** The most it may take. */
const mostShare = 0.6;
/** Cycles away from there that carrying one value less is worth. */
const carryCycles = 10;

/** Where copies of the same code are cut. */
export interface StageOptions {
  /** Address of what the first vector carries. */
  readonly near: Local;
  /** For each copy, locals whose values the first stage must leave, before anything is stored; there are two stages then. */
  readonly kept: readonly (readonly Local[])[];
}

/** Copies of the same recorded code in stages. */
export class Stages {
  readonly #recordings: readonly Recording[];
  readonly #options: StageOptions;
  readonly #plan: Plan;

  constructor(recordings: readonly Recording[], options: StageOptions) {
    this.#recordings = recordings;
    this.#options = options;
    const [first] = recordings as [Recording];
    this.#plan = planStages(
      first.steps,
      (options.kept[0] ?? []).map((local) => first.value(local)),
    );
  }

  /** Number of stages. */
  get count(): number {
    return this.#plan.count;
  }

  /** Bytes that a vector needs between the stages. */
  get bytes(): number {
    return 16 * this.#plan.slots.size;
  }

  /** The copies' code of one stage. */
  tracks(stage: number): Track[] {
    return this.#recordings.map((_, at) => this.#track(stage, at));
  }

  #track(stage: number, at: number): Track {
    const recording = this.#recordings[at]!;
    const { stages, slots } = this.#plan;
    const numbers = new Map<Operand, number>(recording.steps.map((step, i) => [step, i]));
    const made = new Map<Step, Step>();
    const steps: Step[] = [];
    const near = (c: Code) => c.get(this.#options.near);
    const take = (arg: Operand): Operand => {
      if (typeof arg === "function") return arg;
      const known = made.get(arg);
      if (known) return known;
      const i = numbers.get(arg)!;
      const here = isCheap(arg) || stages[i] === stage;
      const offset = at * this.bytes + 16 * (slots.get(i) ?? 0);
      const load: Step = { emit: (c) => c.memory("v128.load", offset), args: [near], type: v128, cycles: 0 };
      const step = here ? { ...arg, args: arg.args.map(take) } : load;
      steps.push(step);
      made.set(arg, step);
      if (here && slots.has(i)) steps.push({ emit: (c) => c.memory("v128.store", offset), args: [near, step], type: undefined, cycles: 0 });
      return step;
    };
    for (const [i, step] of recording.steps.entries()) if (stages[i] === stage && !isCheap(step)) take(step);
    if (stage === 0) for (const local of this.#options.kept[at] ?? []) take(recording.value(local));
    return { steps, value: (local) => take(recording.value(local)) };
  }
}

/** Which steps, by their number, are in which stage, and where among the carried values of a vector lies what a step hands on. */
interface Plan {
  readonly count: number;
  readonly stages: readonly number[];
  readonly slots: ReadonlyMap<number, number>;
}

const isLoad = (x: Operand): boolean => typeof x === "function" || (x.cycles === 0 && x.type !== undefined);

/** Whether making a value anew costs no more than carrying it: loads, and one step from there. */
const isCheap = (step: Step): boolean => step.type !== undefined && (isLoad(step) || step.args.every(isLoad));

/** Cuts a long chain, or one of which the first stage must leave values, where few values cross. */
function planStages(steps: readonly Step[], kept: readonly Operand[]): Plan {
  const ends = new Map<Operand, number>();
  for (const step of steps) ends.set(step, step.cycles + Math.max(0, ...step.args.map((arg) => ends.get(arg) ?? 0)));
  const total = Math.max(...ends.values());
  if (kept.length === 0 && total < longChain) return { count: 1, stages: steps.map(() => 0), slots: new Map() };
  const least = Math.max(leastShare * total, ...kept.map((value) => ends.get(value) ?? 0));
  const cutAt = (cut: number) => steps.map((step) => (step.type === undefined || ends.get(step)! > cut ? 1 : 0));
  const cost = (cut: number) => Math.abs(cut - firstShare * total) + carryCycles * carried(steps, cutAt(cut)).size;
  const cuts = [...new Set(ends.values())].filter((end) => end >= least && end <= Math.max(least, mostShare * total));
  const stages = cutAt(cuts.reduce((best, cut) => (cost(cut) < cost(best) ? cut : best)));
  return { count: 2, stages, slots: carried(steps, stages) };
}

/** The steps whose results later stages read, numbered. */
function carried(steps: readonly Step[], stages: readonly number[]): Map<number, number> {
  const numbers = new Map<Operand, number>(steps.map((step, i) => [step, i]));
  const slots = new Map<number, number>();
  for (const [user, { args }] of steps.entries()) {
    for (const arg of args) {
      if (typeof arg === "function" || isCheap(arg)) continue;
      const i = numbers.get(arg)!;
      if (stages[i]! < stages[user]! && !slots.has(i)) slots.set(i, slots.size);
    }
  }
  return slots;
}
