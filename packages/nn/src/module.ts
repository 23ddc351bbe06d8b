// A module is a class whose fields are its parameters and sub-modules; the path of field names from the root to a parameter
// is that parameter's name in the checkpoint. Nothing is registered. Private (#) fields are not part of the tree.
import type { Stage, Tensor } from "@wick/tensor";
import { Parameter } from "./parameter.ts";

/** A part of a model: its fields are its parameters and parts, and their names are the weights' names. */
export abstract class Module {
  /** The named parts of this module; containers whose children are numbered override it. */
  children(): Iterable<readonly [name: string, part: unknown]> {
    return Object.entries(this);
  }
  /**
   * Paths (globs) inside this module whose weights stay in their stored precision when a checkpoint is quantized on load,
   * because the released quantized files keep them too: embedders, modulation of the last layer. Models override it.
   */
  get highPrecision(): readonly string[] {
    return [];
  }
  /** What a module holds on its device beside parameters (adapters); `unload` releases it. */
  releaseExtras(): void {}
  /** Releases the data of all parameters; the module can be loaded again. */
  unload(): void {
    for (const [, m] of namedModules(this)) m.releaseExtras();
    for (const [, p] of namedParameters(this)) p.unload();
  }
  /** The same as `unload()`, for `using`. */
  [Symbol.dispose](): void {
    this.unload();
  }
}

/** The class of a module as its author wrote it: bundlers call a class that names itself `_RmsNorm`. */
export const classOf = (module: Module): string => module.constructor.name.replace(/^_(?=[A-Z])/, "");

function parts(part: unknown): Iterable<readonly [string, unknown]> {
  if (part instanceof Module) return part.children();
  if (Array.isArray(part)) return Object.entries(part);
  if (part && typeof part === "object" && Object.getPrototypeOf(part) === Object.prototype) return Object.entries(part);
  return [];
}

const join = (path: string, name: string): string => (path ? `${path}.${name}` : name);

/** Every module under `part` (itself included) with its path, parents before children. */
export function* namedModules(part: unknown, path = ""): Generator<[path: string, module: Module]> {
  if (part instanceof Module) yield [path, part];
  for (const [name, child] of parts(part)) yield* namedModules(child, join(path, name));
}

/** Every parameter under `part` with its path: the checkpoint's name. A parameter that appears twice is named at its first place. */
export function* namedParameters(part: unknown): Generator<[path: string, parameter: Parameter]> {
  for (const { path, aliasOf, parameter } of parameterSites(part)) if (aliasOf === undefined) yield [path, parameter];
}

/** One place where a parameter stands in a tree. */
export interface ParameterSite {
  /** Names of the fields from the model down, joined by dots. */
  readonly path: string;
  /** The parameter at this place. */
  readonly parameter: Parameter;
  /** The innermost module around it. */
  readonly owner: Module | undefined;
  /** The first path of the same parameter, when this is not the first (tied weights). */
  readonly aliasOf: string | undefined;
}

/** Every place of every parameter, tied ones included. */
export function* parameterSites(part: unknown): Generator<ParameterSite> {
  yield* walk(part, "", undefined, new Map());
}

function* walk(part: unknown, path: string, owner: Module | undefined, seen: Map<Parameter, string>): Generator<ParameterSite> {
  if (part instanceof Parameter) {
    yield { path, parameter: part, owner, aliasOf: seen.get(part) };
    if (!seen.has(part)) seen.set(part, path);
    return;
  }
  const inner = part instanceof Module ? part : owner;
  for (const [name, child] of parts(part)) yield* walk(child, join(path, name), inner, seen);
}

/** Stages named 0, 1, 2, …; plain functions hold no parameters but keep their number, as torch's nn.Sequential. */
export class Sequential extends Module {
  readonly #stages: readonly Stage[];
  constructor(stages: readonly Stage[]) {
    super();
    this.#stages = stages;
  }
  /** In the order they run. */
  get stages(): readonly Stage[] {
    return this.#stages;
  }
  override children(): Iterable<readonly [string, unknown]> {
    return Object.entries(this.#stages);
  }
  /** x → through all stages, in order */
  forward(x: Tensor): Tensor {
    return x.pipe(...this.#stages);
  }
}
/** A Sequential of these stages, named 0, 1, … as in PyTorch. */
export const sequential = (...stages: Stage[]): Sequential => new Sequential(stages);

/** `n` modules named 0…n-1. */
export const repeat = <M>(n: number, make: (index: number) => M): readonly M[] => Array.from({ length: n }, (_, i) => make(i));
