// A kernel's machine code in figures: registers, subgroups at once, and what a turn of its hot loop is made of.
import type { Chip } from "./chips.ts";
import { hotLoop, type Kind, type Mix, mixOf, type Program, usualTurn } from "./program.ts";

/** Figures of one kernel on one chip. */
export interface Figures {
  readonly registers: number;
  readonly spills: number;
  readonly sharedBytes: number;
  readonly workgroup: number;
  /** Subgroups at once on a multiprocessor (NVIDIA) or a SIMD (AMD). */
  readonly waves: number;
  readonly instructions: number;
  /** One turn of the loop that the kernel spends its time in, in the usual case. */
  readonly loop?: Mix & {
    /** Instructions for one matrix instruction, itself included. */
    readonly perMatrix?: number;
    /** Bytes of shared memory that a subgroup reads and writes for one matrix instruction. */
    readonly sharedPerMatrix?: number;
  };
}

/** Instructions that take no place in a chip's issue beside others: hints to the scheduler. */
const isFree = (kind: Kind): boolean => kind === "wait";

/** Figures of a program in workgroups of `workgroup` invocations and subgroups of `lanes`. */
export function figuresOf(chip: Chip, program: Program, workgroup: number, lanes: number): Figures {
  const { registers, spills, sharedBytes, instructions } = program;
  const loop = hotLoop(program);
  const common = { registers, spills, sharedBytes, workgroup, waves: chip.waves(program, workgroup), instructions };
  if (!loop) return common;
  const mix = mixOf(usualTurn(loop));
  const { matrix } = mix.count;
  if (matrix === 0) return { ...common, loop: mix };
  const issued = mix.instructions - (Object.keys(mix.count) as Kind[]).reduce((n, k) => n + (isFree(k) ? mix.count[k] : 0), 0);
  const moved = (mix.bytes.sharedLoad + mix.bytes.sharedStore) * lanes;
  return { ...common, loop: { ...mix, perMatrix: issued / matrix, sharedPerMatrix: moved / matrix } };
}

const short = (x: number): string => (x >= 100 ? x.toFixed(0) : x.toPrecision(3).replace(/\.?0+$/, ""));

const loopTitles = [
  "loop",
  "matrix",
  "per matrix",
  "shared loads",
  "stores",
  "bytes per matrix",
  "global loads",
  "float",
  "integer",
  "moves",
];
/** Titles of the columns that `cells` fills. */
export const titles: readonly string[] = ["registers", "spills", "shared", "threads", "waves", "code", ...loopTitles, "barriers", "cycles"];

/** A kernel's cells of a table; loads and stores as number x bytes of a thread. */
export function cells({ registers, spills, sharedBytes, workgroup, waves, instructions, loop }: Figures): string[] {
  const head = [registers, spills, sharedBytes, workgroup, waves, instructions].map(String);
  if (!loop) return [...head, ...titles.slice(head.length).map(() => "")];
  const { count, bytes } = loop;
  const moved = (kind: "sharedLoad" | "sharedStore" | "globalLoad"): string =>
    count[kind] === 0 ? "" : `${count[kind]} x ${short(bytes[kind] / count[kind])}`;
  const other = count.move + count.constant + count.scalar;
  return [
    ...head,
    `${loop.instructions - count.wait}`,
    `${count.matrix || ""}`,
    loop.perMatrix === undefined ? "" : short(loop.perMatrix),
    moved("sharedLoad"),
    moved("sharedStore"),
    loop.sharedPerMatrix === undefined ? "" : short(loop.sharedPerMatrix),
    moved("globalLoad"),
    `${count.float + count.special + count.convert || ""}`,
    `${count.integer || ""}`,
    `${other || ""}`,
    `${count.barrier || ""}`,
    `${loop.cycles || ""}`,
  ];
}
