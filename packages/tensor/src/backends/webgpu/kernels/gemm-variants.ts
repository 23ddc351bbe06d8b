// The names of the matrix kernels' variants: what tuning tables, the tuner and `wick doctor` speak of.

export type RegistersVariant = { readonly kind: "registers"; readonly rows: number; readonly columns: number };
export type WorkgroupVariant = { readonly kind: "workgroup"; readonly rows: number };
export type BroadcastVariant = { readonly kind: "broadcast"; readonly rows: number };
export type MatrixVariant = {
  readonly kind: "matrix";
  /** Fragments of a subgroup. */
  readonly down: number;
  readonly across: number;
  /** Subgroups of a workgroup. */
  readonly grid: { readonly down: number; readonly across: number };
  /** The next slice is fetched into registers while this one is multiplied. */
  readonly ahead: boolean;
};
export type GemmVariant = RegistersVariant | WorkgroupVariant | BroadcastVariant | MatrixVariant;

const matrix = (down: number, across: number, ahead = false, grid = { down: 2, across: 2 }): MatrixVariant => ({
  kind: "matrix",
  down,
  across,
  grid,
  ahead,
});

/**
 * Every variant by name. registers: results of a thread; workgroup: results of 256 threads, operands staged in workgroup memory; broadcast:
 * rows of a subgroup whose lanes hand their values around; matrix: fragments of each of four (or eight) subgroups, staged slice by slice, or with the next slice
 * fetched ahead.
 */
export const gemmVariants = {
  "registers 4x4": { kind: "registers", rows: 4, columns: 1 },
  "registers 8x4": { kind: "registers", rows: 8, columns: 1 },
  "registers 8x8": { kind: "registers", rows: 8, columns: 2 },
  "workgroup 64x64": { kind: "workgroup", rows: 64 },
  "workgroup 128x64": { kind: "workgroup", rows: 128 },
  "broadcast 8": { kind: "broadcast", rows: 8 },
  "broadcast 16": { kind: "broadcast", rows: 16 },
  "broadcast 32": { kind: "broadcast", rows: 32 },
  "matrix 1x1": matrix(1, 1),
  "matrix 2x2": matrix(2, 2),
  "matrix 4x2": matrix(4, 2),
  "matrix 4x4": matrix(4, 4),
  "matrix 2x2 ahead": matrix(2, 2, true),
  "matrix 4x2 ahead": matrix(4, 2, true),
  "matrix 4x4 ahead": matrix(4, 4, true),
  "matrix 4x2 ahead in 8": matrix(4, 2, true, { down: 2, across: 4 }),
  "matrix 4x4 ahead in 8": matrix(4, 4, true, { down: 2, across: 4 }),
} as const satisfies Readonly<Record<string, GemmVariant>>;

/** Name of a variant. */
export type GemmVariantName = keyof typeof gemmVariants;

/** All variants, in the order of the table. */
export const gemmVariantNames = Object.keys(gemmVariants) as readonly GemmVariantName[];
