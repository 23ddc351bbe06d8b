// Block sizes of the matrix kernels and the layout of a thread's scratch memory, in bytes.
// Sizes are the best of a sweep on a Sapphire Rapids core (KC 512, MC 96, NC 512); 256 or 192 in their place cost about 5 %.

/** Depth of packed panels. */
export const depthBlock = 512;
/** Rows of packed a. */
export const rowBlock = 96;
/** Columns of packed b, and of a task. */
export const columnBlock = 512;
/** Rows of a task. */
export const taskRows = 384;

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
  wide: 4096 + 262_144 + 1_048_576,
  /** f32 results before their epilogue. */
  result: 4096 + 262_144 + 2 * 1_048_576,
  bytes: 4096 + 262_144 + 2 * 1_048_576 + 4 * taskRows * columnBlock,
} as const;

/** How the operand of a matrix product is stored; `across` is added when neighbours in k are not neighbours in memory. */
export const operandModes = { f32: 0, f16: 1, bf16: 2, q8_0: 3, q4_0: 4, q4_K: 5 } as const;
export type OperandKind = keyof typeof operandModes;
export const across = 16;
/** Modes 32 to 34: b is made of image patches of f32, f16 or bf16. */
export const patches = 32;

/** Multiplications from which waking other threads pays. */
export const threadedProducts = 2_000_000;

/** Rows and columns of a task, halved until every thread has two tasks or tasks get small. */
export function taskBlocks(
  m: number,
  n: number,
  batch: number,
  threads: number,
): { mBlock: number; nBlock: number; mTiles: number; nTiles: number } {
  let [mBlock, nBlock] = [taskRows, columnBlock];
  const tasks = () => batch * Math.ceil(m / mBlock) * Math.ceil(n / nBlock);
  while (threads > 1 && tasks() < 2 * threads && nBlock > 128) nBlock /= 2;
  while (threads > 1 && tasks() < 2 * threads && mBlock > rowBlock) mBlock /= 2;
  return { mBlock, nBlock, mTiles: Math.ceil(m / mBlock), nTiles: Math.ceil(n / nBlock) };
}
