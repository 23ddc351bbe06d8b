// Noise levels of rectified-flow models as plain numbers: 1 is pure noise, 0 is data. Pure functions.
// Order of operations and rounding after huggingface/diffusers src/diffusers/schedulers/scheduling_flow_match_euler_discrete.py.
import { ShapeError } from "@wick/tensor";
import { RequestError } from "./request.ts";

/** How a schedule moves the even grid towards noise. */
export type Shift =
  | {
      /** Which formula. */
      readonly kind: "none";
    }
  /** s → a s / (1 + (a - 1) s) */
  | {
      /** Which formula. */
      readonly kind: "static";
      /** a of the formula; 1 changes nothing. */
      readonly shift: number;
    }
  /** mu grows linearly with the number of image tokens; s → e^mu / (e^mu + 1/s - 1), or mu / (mu + 1/s - 1) for "linear". */
  | {
      /** Which formula. */
      readonly kind: "dynamic";
      /** Which formula mu enters. */
      readonly form: "exponential" | "linear";
      /** mu at baseTokens. */
      readonly baseShift: number;
      /** mu at maxTokens. */
      readonly maxShift: number;
      /** Image tokens where mu is baseShift. */
      readonly baseTokens: number;
      /** Image tokens where mu is maxShift. */
      readonly maxTokens: number;
    };

/** FLUX.1-dev scheduler_config.json. */
export const fluxDevShift: Shift = {
  kind: "dynamic",
  form: "exponential",
  baseShift: 0.5,
  maxShift: 1.15,
  baseTokens: 256,
  maxTokens: 4096,
};
/** Z-Image-Turbo scheduler_config.json. */
export const zImageTurboShift: Shift = { kind: "static", shift: 3 };
/** The even grid as it is. */
export const noShift: Shift = { kind: "none" };

/** mu of a dynamic shift for this many image tokens. */
export function dynamicMu(shift: Extract<Shift, { kind: "dynamic" }>, tokens: number): number {
  const slope = (shift.maxShift - shift.baseShift) / (shift.maxTokens - shift.baseTokens);
  return tokens * slope + (shift.baseShift - slope * shift.baseTokens);
}

/** How intermediate results are rounded: after every operation (f32 arrays: diffusers, BFL) or once at the end (f64: Tongyi-MAI, DPM-Solver). */
export type Rounding = "f32" | "f64";

/** One sigma through a shift. */
export function shiftSigma(sigma: number, shift: Shift, tokens: number, rounding: Rounding = "f32"): number {
  const f32 = rounding === "f32" ? Math.fround : (v: number) => v;
  if (shift.kind === "none" || sigma === 0) return sigma;
  if (shift.kind === "static") return f32(f32(shift.shift * sigma) / f32(1 + f32((shift.shift - 1) * sigma)));
  const mu = dynamicMu(shift, tokens);
  const strength = f32(shift.form === "exponential" ? Math.exp(mu) : mu);
  return f32(strength / f32(strength + f32(f32(1 / sigma) - 1)));
}

/** How a schedule is made. */
export interface SigmaOptions {
  /** The schedule has one value more: it ends in 0. */
  readonly steps: number;
  /** What moves the values towards more noise. */
  readonly shift: Shift;
  /** Image tokens, for dynamic shifts. */
  readonly tokens?: number;
  /** The unshifted grid, instead of 1, 1 - 1/N, …, 1/N; decreasing values in 0…1. */
  readonly grid?: readonly number[];
  /** Stretches the result so that the last value is this. */
  readonly terminal?: number;
  /** Re-spaces the shifted values between the first and the last: Karras et al. (rho 7, arXiv:2206.00364) or evenly in log sigma. */
  readonly spacing?: "karras" | "exponential";
  /** Default "f32", as diffusers; the last bit can differ between the two. */
  readonly rounding?: Rounding;
}

/** The grid of black-forest-labs/flux: torch.linspace(1, 0, steps + 1) without its end, which counts from both ends in f32. */
export function torchGrid(steps: number): number[] {
  const step = Math.fround(-1 / steps);
  return Array.from({ length: steps }, (_, i) => Math.fround(i < (steps + 1) / 2 ? 1 + step * i : -step * (steps - i)));
}

