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
    };

const matrix = (down: number, ahead = false, subgroups = 4): AttentionVariant => ({ kind: "matrix", down, subgroups, ahead });

/** Every variant by name. tiled: tiles in workgroup memory; matrix: fragments of rows of each of four (or eight) subgroups. */
export const attentionVariants = {
  tiled: { kind: "tiled" },
  "matrix 1": matrix(1),
  "matrix 2": matrix(2),
  "matrix 1 ahead": matrix(1, true),
  "matrix 2 ahead": matrix(2, true),
  "matrix 1 ahead in 8": matrix(1, true, 8),
} as const satisfies Readonly<Record<string, AttentionVariant>>;

/** Name of a variant of attention. */
export type AttentionVariantName = keyof typeof attentionVariants;

export const attentionVariantNames = Object.keys(attentionVariants) as readonly AttentionVariantName[];
