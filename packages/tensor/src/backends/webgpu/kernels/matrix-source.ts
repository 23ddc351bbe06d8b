// Operands of the kernels of a matrix product: where they lie, and the WGSL that reads them.
import type { DType } from "../../../dtype.ts";
import type { View } from "../../../view.ts";
import type { OffsetFunction } from "../wgsl/offsets.ts";
import type { Bound } from "./context.ts";
import type { Runs } from "./gemm-runs.ts";

/** One operand of a matrix product as text. */
export interface MatrixSource {
  readonly bound: Bound;
  readonly type: string;
  /** Functions over a row index r, an inner index k (both multiples where `quad`) and the batch offset. */
  readonly text: string;
  readonly batch: OffsetFunction;
  readonly params: readonly string[];
  readonly values: readonly number[];
  readonly key: string;
  readonly dtype: DType;
  /** "k": four values along k come in one load; "r": along the rows (columns of b). */
  readonly along: "k" | "r";
  /** Four values come as one vector load. */
  readonly quad: boolean;
  /** How matrix kernels fetch `values` of it along k. */
  runs(values: 4 | 8): Runs;
}

/** An operand with its text. */
export interface GemmOperand {
  readonly view: View;
  readonly source: MatrixSource;
  /** Where the source repeats values, as patches of an image do: each of them once, as rows [n, k], to be measured. */
  readonly once?: { readonly source: MatrixSource; readonly n: number; readonly k: number };
}
