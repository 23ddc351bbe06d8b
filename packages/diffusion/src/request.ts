// What every text-to-image pipeline takes and reports, and the checks they share.
import type { LoadProgress } from "@wick/nn";
import { ShapeError, type Tensor, TensorError } from "@wick/tensor";
import type { RngKind } from "./noise.ts";
import { type Solver, solvers } from "./solvers.ts";

/** An option that is unknown, out of range, or at odds with another; the message names the limit. */
export class RequestError extends TensorError {}

/** Where a pipeline is. */
export type PipelineProgress =
  | { readonly stage: "load"; readonly model: string; readonly progress: LoadProgress }
  | { readonly stage: "encode" }
  | { readonly stage: "block"; readonly step: number; readonly steps: number; readonly block: number; readonly blocks: number }
  | { readonly stage: "step"; readonly step: number; readonly steps: number; readonly sigma: number; readonly elapsedMs: number }
  | { readonly stage: "decode" };

export interface BaseRequest {
  readonly prompt: string;
  /** In pixels, multiples of 16. */
  readonly width?: number | undefined;
  readonly height?: number | undefined;
  readonly steps?: number | undefined;
  readonly seed?: number | bigint | undefined;
  readonly rng?: RngKind | undefined;
  /** Images of one prompt; the noise of all is drawn in one call, as diffusers does for a batch. */
  readonly count?: number | undefined;
  /** Start latents [count, c, h/8, w/8] instead of seeded noise; stays the caller's. */
  readonly latents?: Tensor | undefined;
  /** Decreasing noise levels instead of the model's schedule. */
  readonly sigmas?: readonly number[] | undefined;
  /** A solver or its name; default "euler". */
  readonly solver?: Solver | string | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: PipelineProgress) => void) | undefined;
}

/** Throws RequestError unless `value` is a whole number in min…max. */
export function checkWhole(name: string, value: number, min: number, max: number): number {
  if (!Number.isInteger(value) || value < min || value > max)
    throw new RequestError("generate", `${name} is a whole number in ${min}…${max}, got ${value}`);
  return value;
}

/** Width or height: a multiple of `multiple` in range. */
export function checkSide(name: string, value: number, multiple: number, max: number): number {
  checkWhole(name, value, multiple, max);
  if (value % multiple !== 0) {
    const near = Math.max(multiple, Math.round(value / multiple) * multiple);
    throw new RequestError("generate", `${name} is a multiple of ${multiple}, got ${value}; try ${near}`);
  }
  return value;
}

/** Throws RequestError for keys that `known` does not list, naming the nearest. */
export function checkKeys(request: object, known: readonly string[]): void {
  const unknown = Object.keys(request).find((k) => !known.includes(k));
  if (unknown !== undefined) throw new RequestError("generate", `unknown option "${unknown}"; known are ${known.join(", ")}`);
}

/** The solver meant by a request. */
export function solverOf(solver: Solver | string | undefined): Solver {
  if (typeof solver === "object") return solver;
  const found = solvers[solver ?? "euler"];
  if (!found) throw new RequestError("generate", `unknown solver "${solver}"; known are ${Object.keys(solvers).join(", ")}`);
  return found;
}

/** Throws unless latents have the wanted shape. */
export function checkLatents(latents: Tensor, shape: readonly number[]): void {
  if (`${latents.shape}` !== `${shape}`)
    throw new ShapeError("generate", `latents must be [${shape.join(", ")}] for this size and count: ${latents}`);
}
