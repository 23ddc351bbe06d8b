// Options that every read of a pipeline's files has.
import type { OpenWeights } from "@wick/diffusion";
import type { ByteProgress, OpenOptions } from "@wick/hub";

/** Options of every read. */
export interface Reading {
  /** Stops reading. */
  readonly signal?: AbortSignal;
  /** Called as bytes arrive. */
  readonly onProgress?: (progress: ByteProgress) => void;
}

/** How files are opened for a LazyModel: where only headers are wanted, nothing is downloaded for them. */
export const opening = (reading: Reading, signal?: AbortSignal, how?: Parameters<OpenWeights>[1]): OpenOptions => ({
  ...reading,
  ...(signal ? { signal } : {}),
  ...(how?.headersOnly ? { via: "ranges" } : {}),
});
