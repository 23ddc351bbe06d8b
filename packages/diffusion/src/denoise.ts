// The denoise loop: an async iterator of steps with abort, progress and previews. Latents are never lost: the last state stays owned by the
// run until the caller takes it.
import { type Device, hold, ShapeError, type Tensor, TensorError } from "@wick/tensor";
import type { Solver, SolverState, Velocity } from "./solvers.ts";
import { type StepRun, stepRun } from "./step-run.ts";

/** Latents became NaN or infinite. */
export class NumericsError extends TensorError {}

/** What the loop runs on: where it starts, how it steps, what it asks for velocities. */
export interface DenoiseOptions {
  /** [b, ...]; stays the caller's. */
  readonly latents: Tensor;
  /** N + 1 decreasing noise levels. */
  readonly sigmas: readonly number[];
  /** The model, guidance included. */
  readonly velocity: Velocity;
  /** How one step is taken. */
  readonly solver: Solver;
  /** Standard normals for stochastic solvers. */
  readonly noise?: () => Tensor;
  /** Stops the loop; everything it holds is released. */
  readonly signal?: AbortSignal | undefined;
  /** After each step, before it is reported: inpainting keeps the known part here. */
  readonly adjust?: (latents: Tensor, sigma: number) => Tensor;
}

/** One finished step. `latents` belongs to the loop and is valid until the next step is asked for. */
export interface DenoiseStep {
  /** From 0. */
  readonly index: number;
  /** Of all steps. */
  readonly count: number;
  /** Noise level before the step. */
  readonly sigma: number;
  /** Noise level after it. */
  readonly next: number;
  /** After the step. */
  readonly latents: Tensor;
  /** Of this step. */
  readonly elapsedMs: number;
}

/** Yields after every step and returns the final latents; see StepRun for who owns them. Stopping early releases everything. */
export const denoise = (device: Device, options: DenoiseOptions): StepRun<DenoiseStep, Tensor> => stepRun(denoiseSteps(device, options));

async function* denoiseSteps(device: Device, options: DenoiseOptions): AsyncGenerator<DenoiseStep, Tensor, void> {
  const { sigmas, solver, velocity, signal, adjust } = options;
  const count = sigmas.length - 1;
  if (count < 1) throw new ShapeError("denoise", `needs at least two sigmas, got [${sigmas.join(", ")}]`);
  const noise = options.noise ?? (() => missingNoise(solver));
  using state = hold<SolverState>({ x: options.latents.copy() });
  for (let index = 0; index < count; index++) {
    signal?.throwIfAborted();
    const started = performance.now();
    const next = await solver.step(state.value, { index, sigmas, velocity, noise });
    replaceState(state, next);
    if (adjust) state.update((s) => ({ ...s, x: adjust(s.x, sigmas[index + 1]!) }));
    await device.idle(signal);
    signal?.throwIfAborted();
    const elapsedMs = performance.now() - started;
    yield { index, count, sigma: sigmas[index]!, next: sigmas[index + 1]!, latents: state.value.x, elapsedMs };
  }
  const { x, previous } = state.release();
  if (previous !== x) previous?.dispose();
  return x;
}

function missingNoise(solver: Solver): never {
  throw new ShapeError("denoise", `the solver ${solver.name} is stochastic; pass noise`);
}

/** The state takes over tensors made elsewhere. */
function replaceState(state: { update(fn: (s: SolverState) => SolverState): void }, next: SolverState): void {
  state.update(() => next);
}
