// The names of attention's variants: what tuning tables, the tuner and `wick doctor` speak of.

export type AttentionVariant =
  | { readonly kind: "tiled" }
  | {
      readonly kind: "matrix";
      /** Fragments of query rows of a subgroup. */
      readonly down: number;
      /** Subgroups of a workgroup. */
      readonly subgroups: number;
      /** The next keys and values are fetched into registers while these are multiplied. */
      readonly ahead: boolean;
      /** Values are laid out column by column before, so that fragments of them are read as those of keys are. */
      readonly turned: boolean;
    };

type MatrixAttention = Extract<AttentionVariant, { kind: "matrix" }>;
const matrix = (down: number, more: Partial<MatrixAttention> = {}): AttentionVariant => ({
  kind: "matrix",
  down,
  subgroups: 4,
  ahead: false,
  turned: false,
  ...more,
});

/**
 * Every variant by name. tiled: tiles in workgroup memory; matrix: fragments of rows of each of four (or eight) subgroups, with the next keys and
 * values fetched ahead, with values turned into columns before.
 */
export const attentionVariants = {
  tiled: { kind: "tiled" },
  "matrix 1": matrix(1),
  "matrix 2": matrix(2),
  "matrix 1 ahead": matrix(1, { ahead: true }),
  "matrix 2 ahead": matrix(2, { ahead: true }),
  "matrix 1 ahead in 8": matrix(1, { ahead: true, subgroups: 8 }),
  "matrix 1 turned": matrix(1, { turned: true }),
  "matrix 2 turned": matrix(2, { turned: true }),
  "matrix 1 ahead turned": matrix(1, { ahead: true, turned: true }),
  "matrix 1 turned in 8": matrix(1, { turned: true, subgroups: 8 }),
  "matrix 1 ahead turned in 8": matrix(1, { ahead: true, turned: true, subgroups: 8 }),
  "matrix 2 ahead turned": matrix(2, { ahead: true, turned: true }),
} as const satisfies Readonly<Record<string, AttentionVariant>>;

/** Name of a variant of attention. */
export type AttentionVariantName = keyof typeof attentionVariants;

/** All variants, in the order of the table. */
export const attentionVariantNames = Object.keys(attentionVariants) as readonly AttentionVariantName[];
