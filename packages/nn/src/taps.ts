// Looking into and changing a forward pass from outside: outputs of modules by path. A tap shadows `forward` on the matched instances for as
// long as it is on; a model without taps runs as if this file did not exist.
import { hold, scope, type Tensor, TensorError, tensorsIn } from "@wick/tensor";
import { classOf, type Module, namedModules } from "./module.ts";
import { anyGlob } from "./path-glob.ts";

/** One call of a tapped module. */
export interface TapSite {
  /** Of the module in the model. */
  readonly path: string;
  /** The module whose output this is. */
  readonly module: Module;
  /** The arguments of `forward`. */
  readonly inputs: readonly unknown[];
}

type Forward = (...inputs: unknown[]) => unknown;
type Tap = (output: unknown, inputs: readonly unknown[]) => unknown;

/** Taps on an instance, in the order they were set, and the way back to its own `forward`. */
interface Shadow {
  readonly taps: Set<Tap>;
  readonly restore: () => void;
}

const active = new WeakMap<Module, Shadow>();

function addTap(module: Module, tap: Tap): () => void {
  const shadow = active.get(module) ?? shadowForward(module);
  active.set(module, shadow);
  shadow.taps.add(tap);
  return () => {
    if (!shadow.taps.delete(tap) || shadow.taps.size > 0) return;
    active.delete(module);
    shadow.restore();
  };
}

function shadowForward(module: Module): Shadow {
  const taps = new Set<Tap>();
  const own = Object.getOwnPropertyDescriptor(module, "forward");
  const original = (module as unknown as { forward: Forward }).forward;
  const value: Forward = (...inputs) => {
    let output = original.apply(module, inputs);
    for (const tap of taps) output = tap(output, inputs);
    return output;
  };
  // Not enumerable: the fields that can be seen are the parameter tree.
  Object.defineProperty(module, "forward", { value, configurable: true, enumerable: false, writable: true });
  const restore = (): void => {
    delete (module as { forward?: unknown }).forward;
    if (own) Object.defineProperty(module, "forward", own);
  };
  return { taps, restore };
}

/** Modules with a `forward` that any of the globs names; throws TensorError when none does. */
function tapped(op: string, model: Module, globs: readonly string[]): [path: string, module: Module][] {
  const matches = anyGlob(globs);
  const found = [...namedModules(model)].filter(([path, m]) => matches(path) && typeof (m as { forward?: unknown }).forward === "function");
  if (found.length > 0) return found;
  const known = [...namedModules(model)].slice(1, 6).map(([path]) => path);
  throw new TensorError(op, `no module of ${classOf(model)} matches ${globs.join(", ")}; it has ${known.join(", ")}, …`);
}

function tapAll(modules: readonly [string, Module][], tap: (output: unknown, site: TapSite) => unknown): () => void {
  const removals = modules.map(([path, module]) => addTap(module, (output, inputs) => tap(output, { path, module, inputs })));
  return () => {
    for (const remove of removals) remove();
  };
}

/** Calls `see` with every output of the modules that `globs` name, until the result is called. */
export function tapOutputs(op: string, model: Module, globs: readonly string[], see: (output: unknown, path: string) => void): () => void {
  return tapAll(tapped(op, model, globs), (output, { path }) => {
    see(output, path);
    return output;
  });
}

