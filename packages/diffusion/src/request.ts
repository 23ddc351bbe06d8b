// What every text-to-image pipeline takes and reports, and the checks they share.
import type { Image } from "@wick/image";
import type { LoadProgress } from "@wick/nn";
import { ShapeError, type Tensor, TensorError } from "@wick/tensor";
import type { HostLatents } from "./latents.ts";
import type { RngKind } from "./noise.ts";
import { type Solver, solvers } from "./solvers.ts";

/** An option that is unknown, out of range, or at odds with another; the message names the limit. */
export class RequestError extends TensorError {}

/** Where a pipeline is. */
export type PipelineProgress =
  | {
      /** What is being done. */
      readonly stage: "load";
      /** Whose weights are loaded. */
      readonly model: string;
      /** How far loading is. */
      readonly progress: LoadProgress;
    }
  | {
      /** What is being done. */
      readonly stage: "encode";
    }
  | {
      /** What is being done. */
      readonly stage: "block";
      /** From 0. */
      readonly step: number;
      /** Of the run. */
      readonly steps: number;
      /** From 0. */
      readonly block: number;
      /** Of one pass of the model. */
      readonly blocks: number;
    }
  | {
      /** What is being done. */
      readonly stage: "step";
      /** Steps done. */
      readonly step: number;
      /** Of the run. */
      readonly steps: number;
      /** Noise level after the step. */
      readonly sigma: number;
      /** Of the step. */
      readonly elapsedMs: number;
    }
  | {
      /** What is being done. */
      readonly stage: "decode";
    };

/** What every pipeline can be asked for. */
export interface BaseRequest {
  /** What to draw. */
  readonly prompt: string;
  /** In pixels, multiples of 16. */
  readonly width?: number | undefined;
  /** In pixels, multiples of 16. */
  readonly height?: number | undefined;
  /** Model steps; the model's default when left out. */
  readonly steps?: number | undefined;
  /** Of the noise; 0 by default. */
  readonly seed?: number | bigint | undefined;
  /** Which generation of PyTorch's streams; "torch-cpu" by default. */
  readonly rng?: RngKind | undefined;
  /** Images of one prompt; the noise of all is drawn in one call, as diffusers does for a batch. */
  readonly count?: number | undefined;
  /** Start latents [count, c, h/8, w/8] instead of seeded noise; stays the caller's. */
  readonly latents?: Tensor | undefined;
  /** Decreasing noise levels instead of the model's schedule. */
  readonly sigmas?: readonly number[] | undefined;
  /** A solver or its name; default "euler". */
  readonly solver?: Solver | string | undefined;
  /** Called with the final latents before they are decoded. */
  readonly latentsOut?: ((latents: HostLatents) => void) | undefined;
  /** Stops the run within a block; everything it holds is released. */
  readonly signal?: AbortSignal | undefined;
  /** Called as the run goes on. */
  readonly onProgress?: ((progress: PipelineProgress) => void) | undefined;
}

/** The keys of what every pipeline can be asked for, but the prompt, which some take in other forms. */
export const baseRequestKeys: readonly (keyof Omit<BaseRequest, "prompt">)[] = [
  ...(["width", "height", "steps", "seed", "rng", "count", "latents", "latentsOut", "sigmas", "solver"] as const),
  ...(["signal", "onProgress"] as const),
];

/** What a request that starts from a picture can say beside it. */
export interface PictureRequest {
  /** What to start from; the result has its size, in multiples of 16, unless width and height say otherwise. */
  readonly image?: Image | undefined;
  /** How much of a start picture is made anew, in 0…1; the schedule runs that part of its steps. */
  readonly strength?: number | undefined;
  /** White is made anew, black is kept. Of any size. */
  readonly mask?: Image | undefined;
  /** Encode pictures to the mean of their latent distribution (default, as the authors), or draw a sample first, as diffusers does. */
  readonly posterior?: "mean" | "sample" | undefined;
}

/** Throws RequestError unless mask and strength come with a picture, the strength lies in 0…1 and the posterior is known. */
export function checkPictureRequest({ image, mask, strength, posterior }: PictureRequest): void {
  const refuse = (what: string): never => {
    throw new RequestError("generate", what);
  };
  if (mask && !image) refuse("mask needs image");
  if (strength !== undefined && !image) refuse("strength needs image");
  if (strength !== undefined && !(strength > 0 && strength <= 1)) refuse(`strength lies in 0…1 (0 excluded), got ${strength}`);
  checkChoice("posterior", posterior, ["mean", "sample"]);
}

/** Throws RequestError unless the seed is a whole number and the stream and dtype of the noise are known. */
export function checkNoise({
  seed = 0,
  rng,
  noiseDType,
}: Pick<BaseRequest, "seed" | "rng"> & { readonly noiseDType?: string | undefined }): void {
  if (typeof seed !== "bigint" && !Number.isSafeInteger(seed))
    throw new RequestError("generate", `seed is a whole number, got ${seed}; beyond 2^53 pass a bigint`);
  checkChoice("rng", rng, ["torch-cpu", "torch-cpu-legacy"] satisfies RngKind[]);
  checkChoice("noiseDType", noiseDType, ["bf16", "f16", "f32"]);
}

function checkChoice(name: string, value: string | undefined, known: readonly string[]): void {
  if (value === undefined || known.includes(value)) return;
  throw new RequestError("generate", `${name} is ${known.map((k) => `"${k}"`).join(" or ")}, got ${value}`);
}

/** The largest size in pixels, not above the picture's, whose sides are multiples of `multiple`. */
export const flooredSize = ({ width, height }: Image, multiple: number): Pick<Image, "width" | "height"> => ({
  width: Math.floor(width / multiple) * multiple,
  height: Math.floor(height / multiple) * multiple,
});

/** Throws RequestError unless `value` is a whole number in min…max. */
export function checkWhole(name: string, value: number, min: number, max: number): number {
  if (!Number.isInteger(value) || value < min || value > max)
    throw new RequestError("generate", `${name} is a whole number in ${min}…${max}, got ${value}`);
  return value;
}

/** Width or height: a multiple of `multiple` in range. Throws RequestError naming the nearest. */
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

/** The solver meant by a request. Throws RequestError for an unknown name. */
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
