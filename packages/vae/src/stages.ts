// A network as a list of stages, each with the module it needs: run one after the other, pausing before each, holding two results at most.
import { type BlockRun, Module, runBlocks } from "@wick/nn";
import { fold, type Held, hold, scope, type Tensor } from "@wick/tensor";

/** A module and what to do with it. */
export type Stage = readonly [module: Module, step: (x: Tensor) => Tensor];

/** A module that maps one tensor to one tensor, as a stage. */
export const stageOf = (module: Module & { forward(x: Tensor): Tensor }): Stage => [module, (x) => module.forward(x)];

/** A module that is its stages in order. */
export abstract class Staged extends Module {
  /** In the order they run. */
  abstract get stages(): readonly Stage[];
  /** `run` to the end. */
  forward(x: Tensor): Tensor {
    return runBlocks(this.run(x));
  }
  /** x through all stages, pausing before each; results are released when the next one exists. */
  run(x: Tensor): BlockRun<Tensor> {
    return runStages(this.stages, x);
  }
}

function* runStages(stages: readonly Stage[], x: Tensor): BlockRun<Tensor> {
  const [last, lastStep] = stages.at(-1)!;
  let state: Held<Tensor> | undefined;
  try {
    for (const [module, step] of stages.slice(0, -1)) {
      yield module;
      if (state) state.update(step);
      else state = hold(scope(() => step(x)));
    }
    yield last;
    return scope(() => lastStep(state?.value ?? x));
  } finally {
    state?.[Symbol.dispose]();
  }
}

/** x through all steps at once, releasing results in between. */
export const releasing = (x: Tensor, ...steps: readonly ((x: Tensor) => Tensor)[]): Tensor => fold(steps, x, (state, step) => step(state));
