// Who owns a tensor. JavaScript has no destructors and its collector cannot see device memory, so lifetime is visible, in three words:
//   scope(fn)   everything made inside `fn` and not returned from it is released
//   fold(…)     the loop form: step i's carried tensors are released once step i + 1 has produced its own
//   using x =   you own x (a device, a model, `hold(latents)`) until the end of the block
// A scope is synchronous: recording work never waits, so no `await` can interleave two scopes.
import type { Tensor } from "./tensor.ts";

/** The tensors made since a scope opened. One that is disposed or handed on stays listed but has another owner. */
export interface OpenScope {
  readonly made: Tensor[];
}
const open: OpenScope[] = [];

/** Gives a tensor to the innermost open scope; false when there is none. */
export function adopt(tensor: Tensor): boolean {
  const innermost = open[open.length - 1];
  tensor.owner = innermost;
  innermost?.made.push(tensor);
  return innermost !== undefined;
}

/** Takes a tensor out of its scope: its new owner disposes it. */
export function disown(tensor: Tensor): void {
  tensor.owner = undefined;
}

/** Every tensor reachable through arrays, maps and plain objects. */
export function* tensorsIn(value: unknown): Iterable<Tensor> {
  if (value === null || typeof value !== "object") return;
  if ("isTensor" in value) yield value as Tensor;
  else if (Array.isArray(value)) for (const v of value) yield* tensorsIn(v);
  else if (value instanceof Map) for (const v of value.values()) yield* tensorsIn(v);
  else if (Object.getPrototypeOf(value) === Object.prototype) for (const v of Object.values(value)) yield* tensorsIn(v);
}

type Sync<F extends () => unknown> = [ReturnType<F>] extends [never]
  ? unknown
  : ReturnType<F> extends PromiseLike<unknown>
    ? "scope() is synchronous: do the await outside it"
    : unknown;

/**
 * Runs `fn`; releases every tensor it made except those it returns (in arrays, maps or plain objects). A throw releases all of them.
 * @typeParam F What is run: not an async function, which the types refuse.
 */
export function scope<F extends () => unknown>(fn: F & Sync<F>): ReturnType<F> {
  const own: OpenScope = { made: [] };
  open.push(own);
  try {
    const result = (fn as () => unknown)();
    if (result instanceof Promise) throw new TypeError("scope: the function returned a promise: do the await outside the scope");
    open.pop();
    handOn(result, own);
    return result as ReturnType<F>;
  } catch (error) {
    if (open.at(-1) === own) open.pop();
    throw error;
  } finally {
    for (const t of own.made) if (t.owner === own) t.dispose();
  }
}

/** Computes what is returned (results must not hold on to the operands of expressions) and gives it to the scope around `own`. */
function handOn(result: unknown, own: OpenScope): void {
  if (result === null || typeof result !== "object") return;
  const returned = "isTensor" in result ? [result as Tensor] : [...tensorsIn(result)];
  for (const t of returned) if (t.owner === own) t.compute();
  for (const t of returned) if (t.owner === own) t.adoptBy(adopt);
}

/** Releases the tensors of `previous` that `next` does not carry on and that are not somebody else's. */
function releaseReplaced(previous: unknown, next: unknown, others: ReadonlySet<Tensor> = new Set()): void {
  const kept = new Set(tensorsIn(next));
  for (const t of tensorsIn(previous)) if (!kept.has(t) && !others.has(t)) t.dispose();
}

/** The state after `state`, which is released but for the tensors of the first one. */
function nextState<S>(state: S, step: (previous: S) => S, initial: ReadonlySet<Tensor>): S {
  const next = scope((() => step(state) as object) as () => object) as S;
  releaseReplaced(state, next, initial);
  return next;
}

/**
 * Left fold over `items`, one scope per step. `init` stays the caller's; each later state is released as soon as its successor
 * exists, so a 57-block transformer holds two states, not 57.
 */
export function fold<I, S>(items: Iterable<I>, init: S, step: (state: S, item: I, index: number) => S): S {
  const initial = new Set(tensorsIn(init));
  let state = init;
  let index = 0;
  for (const item of items) {
    state = nextState(state, (previous) => step(previous, item, index), initial);
    index++;
  }
  return state;
}

/** `fold` whose items arrive asynchronously (weights that are streamed in); each step itself stays synchronous. */
export async function foldAsync<I, S>(
  items: AsyncIterable<I> | Iterable<I>,
  init: S,
  step: (state: S, item: I, index: number) => S,
): Promise<S> {
  const initial = new Set(tensorsIn(init));
  let state = init;
  let index = 0;
  try {
    for await (const item of items) {
      state = nextState(state, (previous) => step(previous, item, index), initial);
      index++;
    }
    return state;
  } catch (error) {
    for (const t of tensorsIn(state)) if (!initial.has(t)) t.dispose();
    throw error;
  }
}

/** A tensor (or a tree of them) owned across awaits: `using latents = hold(noise)`. */
export class Held<T> {
  #value: T;
  #released = false;
  constructor(value: T) {
    this.#value = value;
    for (const t of tensorsIn(value)) {
      t.compute();
      disown(t);
    }
  }
  /** What is owned; valid until it is replaced or released. */
  get value(): T {
    return this.#value;
  }
  /** Replaces the value, releasing the old one and all intermediates. */
  update(fn: (value: T) => T): void {
    const previous = this.#value;
    const next = scope((() => fn(previous) as object) as () => object) as T;
    for (const t of tensorsIn(next)) disown(t);
    this.#value = next;
    releaseReplaced(previous, next);
  }
  /** Gives the value to the caller; leaving the block no longer frees it. */
  release(): T {
    this.#released = true;
    return this.#value;
  }
  /** Releases every tensor in the value, unless `release()` gave it away. */
  [Symbol.dispose](): void {
    if (this.#released) return;
    this.#released = true;
    for (const t of tensorsIn(this.#value)) t.dispose();
  }
}

/** Owns `value` until the end of the block (`using`), across awaits and outside any scope. */
export const hold = <T>(value: T): Held<T> => new Held(value);
