// Machine code as compilers print it, whatever the instruction set: instructions by kind, basic blocks, loops, and what they cost.

/** What an instruction does, as far as limits of a kernel are concerned. */
export const kinds = [
  "matrix",
  "sharedLoad",
  "sharedStore",
  "globalLoad",
  "globalStore",
  "scratch",
  "float",
  "special",
  "convert",
  "integer",
  "move",
  "shuffle",
  "constant",
  "scalar",
  "barrier",
  "branch",
  "wait",
] as const;
/** One of them. */
export type Kind = (typeof kinds)[number];

/** An instruction of a thread. */
export interface Instruction {
  readonly opcode: string;
  readonly kind: Kind;
  /** Bytes that a thread moves. */
  readonly bytes: number;
  /** Cycles until the next may be issued, where the compiler says. */
  readonly delay: number;
}

/** Instructions without a jump into or out of their middle. */
export interface Block {
  readonly name: string;
  readonly instructions: readonly Instruction[];
  /** Names of the blocks that may follow. */
  readonly next: readonly string[];
}

/** One kernel as its compiler printed it. */
export interface Program {
  readonly blocks: readonly Block[];
  /** Vector registers of a thread. */
  readonly registers: number;
  /** Values kept in memory because there were no registers. */
  readonly spills: number;
  readonly sharedBytes: number;
  /** Subgroups at once on a unit that registers (and shared memory, where the compiler counts it) allow. */
  readonly wavesByCompiler: number;
  /** Instructions, in the compiler's count. */
  readonly instructions: number;
  /** As it was printed. */
  readonly text: string;
}

/** The body of a loop. */
export interface Loop {
  readonly header: string;
  readonly blocks: readonly Block[];
}

/** Blocks from which a block can be reached without passing `header`, with both. */
function bodyOf(header: string, from: string, before: ReadonlyMap<string, readonly string[]>, body: Set<string>): void {
  const open = [from];
  body.add(header);
  for (let name = open.pop(); name !== undefined; name = open.pop()) {
    if (body.has(name)) continue;
    body.add(name);
    open.push(...(before.get(name) ?? []));
  }
}

/** Jumps to a block that is still being walked through: those that close loops. */
function backEdges(blocks: readonly Block[]): [from: string, to: string][] {
  const byName = new Map(blocks.map((b) => [b.name, b]));
  const state = new Map<string, "open" | "done">();
  const found: [string, string][] = [];
  const stack: { name: string; at: number }[] = [];
  const enter = (name: string): void => {
    state.set(name, "open");
    stack.push({ name, at: 0 });
  };
  if (blocks[0]) enter(blocks[0].name);
  for (let top = stack.at(-1); top; top = stack.at(-1)) {
    const next = byName.get(top.name)?.next[top.at++];
    if (next === undefined) {
      state.set(top.name, "done");
      stack.pop();
    } else if (state.get(next) === "open") found.push([top.name, next]);
    else if (!state.has(next)) enter(next);
  }
  return found;
}

/** All loops of a program, inner and outer. */
export function loopsOf({ blocks }: Program): Loop[] {
  const before = new Map<string, string[]>();
  for (const b of blocks) for (const n of b.next) before.set(n, [...(before.get(n) ?? []), b.name]);
  const bodies = new Map<string, Set<string>>();
  for (const [from, header] of backEdges(blocks)) {
    const body = bodies.get(header) ?? new Set<string>();
    bodies.set(header, body);
    bodyOf(header, from, before, body);
  }
  return [...bodies].map(([header, body]) => ({ header, blocks: blocks.filter((b) => body.has(b.name)) }));
}

const countOf = (loop: Loop, kind?: Kind): number =>
  loop.blocks.reduce((n, b) => n + b.instructions.filter((i) => kind === undefined || i.kind === kind).length, 0);

/** Loops with no other of the list inside. */
const innermost = (loops: readonly Loop[]): Loop[] =>
  loops.filter((l) => !loops.some((inner) => inner !== l && l.blocks.some((b) => b.name === inner.header)));

/**
 * The loop that a kernel spends its time in: the innermost one with the most matrix instructions (of several texts of one loop the shortest,
 * which is the usual case's), without any the longest innermost loop; undefined where there is no loop.
 */
export function hotLoop(program: Program): Loop | undefined {
  const loops = loopsOf(program);
  const matrix = loops.filter((l) => countOf(l, "matrix") > 0);
  if (matrix.length === 0) return innermost(loops).sort((a, b) => countOf(b) - countOf(a))[0];
  return innermost(matrix).sort((a, b) => countOf(b, "matrix") - countOf(a, "matrix") || countOf(a) - countOf(b))[0];
}

/**
 * The blocks of a turn of a loop in the usual case: of all ways through it, inner loops counted once, those with the most matrix instructions,
 * and of these the one with the fewest others.
 */
export function usualTurn({ header, blocks }: Loop): readonly Block[] {
  const byName = new Map(blocks.map((b) => [b.name, b]));
  const best = new Map<string, Turn | undefined>();
  const better = (a: Turn, b: Turn | undefined): boolean =>
    b === undefined || a.matrix > b.matrix || (a.matrix === b.matrix && a.length < b.length);
  /** The best way from a block to the end of the turn; undefined where none leads there but through a block on the way. */
  const from = (name: string): Turn | undefined => {
    if (best.has(name)) return best.get(name);
    best.set(name, undefined);
    const block = byName.get(name)!;
    const rest = block.next.flatMap((n) => (n === header ? [{ matrix: 0, length: 0, blocks: [] }] : byName.has(n) ? (from(n) ?? []) : []));
    const way = rest.reduce<Turn | undefined>((found, turn) => (better(turn, found) ? turn : found), undefined);
    const own = block.instructions;
    const turn = way && {
      matrix: way.matrix + own.filter((i) => i.kind === "matrix").length,
      length: way.length + own.length,
      blocks: [block, ...way.blocks],
    };
    best.set(name, turn);
    return turn;
  };
  return from(header)?.blocks ?? blocks;
}

interface Turn {
  readonly matrix: number;
  readonly length: number;
  readonly blocks: readonly Block[];
}

/** What one turn of a loop, or a whole program, is made of. */
export interface Mix {
  readonly instructions: number;
  /** Cycles by the compiler's schedule, of one subgroup alone; 0 where the compiler prints none. */
  readonly cycles: number;
  readonly count: Readonly<Record<Kind, number>>;
  /** Bytes of a thread. */
  readonly bytes: Readonly<Record<"sharedLoad" | "sharedStore" | "globalLoad" | "globalStore", number>>;
}

/** Instructions of blocks by kind. */
export function mixOf(blocks: readonly Block[]): Mix {
  const all = blocks.flatMap((b) => b.instructions);
  const of = (kind: Kind): Instruction[] => all.filter((i) => i.kind === kind);
  const bytes = (kind: Kind): number => of(kind).reduce((sum, i) => sum + i.bytes, 0);
  return {
    instructions: all.length,
    cycles: all.reduce((sum, i) => sum + i.delay, 0),
    count: Object.fromEntries(kinds.map((k) => [k, of(k).length])) as Record<Kind, number>,
    bytes: {
      sharedLoad: bytes("sharedLoad"),
      sharedStore: bytes("sharedStore"),
      globalLoad: bytes("globalLoad"),
      globalStore: bytes("globalStore"),
    },
  };
}
