// The names of the matrix kernels' variants: what tuning tables, the tuner and `wick doctor` speak of.

export type RegistersVariant = { readonly kind: "registers"; readonly rows: number; readonly columns: number };
export type WorkgroupVariant = { readonly kind: "workgroup"; readonly rows: number };
export type BroadcastVariant = { readonly kind: "broadcast"; readonly rows: number };
export type MatrixVariant = { readonly kind: "matrix"; readonly down: number; readonly across: number };
export type GemmVariant = RegistersVariant | WorkgroupVariant | BroadcastVariant | MatrixVariant;

/**
 * Every variant by name. registers: results of a thread; workgroup: results of 256 threads, operands staged in workgroup memory; broadcast:
 * rows of a subgroup whose lanes hand their values around; matrix: fragments of each of four subgroups.
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
  "matrix 1x1": { kind: "matrix", down: 1, across: 1 },
  "matrix 2x2": { kind: "matrix", down: 2, across: 2 },
  "matrix 4x2": { kind: "matrix", down: 4, across: 2 },
  "matrix 4x4": { kind: "matrix", down: 4, across: 4 },
} as const satisfies Readonly<Record<string, GemmVariant>>;

/** Name of a variant. */
export type GemmVariantName = keyof typeof gemmVariants;

export const gemmVariantNames = Object.keys(gemmVariants) as readonly GemmVariantName[];