/** What modules returned during a run; owns its tensors until it is disposed of. */
export class Captured<R> {
  /** What the captured function returned. */
  readonly result: R;
  /** By path, one entry per call, with the tensors replaced by handles of their own. */
  readonly calls: ReadonlyMap<string, readonly unknown[]>;
  constructor(result: R, calls: ReadonlyMap<string, readonly unknown[]>) {
    this.result = result;
    this.calls = calls;
  }
  /** The output of the last call of the module at `path`; throws TensorError when it was not captured. */
  output<T = Tensor>(path: string): T {
    const calls = this.calls.get(path);
    if (!calls)
      throw new TensorError("capture", `no output was captured at ${path}; captured were ${[...this.calls.keys()].join(", ") || "none"}`);
    return calls.at(-1) as T;
  }
  /**
   * Every captured tensor by name, as `saveTensors` takes them: the module's path, then the keys of what it returned ("double_blocks.0.img"), and
   * "@1", "@2" for its second and third call.
   */
  tensors(): Record<string, Tensor> {
    const named: Record<string, Tensor> = {};
    for (const [path, outputs] of this.calls)
      for (const [i, output] of outputs.entries())
        Object.assign(named, Object.fromEntries(namedTensors(output, i === 0 ? path : `${path}@${i}`)));
    return named;
  }
  /** Releases every captured tensor. */
  [Symbol.dispose](): void {
    release(this.calls);
  }
}

/**
 * Runs `fn` and keeps the outputs of all modules that `globs` name: "double_blocks.3.**", "**.attn". Whether `fn` is synchronous or returns
 * a promise, so does this. `using taps = capture(model, ["layers.*"], () => model.forward(x))`.
 */
export function capture<R>(model: Module, globs: readonly string[], fn: () => Promise<R>): Promise<Captured<R>>;
export function capture<R>(model: Module, globs: readonly string[], fn: () => R): Captured<R>;
export function capture<R>(model: Module, globs: readonly string[], fn: () => R | Promise<R>): Captured<R> | Promise<Captured<R>> {
  const calls = new Map<string, unknown[]>();
  const remove = tapOutputs("capture", model, globs, (output, path) => {
    calls.set(path, [...(calls.get(path) ?? []), handles(output)]);
  });
  const failed = (error: unknown): never => {
    release(calls);
    throw error;
  };
  return during(fn, remove, (result) => new Captured(result, calls), failed);
}

/** Runs `fn`, then `remove` in every case; passes a promise on as a promise. */
function during<R, T>(fn: () => R | Promise<R>, remove: () => void, done: (result: R) => T, failed: (e: unknown) => never): T | Promise<T> {
  let result: R | Promise<R>;
  try {
    result = fn();
  } catch (error) {
    remove();
    return failed(error);
  }
  if (!(result instanceof Promise)) {
    remove();
    return done(result);
  }
  return result.finally(remove).then(done, failed);
}

/** The same structure with a handle of its own for every tensor, owned by no scope. */
function handles(value: unknown): unknown {
  if (value === null || typeof value !== "object") return value;
  if ("isTensor" in value) return hold((value as Tensor).view_()).release();
  if (Array.isArray(value)) return value.map(handles);
  if (Object.getPrototypeOf(value) !== Object.prototype) return value;
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, handles(v)]));
}

/** The tensors in an output by name: nested keys follow the path. */
export function* namedTensors(value: unknown, path: string): Generator<[string, Tensor]> {
  if (value === null || typeof value !== "object") return;
  if ("isTensor" in value) yield [path, value as Tensor];
  else for (const [key, inner] of Object.entries(value)) yield* namedTensors(inner, `${path}.${key}`);
}

function release(calls: ReadonlyMap<string, readonly unknown[]>): void {
  for (const outputs of calls.values()) for (const t of tensorsIn(outputs)) t.dispose();
}

/** Takes a module's output and gives the one to use instead. */
export type Patch<T = Tensor> = (output: T, site: TapSite) => T;

/**
 * Replaces the output of all modules that `globs` name by what `fn` makes of it, until the result is disposed of:
 * `using _ = patch(model, ["layers.7"], (x) => x.mul(0.5))`. Several patches apply in the order they were set.
 */
export function patch<T = Tensor>(model: Module, globs: readonly string[], fn: Patch<T>): Disposable {
  const remove = tapAll(tapped("patch", model, globs), (output, site) => scope((() => fn(output as T, site) as object) as () => object));
  return { [Symbol.dispose]: remove };
}
