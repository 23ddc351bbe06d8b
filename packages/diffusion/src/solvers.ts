// One step of an ODE solver over rectified flow: x(sigma) = (1 - sigma) data + sigma noise, dx/dsigma = velocity.
// A solver is a value; what it remembers between steps is returned, not hidden.
import { hold, scope, type Tensor } from "@wick/tensor";

/** Evaluates the model: x [b, ...] at `sigma` → dx/dsigma of the same shape, owned by the caller. */
export type Velocity = (x: Tensor, sigma: number) => Promise<Tensor>;

/** What a solver carries from step to step. */
export interface SolverState {
  /** Latents at the current noise level. */
  readonly x: Tensor;
  /** Predicted data of the previous step, for multistep solvers. */
  readonly previous?: Tensor;
}

/** What a solver is given for one step. */
export interface SolverStep {
  /** From 0. */
  readonly index: number;
  /** The whole schedule. */
  readonly sigmas: readonly number[];
  /** The model, guidance included. */
  readonly velocity: Velocity;
  /** Standard normals of x's shape, for stochastic solvers. */
  readonly noise: () => Tensor;
}

/** One step from a noise level to the next. */
export interface Solver {
  /** As requests call it. */
  readonly name: string;
  /** Model evaluations per step (the last step may need fewer). */
  readonly evaluations: number;
  /** Draws noise in its steps. */
  readonly stochastic: boolean;
  /** From sigmas[index] to sigmas[index + 1]; the result belongs to the caller, `state` stays the caller's too. */
  step(state: SolverState, step: SolverStep): Promise<SolverState>;
}

/** Owns a velocity while `use` computes with it. */
async function withVelocity<T>(v: Promise<Tensor>, use: (v: Tensor) => T): Promise<T> {
  using velocity = hold(await v);
  return scope((() => use(velocity.value) as object) as () => object) as T;
}

/** The same with the data that the velocity at x predicts, x - sigma v. */
const withData = <T>(x: Tensor, sigma: number, velocity: Velocity, use: (data: Tensor) => T): Promise<T> =>
  withVelocity(velocity(x, sigma), (v) => use(x.sub(v.mul(sigma))));

/** x + (next - sigma) v: the flow-matching default of FLUX and Z-Image. */
export const euler: Solver = {
  name: "euler",
  evaluations: 1,
  stochastic: false,
  async step({ x }, { index, sigmas, velocity }) {
    const [sigma, next] = [sigmas[index]!, sigmas[index + 1]!];
    return withVelocity(velocity(x, sigma), (v) => ({ x: x.add(v.mul(Math.fround(next - sigma))) }));
  },
};

/** Averages the velocity here and at the Euler prediction; the last step is plain Euler. (FlowMatchHeunDiscreteScheduler) */
export const heun: Solver = {
  name: "heun",
  evaluations: 2,
  stochastic: false,
  async step(state, step) {
    const [sigma, next] = [step.sigmas[step.index]!, step.sigmas[step.index + 1]!];
    if (next === 0) return euler.step(state, step);
    const { x } = state;
    const dt = Math.fround(next - sigma);
    using first = hold(await step.velocity(x, sigma));
    using predicted = hold(scope(() => x.add(first.value.mul(dt))));
    // Awaited here: `first` lives until this function ends.
    return await withVelocity(step.velocity(predicted.value, next), (v) => ({ x: x.add(first.value.add(v).mul(0.5).mul(dt)) }));
  },
};

/** Second-order multistep in lambda, from the predicted data of this and the previous step (arXiv:2211.01095). */
function dpmPlusPlus2m(name: string, lambda: (sigma: number) => number, alpha: (sigma: number) => number): Solver {
  return {
    name,
    evaluations: 1,
    stochastic: false,
    async step({ x, previous }, { index, sigmas, velocity }) {
      const [sigma, next] = [sigmas[index]!, sigmas[index + 1]!];
      return withData(x, sigma, velocity, (data) => {
        if (next === 0) return { x: data, previous: data };
        const h = lambda(next) - lambda(sigma);
        const before = index > 0 ? lambda(sigma) - lambda(sigmas[index - 1]!) : Number.NaN;
        const decay = alpha(next) * -Math.expm1(-h);
        // At sigma = 1 the logit is infinite: the step has no curvature to use yet, so it is first order.
        const multistep = previous !== undefined && Number.isFinite(before) && Number.isFinite(h);
        const mixed = multistep ? data.add(data.sub(previous).mul(h / (2 * before))) : data;
        return { x: x.mul(next / sigma).add(mixed.mul(Number.isFinite(h) ? decay : alpha(next))), previous: data };
      });
    },
  };
}

/** DPM++ 2M in the flow parametrisation alpha = 1 - sigma (DPMSolverMultistepScheduler with flow sigmas, without lower-order final step rules). */
export const dpmpp2m: Solver = dpmPlusPlus2m(
  "dpmpp-2m",
  (s) => Math.log((1 - s) / s),
  (s) => 1 - s,
);

/** DPM++ 2M as k-diffusion writes it, lambda = -ln sigma (ComfyUI, stable-diffusion.cpp). */
export const dpmpp2mK: Solver = dpmPlusPlus2m(
  "dpmpp-2m-k",
  (s) => -Math.log(s),
  () => 1,
);

/** Euler ancestral in flow form: part of each step is replaced by fresh noise, by `eta`. (ComfyUI sample_euler_ancestral_RF) */
export const eulerAncestral = (eta = 1): Solver => ({
  name: "euler-a",
  evaluations: 1,
  stochastic: true,
  async step({ x }, { index, sigmas, velocity, noise }) {
    const [sigma, next] = [sigmas[index]!, sigmas[index + 1]!];
    return withData(x, sigma, velocity, (data) => {
      if (next === 0) return { x: data };
      const down = next * (1 + (next / sigma - 1) * eta);
      const alpha = (1 - next) / (1 - down);
      const up = Math.sqrt(Math.max(0, next ** 2 - (down * alpha) ** 2));
      const ratio = down / sigma;
      return {
        x: x
          .mul(ratio)
          .add(data.mul(1 - ratio))
          .mul(alpha)
          .add(noise().mul(up)),
      };
    });
  },
});

/** Every step starts again from the predicted data with fresh noise. (FlowMatchEulerDiscreteScheduler with stochastic_sampling) */
export const eulerStochastic: Solver = {
  name: "euler-stochastic",
  evaluations: 1,
  stochastic: true,
  async step({ x }, { index, sigmas, velocity, noise }) {
    const [sigma, next] = [sigmas[index]!, sigmas[index + 1]!];
    return withData(x, sigma, velocity, (data) => ({ x: next === 0 ? data : data.mul(1 - next).add(noise().mul(next)) }));
  },
};

/** All solvers by name. */
export const solvers: Readonly<Record<string, Solver>> = Object.fromEntries(
  [euler, heun, dpmpp2m, dpmpp2mK, eulerAncestral(), eulerStochastic].map((s) => [s.name, s]),
);
