// What the generated kernels are generated for: the instructions, registers and threads of the machine at hand (choose.ts says which).

/** A flavour of the generated kernels. */
export interface Flavour {
  /** Relaxed multiply-add. */
  readonly fma: boolean;
  /** Register tile: rows, and vectors of four columns. */
  readonly tileRows: number;
  readonly tileVectors: number;
  /** The compiler moves vector operations about (V8 before 12): the micro kernel ties them to their places. */
  readonly pinned: boolean;
  /** The memory is shared between threads. */
  readonly shared: boolean;
}