/** N + 1 decreasing noise levels in f32, the last one 0. Throws ShapeError unless there are steps, and as many values in `grid`. */
export function flowSigmas({ steps, shift, tokens = 0, grid, terminal, spacing, rounding = "f32" }: SigmaOptions): number[] {
  if (!Number.isInteger(steps) || steps < 1) throw new ShapeError("flowSigmas", `steps is a whole number of at least 1, got ${steps}`);
  const even = grid ?? Array.from({ length: steps }, (_, i) => 1 - i / steps);
  if (even.length !== steps) throw new ShapeError("flowSigmas", `the grid has ${even.length} values for ${steps} steps`);
  const shifted = even.map((s) => shiftSigma(rounding === "f32" ? Math.fround(s) : s, shift, tokens, rounding));
  const stretched = terminal === undefined ? shifted : stretchTo(shifted, terminal);
  const spaced = spacing ? respaced(stretched.map(Math.fround), spacing) : stretched;
  return [...spaced.map(Math.fround), 0];
}

/** As many values between the same ends, spaced another way. */
function respaced(sigmas: readonly number[], spacing: "karras" | "exponential"): number[] {
  const rho = 7;
  const [to, from] = spacing === "karras" ? [(s: number) => s ** (1 / rho), (v: number) => v ** rho] : [Math.log, Math.exp];
  const [first, last] = [to(sigmas[0]!), to(sigmas.at(-1)!)];
  return sigmas.map((_, i) => from(first + (i / Math.max(1, sigmas.length - 1)) * (last - first)));
}

/**
 * The levels FlowMatchEulerDiscreteScheduler makes when a pipeline gives none: an even grid between the largest and smallest of an
 * already shifted 1000-entry table, shifted again. Kept for parity with scripts that call it so; pipelines pass their own grid.
 */
export function ownGridSigmas(steps: number, shift: Shift, tokens = 0): number[] {
  const smallest = Math.fround(shift.kind === "static" ? shiftSigma(1 / 1000, shift, tokens) : 1 / 1000);
  const grid = Array.from({ length: steps }, (_, i) => (steps === 1 ? 1 : 1 + (i / (steps - 1)) * (smallest - 1)));
  return flowSigmas({ steps, shift, tokens, grid });
}

/** The levels DPMSolverMultistepScheduler uses with flow sigmas: they start below 1, at a shifted 0.999. */
export function dpmFlowSigmas(steps: number, shift: Shift, tokens = 0): number[] {
  const grid = Array.from({ length: steps }, (_, i) => 0.999 * (1 - i / steps));
  return flowSigmas({ steps, shift, tokens, grid, rounding: "f64" });
}

/** Scales 1 - s so that the last sigma becomes `terminal`. */
function stretchTo(sigmas: readonly number[], terminal: number): number[] {
  const factor = (1 - sigmas.at(-1)!) / (1 - terminal);
  return sigmas.map((s) => 1 - (1 - s) / factor);
}

/** Checks noise levels given by the user: at least two, decreasing, within 0…1, ending in 0 (appended if missing). */
export function userSigmas(sigmas: readonly number[]): number[] {
  const all = sigmas.at(-1) === 0 ? [...sigmas] : [...sigmas, 0];
  const fine = all.length > 1 && all.every((s, i) => s >= 0 && s <= 1 && (i === 0 || s < all[i - 1]!));
  if (!fine) throw new RequestError("generate", `sigmas decrease within 1…0, got [${sigmas.join(", ")}]`);
  return all.map(Math.fround);
}

/** The part of a schedule that image-to-image runs: the last int(steps · strength) steps. Throws ShapeError for a strength outside 0…1. */
export function truncatedSigmas(sigmas: readonly number[], strength: number): number[] {
  if (!(strength > 0 && strength <= 1)) throw new ShapeError("truncatedSigmas", `strength lies in 0…1 (0 excluded), got ${strength}`);
  const steps = sigmas.length - 1;
  const start = Math.trunc(Math.max(steps - Math.min(steps * strength, steps), 0));
  return sigmas.slice(start);
}
