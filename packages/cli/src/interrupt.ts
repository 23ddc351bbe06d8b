// Ctrl-C and SIGTERM: the first asks the command to stop and clean up, the second ends the process at once.
import { exitCodes, Interrupted } from "./cli-error.ts";

export class InterruptSignal {
  readonly #controller = new AbortController();

  constructor() {
    process.on("SIGINT", this.#onInterrupt);
    process.on("SIGTERM", this.#onTerminate);
  }
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  readonly #onInterrupt = (): void => {
    if (this.signal.aborted) process.exit(exitCodes.interrupted);
    this.#controller.abort(new Interrupted());
  };
  readonly #onTerminate = (): void => {
    if (this.signal.aborted) process.exit(exitCodes.terminated);
    this.#controller.abort(new Interrupted(exitCodes.terminated));
  };

  [Symbol.dispose](): void {
    process.off("SIGINT", this.#onInterrupt);
    process.off("SIGTERM", this.#onTerminate);
  }
}
