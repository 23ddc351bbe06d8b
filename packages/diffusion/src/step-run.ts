// Steps that end in a result somebody must own. A loop over `next()` receives that result; `for await` cannot, so there it is released.
import { tensorsIn } from "@wick/tensor";

/**
 * Steps of a run and its final latents. By hand, `next()` returns the latents with `done`: they are the caller's. In `for await` the language
 * drops that value, so the latents are released when the loop is over; `step.latents.copy()` in the last step keeps them. Leaving the loop
 * early releases everything the run holds.
 */
export interface StepRun<S, R> extends AsyncGenerator<S, R, void> {}

class OwnedRun<S, R> implements StepRun<S, R> {
  readonly #run: AsyncGenerator<S, R, void>;
  readonly #isLoop: boolean;
  constructor(run: AsyncGenerator<S, R, void>, isLoop: boolean) {
    this.#run = run;
    this.#isLoop = isLoop;
  }
  async next(): Promise<IteratorResult<S, R>> {
    const step = await this.#run.next();
    if (!(step.done && this.#isLoop)) return step;
    for (const t of tensorsIn(step.value)) t.dispose();
    return { done: true, value: undefined as R };
  }
  return(value: R | PromiseLike<R>): Promise<IteratorResult<S, R>> {
    return this.#run.return(value);
  }
  throw(error: unknown): Promise<IteratorResult<S, R>> {
    return this.#run.throw(error);
  }
  [Symbol.asyncIterator](): StepRun<S, R> {
    return new OwnedRun(this.#run, true);
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#run.return(undefined as R);
  }
}

/** Makes a generator whose result holds tensors safe in `for await`. */
export const stepRun = <S, R>(run: AsyncGenerator<S, R, void>): StepRun<S, R> => new OwnedRun(run, false);

/** Runs to the end; the result is the caller's. */
export async function resultOf<R>(run: AsyncGenerator<unknown, R, void>): Promise<R> {
  for (;;) {
    const step = await run.next();
    if (step.done) return step.value;
  }
}
