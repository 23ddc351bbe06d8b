// Block sizes of the matrix kernels and the layout of a thread's scratch memory, in bytes.
// A panel of b (depth x 8) and one of a (depth x 6) share the first-level cache, a block of a fits the second, one of b the third.
// The sizes are the best of sweeps on a Zen 4 and a Sapphire Rapids core; neighbours differ by a few percent.

/** Greatest depth of packed panels; a greater k is cut into equal parts. */
export const depthBlock = 512;
/** Rows of packed a: a multiple of every tile height (4, 5, 6). */
export const rowBlock = 120;
/** Greatest number of columns of packed b, and of a task. */
export const columnBlock = 1024;
/** Columns below which a task spends too much on packing its rows; half of them where threads would be left without a task. */
const leastColumns = 128;
/** Rows and columns of a task whose results are staged before they are stored in another format. */
const staged = { rows: 3 * rowBlock, columns: 512 } as const;

/** Where things lie in a thread's scratch. */
export const scratch = {
  /** An edge tile of the micro kernel. */
  tile: 0,
  /** Pixel coordinates of a convolution panel. */
  lanes: 512,
  /** Arguments of the running job (of thread 0 only). */
  args: 1024,
  /** Operand tables of row functions (of thread 0 only). */
  tables: 2048,
  packedA: 4096,
  packedB: 4096 + 262_144,
  /** Operands expanded to f32. */
  wide: 4096 + 262_144 + 4 * depthBlock * columnBlock,
  /** f32 results before their epilogue, and what attention works on. */
  result: 4096 + 262_144 + 8 * depthBlock * columnBlock,
  bytes: 4096 + 262_144 + 8 * depthBlock * columnBlock + 4 * staged.rows * staged.columns,
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
}

/** Writes the sizes into the arguments of a job. */
export function placeBlocks(w: Int32Array, place: Readonly<Record<keyof Blocks, number>>, blocks: Blocks): void {
  w[place.mBlock] = blocks.mBlock;
  w[place.nBlock] = blocks.nBlock;
  w[place.kBlock] = blocks.kBlock;
  w[place.mTiles] = blocks.mTiles;
  w[place.nTiles] = blocks.nTiles;
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

/** Columns of a task when n are cut into `tiles` equal parts of whole register tiles, none of them small. */
function evenColumns(n: number, tiles: number, threads: number): number {
  const least = n < leastColumns * threads ? leastColumns / 2 : leastColumns;
  return Math.ceil(Math.max(least, n / tiles) / 16) * 16;
}

/** Rows, columns and depth of a task: as large as the scratch allows, cut until every thread has two to four tasks or tasks get small. */
export function taskBlocks({ m, n, k, batch, threads, unit, staged: apart }: Extent): Blocks {
  let mBlock: number = apart ? staged.rows : Math.ceil(m / rowBlock) * rowBlock;
  let nBlock: number = apart ? staged.columns : columnBlock;
  const tasks = () => batch * Math.ceil(m / mBlock) * Math.ceil(n / nBlock);
  // More and smaller tasks even out threads that start late or share their core; packing an operand again for each costs a little.
  const wanted = threads * (batch * m * n * k >= longProducts ? 4 : 2);
  // Few rows stay together: a task of the last of them would pack its columns for next to nothing.
  if (threads > 1 && m < 2 * rowBlock) nBlock = evenColumns(n, Math.max(Math.ceil(n / nBlock), Math.ceil(wanted / batch)), threads);
  while (threads > 1 && m >= 2 * rowBlock && tasks() < wanted && (nBlock > 128 || mBlock > rowBlock)) {
    if (nBlock > 128 && (nBlock >= mBlock || mBlock === rowBlock)) nBlock /= 2;
    else mBlock = Math.ceil(mBlock / 2 / rowBlock) * rowBlock;
  }
  return { mBlock, nBlock, kBlock: depthOf(k, unit), mTiles: Math.ceil(m / mBlock), nTiles: Math.ceil(n / nBlock) };
}
