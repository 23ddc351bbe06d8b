// Block sizes of the matrix kernels and the layout of a thread's scratch memory, in bytes.
// A panel of b (depth x 8) and one of a (depth x 6) share the first-level cache, a block of a fits the second, one of b the third.
// The sizes are the best of sweeps on a Zen 4 and a Sapphire Rapids core; neighbours differ by a few percent.

/** Greatest depth of packed panels; a greater k is cut into equal parts. */
export const depthBlock = 512;
/** Rows of packed a: a multiple of every tile height (4, 5, 6). */
export const rowBlock = 120;
/** Greatest number of columns of packed b, and of a task. */
export const columnBlock = 1024;
/** Bytes of packed rows that a thread keeps between the tasks of a job. */
const keptBytes = 2 ** 19;
/** Columns below which a task spends too much on packing its rows; half of them where threads would be left without a task. */
const leastColumns = 128;
/** Tasks of each thread where rows are kept. */
const keptTasks = 8;
/** The same for tasks whose rows are packed already. */
const leastKeptColumns = 32;
/** Columns of the parts that the last of the widest tasks are cut into; narrower tasks end soon enough, and parts of them cost more in packing. */
export const partColumns = 256;
/** The word of a job's arguments that numbers it, behind those of any kernel. */
export const numberArg = 63;
/** Rows and columns of a task whose results are staged before they are stored in another format. */
const staged = { rows: 3 * rowBlock, columns: 512 } as const;

/** Jobs that may wait at a time: while threads work on one, the calling thread prepares the next ones. A power of two. */
export const queuedJobs = 8;
/** What a job has in thread 0's scratch: its arguments, and the operand tables of row functions. */
export const jobArea = { args: 0, tables: 512, bytes: 4096 } as const;
/** Bytes between the stages of a row function. */
const stagedBytes = 8192;
const jobsEnd = 4096 + queuedJobs * jobArea.bytes;

const resultsEnd = jobsEnd + keptBytes + 8 * depthBlock * columnBlock + 4 * staged.rows * staged.columns;

/** Where things lie in a thread's scratch. */
export const scratch = {
  /** An edge tile of the micro kernel. */
  tile: 0,
  /** Pixel coordinates of a convolution panel. */
  lanes: 512,
  /** Number of the job whose rows are in `packedA`. */
  keptJob: 384,
  /** What jobs need while they wait or run, one after the other in turn (of thread 0 only). */
  jobs: 4096,
  packedA: jobsEnd,
  packedB: jobsEnd + keptBytes,
  /** Operands expanded to f32. */
  wide: jobsEnd + keptBytes + 4 * depthBlock * columnBlock,
  /** f32 results before their epilogue, and what attention works on. */
  result: jobsEnd + keptBytes + 8 * depthBlock * columnBlock,
  /** What the stages of a row function hand on: it stays in the first-level cache, beside the row. */
  staged: resultsEnd,
  stagedBytes,
  bytes: resultsEnd + stagedBytes,
} as const;

/** How the operand of a matrix product is stored; `across` is added when neighbours in k are not neighbours in memory. */
export const operandModes = { f32: 0, f16: 1, bf16: 2, q8_0: 3, q4_0: 4, q4_K: 5 } as const;
export type OperandKind = keyof typeof operandModes;
export const across = 16;
/** Modes 32 to 34: b is made of image patches of f32, f16 or bf16. */
export const patches = 32;

/** Multiplications from which waking other threads pays. */
export const threadedProducts = 2_000_000;

/** Multiplications from which a job is cut finer. */
const longProducts = 250_000_000;

/** Sizes of a product's tasks. */
export interface Blocks {
  readonly mBlock: number;
  readonly nBlock: number;
  readonly kBlock: number;
  readonly mTiles: number;
  readonly nTiles: number;
  readonly tasks: number;
  /** Tasks that are one tile. The others are parts of the last tiles, from column `partStart` on. */
  readonly wholeTasks: number;
  readonly partStart: number;
  /** Bytes of packed rows for each step of k when every thread packs them once for all its tasks; else 0. */
  readonly keptStep: number;
}

/** Writes the sizes into the arguments of a job. */
export function placeBlocks(w: Int32Array, place: Readonly<Record<Exclude<keyof Blocks, "tasks">, number>>, blocks: Blocks): void {
  w[place.mBlock] = blocks.mBlock;
  w[place.nBlock] = blocks.nBlock;
  w[place.kBlock] = blocks.kBlock;
  w[place.mTiles] = blocks.mTiles;
  w[place.nTiles] = blocks.nTiles;
  w[place.wholeTasks] = blocks.wholeTasks;
  w[place.partStart] = blocks.partStart;
  w[place.keptStep] = blocks.keptStep;
}

