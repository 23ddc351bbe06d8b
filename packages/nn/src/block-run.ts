// A forward pass that can pause: it yields each block before running it. One body of model code serves the plain synchronous call and the
// driver that checks for abort, lets the event loop breathe, reports progress or streams weights in and out between blocks.
import { type Device, scope } from "@wick/tensor";
import type { Module } from "./module.ts";

/** Yields the block that runs next; returns the result. Tensors carried across a yield are owned with `hold`. */
export type BlockRun<T> = Generator<Module, T, void>;

/** Runs to the end at once; temporaries are released. */
export function runBlocks<T>(run: BlockRun<T>): T {
  return scope((() => {
    let step = run.next();
    while (!step.done) step = run.next();
    return step.value as object;
  }) as () => object) as T;
}

/** What happens around the blocks of a pass that may pause. */
export interface BlockDriver {
  /** Ends the run before the next block. */
  readonly signal?: AbortSignal | undefined;
  /** Awaited before `block` runs: the place to bring its weights in. */
  readonly before?: ((block: Module, index: number) => void | Promise<void>) | undefined;
  /** Called after `block` was recorded: the place to let its weights go. */
  readonly after?: ((block: Module, index: number) => void | Promise<void>) | undefined;
}

/** A macrotask: timers, signals and the page get their turn. Timers of 0 ms would wait 1 ms in Node and 4 ms in browsers. */
const breathe = (): Promise<void> => new Promise((resolve) => soon(resolve));

/** Runs `then` after whatever waits in the event loop now. */
const soon = ((): ((then: () => void) => void) => {
  const { setImmediate, MessageChannel } = globalThis as unknown as EventLoop;
  if (setImmediate) return setImmediate;
  if (!MessageChannel) return (then) => void setTimeout(then, 0);
  return (then) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      then();
    };
    port2.postMessage(undefined);
  };
})();

/** Node's way and the browsers' way to a macrotask without a timer. */
interface EventLoop {
  readonly setImmediate?: (then: () => void) => void;
  readonly MessageChannel?: new () => {
    readonly port1: { onmessage: (() => void) | null; close(): void };
    readonly port2: { postMessage(data: unknown): void };
  };
}

/** How long recording may go on before the event loop gets a turn. */
const turnMillis = 12;

/**
 * Runs block by block; rejects with the signal's reason between blocks when aborted, having released everything.
 * The result belongs to the caller.
 */
export async function runBlocksAsync<T>(device: Device, run: BlockRun<T>, { signal, before, after }: BlockDriver = {}): Promise<T> {
  const advance = () => scope((() => run.next()) as () => object) as IteratorResult<Module, T>;
  let index = 0;
  let turn = performance.now();
  try {
    signal?.throwIfAborted();
    let step = advance();
    while (!step.done) {
      const block = step.value;
      await before?.(block, index);
      // Also here: what was recorded need not run any more.
      signal?.throwIfAborted();
      if (performance.now() - turn > turnMillis) {
        device.flush();
        await breathe();
        turn = performance.now();
      }
      await device.catchUp(signal);
      signal?.throwIfAborted();
      step = advance();
      await after?.(block, index);
      index++;
    }
    return step.value;
  } catch (error) {
    run.return(undefined as T);
    throw error;
  }
}