/** Depth of the parts that k is cut into: equal parts of whole quantized blocks (of `unit` values). */
function depthOf(k: number, unit: number): number {
  return Math.ceil(k / Math.ceil(k / depthBlock) / unit) * unit;
}

/** What a product's tasks depend on. */
export interface Extent {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly batch: number;
  readonly threads: number;
  /** Values of a block along k that must stay together. */
  readonly unit: number;
  /** Results do not accumulate where they end up. */
  readonly staged: boolean;
}

/** Columns of a task when n are cut into `tiles` equal parts of whole register tiles, none of fewer than `least`. */
const evenColumns = (n: number, tiles: number, least: number): number => Math.ceil(Math.max(least, n / tiles) / 16) * 16;

/** Bytes of packed rows for a step of k, in panels of up to 6 rows, if a thread can keep all of them between tasks; else 0. */
function keptStepOf({ m, k, batch, threads }: Extent): number {
  const bytes = 16 * Math.ceil((m + 5) / 4);
  return threads > 1 && batch === 1 && m < 2 * rowBlock && bytes * k <= keptBytes ? bytes : 0;
}

/** Columns of a task of few rows, which stay together: a task of the last of them would pack its columns for next to nothing. */
function fewRowsColumns({ n, batch, threads }: Extent, most: number, wanted: number, kept: boolean): number {
  if (kept) return Math.min(most, evenColumns(n, keptTasks * threads, leastKeptColumns));
  const tiles = Math.max(Math.ceil(n / most), Math.ceil(wanted / batch));
  return evenColumns(n, tiles, n < leastColumns * threads ? leastColumns / 2 : leastColumns);
}

/** Rows, columns and depth of a task: as large as the scratch allows, cut until every thread has two to four tasks or tasks get small. */
export function taskBlocks(extent: Extent): Blocks {
  const { m, n, k, batch, threads, unit, staged: apart } = extent;
  let mBlock: number = apart ? staged.rows : Math.ceil(m / rowBlock) * rowBlock;
  let nBlock: number = apart ? staged.columns : columnBlock;
  const tasks = () => batch * Math.ceil(m / mBlock) * Math.ceil(n / nBlock);
  // More and smaller tasks even out threads that start late or share their core; packing an operand again for each costs a little.
  const wanted = threads * (batch * m * n * k >= longProducts ? 4 : 2);
  const keptStep = keptStepOf(extent);
  if (threads > 1 && m < 2 * rowBlock) nBlock = fewRowsColumns(extent, nBlock, wanted, keptStep > 0);
  while (threads > 1 && m >= 2 * rowBlock && tasks() < wanted && (nBlock > 128 || mBlock > rowBlock)) {
    if (nBlock > 128 && (nBlock >= mBlock || mBlock === rowBlock)) nBlock /= 2;
    else mBlock = Math.ceil(mBlock / 2 / rowBlock) * rowBlock;
  }
  const tiles = { mTiles: Math.ceil(m / mBlock), nTiles: Math.ceil(n / nBlock) };
  return { mBlock, nBlock, kBlock: depthOf(k, unit), ...tiles, ...lastParts(extent, nBlock, tiles), keptStep };
}

/** The last tiles, one for each thread, in parts: who comes to the end first waits for a part of a tile, not for a whole one. */
function lastParts(
  { n, batch, threads }: Extent,
  nBlock: number,
  { mTiles, nTiles }: Pick<Blocks, "mTiles" | "nTiles">,
): Pick<Blocks, "tasks" | "wholeTasks" | "partStart"> {
  const tiles = batch * mTiles * nTiles;
  const cut = threads > 1 && nBlock === columnBlock && tiles >= 2 * threads ? Math.min(threads, nTiles) : 0;
  const partStart = (nTiles - cut) * nBlock;
  return { tasks: tiles - cut + (cut && Math.ceil((n - partStart) / partColumns)), wholeTasks: tiles - cut, partStart };
}

/** Elements that a task of a kernel streaming through memory has at most. */
const longestStretch = 131_072;

/**
 * Elements of a task of a kernel that streams through `total` of them, at least `least`: a 64th, since a core fetches ahead what its
 * neighbour writes where they take turns at short stretches. It does not depend on the threads: where a row is cut shows in last bits.
 */
export const stretch = (total: number, least: number): number =>
  Math.max(least, Math.min(longestStretch, Math.ceil(total / 64 / 1024) * 1024));
